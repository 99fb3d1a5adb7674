package machine

// Doors for the tables of the decisions.
var (
	GenuineSerial = genuineSerial
	GenuineUUID   = genuineUUID
	GenuineMACs   = genuineMACs
)
