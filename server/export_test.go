package server

import (
	"context"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/store"
	"edeploy/server/internal/transaction"
)

// NewSteps is New with a function that is called before every change of the
// documents' file system; its error stops the work there for ever, as a power
// cut would.
func NewSteps(config Config, step func(string) error) (*Server, error) {
	return newServer(config, func(journal string, collections map[string]string) (store.Store, store.Recovery, error) {
		return store.OpenDirSteps(journal, collections, step)
	})
}

// Waiting is the number of decisions that wait for their turn.
func (s *Server) Waiting() int { return s.queue.Waiting() }

// Fail makes a decision that has a defect: it panics itself, or what it leaves
// panics when it is written. The answer is what its caller gets to see.
func (s *Server) Fail(when string) (panicked any) {
	defer func() { panicked = recover() }()
	_, _ = s.queue.Decide(context.Background(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		if when == "deciding" {
			panic("a defect when deciding")
		}
		snapshot.Apply(allocation.Changes{Removed: []string{"none"}})
		snapshot.Machines = nil
		return allocation.Outcome{}, allocation.Changes{}, nil
	}, transaction.Together, "SERVER")
	return nil
}
