package server

import (
	"time"
)

// Event is something that happened to a machine, for the appliance's console.
type Event struct {
	Time           time.Time
	Machine        string // id, "" when the machine is not known yet
	Name           string // host name, else sysname, else MAC address
	Step           string // a wire.Step, or boot, match
	Status         string // a wire.Status, or note
	Message        string
	Seconds        float64
	Percent        float64
	BytesPerSecond float64
}

func (s *Server) tell(e Event) {
	level := s.config.Log.Debug
	if e.Status == "failed" || e.Status == "installed" || e.Step == "match" {
		level = s.config.Log.Info
	}
	level("machine", "machine", e.Machine, "name", e.Name, "step", e.Step, "status", e.Status, "message", e.Message)
	if s.config.OnEvent != nil {
		s.config.OnEvent(e)
	}
}
