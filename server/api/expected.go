package api

import "time"

// Expected is what the operator has said about a machine before it came.
type Expected struct {
	Name string    `json:"name,omitempty"`
	Rack string    `json:"rack,omitempty"`
	Unit string    `json:"unit,omitempty"` // of the rack
	Came time.Time `json:"came,omitzero"`  // when it was first heard of; none: it has not come yet
}

// Place is where it stands, such as "rack R1 unit 12"; "": nobody said.
func (e *Expected) Place() string {
	switch {
	case e == nil || e.Rack == "" && e.Unit == "":
		return ""
	case e.Unit == "":
		return "rack " + e.Rack
	case e.Rack == "":
		return "unit " + e.Unit
	}
	return "rack " + e.Rack + " unit " + e.Unit
}

// Imported says what became of a list of machines.
type Imported struct {
	Added     int `json:"added"`     // have not come yet
	Changed   int `json:"changed"`   // were known
	Unchanged int `json:"unchanged"` // were known so
}
