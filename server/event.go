package server

import (
	"context"
	"iter"

	"edeploy/server/api"
)

func (s *Server) tell(e api.Event) {
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
func (s *Server) Events(ctx context.Context, after uint64) iter.Seq2[uint64, api.Event] {
	return s.events.After(ctx, after)
}
