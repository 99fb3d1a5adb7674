package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"

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

// NewInMemory is New with documents that are in memory, and nowhere else: files
// that are in the directories of its collections move there. The step is as
// that of NewSteps, before every commit.
func NewInMemory(config Config, memory *store.Memory, step func(string) error) (*Server, error) {
	return newServer(config, func(_ string, collections map[string]string) (store.Store, store.Recovery, error) {
		for collection, dir := range collections {
			if err := move(memory, collection, dir); err != nil {
				return nil, store.Recovery{}, err
			}
		}
		return steps{memory, step}, store.Recovery{Outcome: store.Nothing}, nil
	})
}

func move(memory *store.Memory, collection, dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if sent := filepath.Ext(path); err != nil || !e.Type().IsRegular() || sent == ".hw" || sent == ".gz" {
			continue
		}
		var text []byte
		if text, err = os.ReadFile(path); err == nil {
			err = errors.Join(memory.Commit(store.Change{Name: collection + "/" + e.Name(), Text: text}), os.Remove(path))
		}
	}
	return err
}

// steps calls step before every commit.
type steps struct {
	*store.Memory
	step func(string) error
}

func (s steps) Commit(changes ...store.Change) error {
	what := "write journal"
	if len(changes) == 1 {
		what = "write " + changes[0].Name
	}
	if len(changes) > 0 {
		if err := s.step(what); err != nil {
			return err
		}
	}
	return s.Memory.Commit(changes...)
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
