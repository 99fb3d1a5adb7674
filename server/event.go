package server

import (
	"context"
	"iter"
	"time"
)

// Event is something that happened to a machine.
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
	s.events.Append(e)
}

// maxEvents is how many events are kept for readers that are slower.
const maxEvents = 1000

// Events are those after the one with this number, each with its own number; 0:
// from the first one. They come as they happen, until ctx ends. Nobody waits
// for a slow reader: of more than the last 1000 it misses the oldest, as their
// numbers show.
func (s *Server) Events(ctx context.Context, after uint64) iter.Seq2[uint64, Event] {
	return s.events.After(ctx, after)
}
