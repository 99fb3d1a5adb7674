package server

import (
	"context"
	"iter"
	"log/slog"

	"edeploy/server/api"
	"edeploy/server/internal/history"
)

// subscribe starts those that take every event until stop is called, and then
// those that are left: the histories and the log.
func (s *Server) subscribe(dir *history.Dir) {
	ctx, stop := context.WithCancel(context.Background())
	s.unsubscribe = stop
	s.history = history.NewKeeper(dir, s.events, s.macsOf, func(id string, err error) {
		r, _ := s.records.Book().Get(id)
		s.problem(r.Section, "%v", err)
	})
	s.writers.Go(func() { s.history.Run(ctx) })
	s.writers.Go(func() { s.logEvents(ctx) })
}

func (s *Server) macsOf(id string) []string {
	r, _ := s.records.Book().Get(id)
	return r.MACs
}

func (s *Server) logEvents(ctx context.Context) {
	for _, e := range s.events.After(ctx, 0) {
		level := slog.LevelDebug
		if e.Status == "failed" || e.Status == "installed" || e.Step == "match" {
			level = slog.LevelInfo
		}
		s.config.Log.Log(ctx, level, "machine", "machine", e.Machine, "name", e.Name, "step", e.Step, "status", e.Status, "message", e.Message)
	}
}

// maxEvents is how many events are kept for readers that are slower.
const maxEvents = 4000

// Events are those after the one with this number, each with its own number; 0:
// from the first one. They come as they happen, until ctx ends. Nobody waits
// for a slow reader: of more than the last 4000 it misses the oldest, as their
// numbers show.
func (s *Server) Events(ctx context.Context, after uint64) iter.Seq2[uint64, api.Event] {
	return s.events.After(ctx, after)
}
