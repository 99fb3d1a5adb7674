package server

import (
	"cmp"
	"time"

	"edeploy/server/internal/literal"
	"edeploy/server/internal/machine"
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

// displayName is what an operator calls the machine: the host name of its
// CMDB entry, or of the last one it held, else what is written on it.
func displayName(r machine.Record) string {
	if r.Allocation != nil {
		if name := hostname(r.Allocation.Var); name != "" {
			return name
		}
	}
	return cmp.Or(r.Host, r.Name, r.ID)
}

// hostname is the variable of that name.
func hostname(vars string) string {
	doc, err := literal.Parse("variables", vars)
	if err != nil {
		return "" // the record was edited; the name is only for show
	}
	dict, ok := doc.Node.Value.(*literal.Dict)
	if !ok {
		return ""
	}
	name, _ := dict.Get("hostname")
	text, _ := name.(string)
	return text
}
