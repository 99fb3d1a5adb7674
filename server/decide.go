package server

import (
	"context"
	"errors"
	"slices"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/flock"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/queue"
	"edeploy/server/internal/refusal"
)

// decision is a decision about a machine, see package allocation.
type decision func(*allocation.Snapshot) (allocation.Outcome, allocation.Changes, error)

// With what others a decision may go.
const (
	together = false // with all that wait at the same time
	alone    = true
)

// decide makes a decision in its turn; when it is answered, its changes are on
// the disk and its lines in the machine's history. It holds the lock files of
// the sections.
func (s *Server) decide(ctx context.Context, decision decision, alone bool, sections ...string) (allocation.Outcome, error) {
	var out allocation.Outcome
	d := queue.Decision[*allocation.Snapshot]{Locks: sections, Alone: alone}
	d.Decide = func(snapshot *allocation.Snapshot) error {
		var c allocation.Changes
		var err error
		if out, c, err = decision(snapshot); err == nil {
			snapshot.Apply(c)
		}
		return err
	}
	err := s.queue.Do(ctx, d)
	s.late.Note(out.Notes)
	if err == nil && out.Record.ID != "" && len(out.Lines) > 0 {
		s.activity.Record(ctx, out.Record, out.Lines)
	}
	return out, err
}

// documentsOf is what the queue reads and writes.
func (s *Server) documentsOf() queue.Documents[*allocation.Snapshot] {
	return queue.Documents[*allocation.Snapshot]{
		Lock:      s.lockFiles,
		Snapshot:  s.snapshot,
		Commit:    s.commit,
		Committed: s.committed,
		Unwritten: func(err error) { s.late.Add("", "Documents cannot be written: %v", err) },
	}
}

func (s *Server) snapshot() *allocation.Snapshot {
	return allocation.NewSnapshot(s.site, s.config.Now(), s.records.Book(), s.documents)
}

func (s *Server) commit(snapshot *allocation.Snapshot) error {
	others, err := snapshot.ChangedDocuments()
	if err != nil {
		return err
	}
	return s.records.Commit(snapshot.Book, snapshot.ChangedRecords(), others)
}

func (s *Server) committed(snapshot *allocation.Snapshot) {
	s.late.Note(snapshot.Keep())
	for _, id := range snapshot.Lost() {
		s.dropProgress(id)
		if err := s.history.Remove(id); err != nil {
			s.late.Add("", "%v", err)
		}
	}
}

// dropProgress forgets what a machine was doing.
func (s *Server) dropProgress(id string) {
	s.activity.Forget(id)
	s.explanations.finish(id)
}

// named finds the machine that an operator means.
func (s *Server) named(word string) (machine.Record, error) {
	return allocation.Named(s.records.Book(), word)
}

func (s *Server) allSections() []string {
	var all []string
	for name := range s.deployments {
		all = append(all, name)
	}
	return all
}

// lockFiles takes the lock files of the sections, always in the same order.
func (s *Server) lockFiles(ctx context.Context, sections []string) (release func(), err error) {
	var paths []string
	for _, name := range sections {
		if d := s.deployments[name]; d != nil {
			paths = append(paths, d.LockFile)
		}
	}
	slices.Sort(paths)
	var held []*flock.Lock
	release = func() {
		for _, l := range held {
			if err := l.Release(); err != nil {
				s.config.Log.Error("release lock file", "error", err)
			}
		}
	}
	for _, path := range slices.Compact(paths) {
		l, err := flock.Take(ctx, path)
		switch {
		case err == nil:
			held = append(held, l)
			continue
		case errors.Is(err, flock.ErrHeld):
			err = refusal.New(refusal.Busy, "the server is busy: %v", err)
		default:
			err = refusal.New(refusal.Broken, "nothing can be allocated: %v", err)
		}
		release()
		return nil, err
	}
	return release, nil
}
