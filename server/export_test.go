package server

import (
	"context"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/queue"
	"edeploy/server/internal/store"
)

// NewSteps is New with a function that is called before every change of the
// documents' file system; its error stops the work there for ever, as a power
// cut would.
func NewSteps(config Config, step func(string) error) (*Server, error) {
	return newServer(config, func(journal string, collections map[string]string) (*store.Dir, store.Recovery, error) {
		return store.OpenDirSteps(journal, collections, step)
	})
}

// Waiting is the number of decisions that wait for their turn.
func (s *Server) Waiting() int { return s.queue.Waiting() }

// Fail makes a decision that has a defect: it panics itself, or what it leaves
// panics when it is written. The answer is what its caller gets to see.
func (s *Server) Fail(when string) (panicked any) {
	defer func() { panicked = recover() }()
	_ = s.queue.Do(context.Background(), queue.Decision[*allocation.Snapshot]{Locks: []string{"SERVER"}, Decide: func(snapshot *allocation.Snapshot) error {
		if when == "deciding" {
			panic("a defect when deciding")
		}
		snapshot.Apply(allocation.Changes{Removed: []string{"none"}})
		snapshot.Book = nil
		return nil
	}})
	return nil
}

// MaxUntoldBytes is the room for explanations that wait.
const MaxUntoldBytes = maxUntoldBytes

// Explanations wait to be written; each call answers which it has written, as
// "machine section".
type Explanations struct {
	e       *explanations
	written []string
}

func NewExplanations() *Explanations {
	x := new(Explanations)
	x.e = newExplanations(func(id string, u untold) { x.written = append(x.written, id+" "+u.Section) })
	return x
}

func (x *Explanations) Add(id, section string, bytes int) []string {
	x.e.add(id, untold{Explanation: api.Explanation{Section: section}}, bytes)
	return x.take()
}

func (x *Explanations) FinishAll(pause bool) []string {
	x.e.finishAll(func() bool { return pause })
	return x.take()
}

func (x *Explanations) take() []string {
	written := x.written
	x.written = nil
	return written
}
