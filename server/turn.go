package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"syscall"

	"edeploy/server/internal/flock"
	"edeploy/server/internal/store"
)

// maxTries bounds how often a decision is made anew because somebody edited a
// file between its reading and its writing.
const maxTries = 5

// inTurn runs decide while nobody else changes documents: inside this process
// by the turn, against other processes by the lock files of the sections. What
// decide answers is committed; when a file was edited meanwhile, decide is
// asked again.
func (s *Server) inTurn(ctx context.Context, decide func() (change, error), sections ...string) error {
	return s.await(ctx, &errand{alone: true, sections: normal(sections), decide: func(d *draft) error {
		c, err := decide()
		if err == nil {
			d.add(c)
		}
		return err
	}})
}

// together is inTurn for a decision that goes with others: those that wait at
// the same time are made one after the other and written to the disk at once.
// It is answered when it is there.
func (s *Server) together(ctx context.Context, decide func(*draft) error, sections ...string) error {
	return s.await(ctx, &errand{sections: normal(sections), decide: decide})
}

func normal(sections []string) []string {
	sections = slices.Clone(sections)
	slices.Sort(sections)
	return slices.Compact(sections)
}

// errand is a decision that waits for its turn.
type errand struct {
	sections []string           // whose lock files it needs, sorted
	alone    bool               // it goes with no other
	decide   func(*draft) error // may be asked several times
	done     chan struct{}
	err      error // when done
	panicked any   // when done
}

// await waits until the errand is done. Who gets the turn meanwhile does what
// is waiting, for itself and for others.
func (s *Server) await(ctx context.Context, e *errand) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.Limits.Wait)
	defer cancel()
	e.done = make(chan struct{})
	s.queue.add(e)
	for {
		var busy error
		select {
		case <-e.done:
			return e.outcome()
		case s.turn <- struct{}{}:
			s.takeTurn()
			continue
		case <-s.closing:
			busy = refuse(errBusy, "the server is being stopped: ask again")
		case <-ctx.Done():
			busy = refuse(errBusy, "the server is busy: no turn within %s", s.config.Limits.Wait)
		}
		if s.queue.remove(e) {
			return busy
		}
		<-e.done // somebody is at it
		return e.outcome()
	}
}

// takeTurn does what waits longest and gives the turn back.
func (s *Server) takeTurn() {
	defer func() { <-s.turn }()
	s.runErrands(s.queue.next())
}

func (e *errand) outcome() error {
	if e.panicked != nil {
		panic(e.panicked)
	}
	return e.err
}

// runErrands does a group and tells those who wait for it.
func (s *Server) runErrands(group []*errand) {
	if len(group) == 0 {
		return
	}
	defer func() {
		for _, e := range group {
			close(e.done)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Limits.Wait)
	defer cancel()
	release, err := s.lockFiles(ctx, group[0].sections)
	if err != nil {
		for _, e := range group {
			e.err = err
		}
		return
	}
	defer release()
	s.decideAndCommit(group)
}

// decideAndCommit makes the decisions of a group and writes them. When a
// defect keeps the group from being written, each is made and written alone, so
// that it hits only the decision that it is in.
func (s *Server) decideAndCommit(group []*errand) {
	defect := s.commitGroup(group)
	switch {
	case defect == nil:
	case len(group) == 1:
		group[0].panicked = defect
	default:
		for _, e := range group {
			s.decideAndCommit([]*errand{e})
		}
	}
}

// commitGroup does it; it answers what panicked outside of the decisions
// themselves. Then nothing was written, or as much as the journal will finish.
func (s *Server) commitGroup(group []*errand) (defect any) {
	defer func() {
		if defect = recover(); defect == nil {
			return
		}
		s.config.Log.Error("defect", "decisions", len(group), "panic", defect, "stack", string(debug.Stack()))
		if err := s.machines.load(); err != nil { // what the decisions have drafted is void
			s.problem("", "%v", err)
		}
	}()
	for try := 1; ; try++ {
		d := newDraft(s)
		for _, e := range group {
			e.run(s, d)
		}
		err := s.write(d)
		if err == nil {
			s.keep(d)
			return nil
		}
		if errors.Is(err, store.ErrConflict) && try < maxTries { // a file was edited meanwhile
			continue
		}
		s.problem("", "Documents cannot be written: %v", err)
		for _, e := range group {
			if e.err == nil {
				e.err = refuse(unwritable(err), "the change cannot be written: %v", err)
			}
		}
		return nil
	}
}

// unwritable is the kind of a refusal because of an error of the file system.
// Room may be made at any time: whoever asks again may get it.
func unwritable(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errNoSpace
	}
	return errBroken
}

// write commits what the decisions have made.
func (s *Server) write(d *draft) error {
	c, err := d.change()
	if err != nil {
		return errors.Join(err, s.machines.load())
	}
	return s.machines.commit(c)
}

// keep tells the directories what was written. It is on the disk by now, so a
// defect here must not undo the answers.
func (s *Server) keep(d *draft) {
	defer func() {
		if defect := recover(); defect != nil {
			s.config.Log.Error("defect", "panic", defect, "stack", string(debug.Stack()))
		}
	}()
	d.kept()
}

// run makes the decision. Its defect is its own and not that of the others.
func (e *errand) run(s *Server, d *draft) {
	defer func() {
		if e.panicked = recover(); e.panicked != nil {
			s.config.Log.Error("defect", "panic", e.panicked, "stack", string(debug.Stack()))
		}
	}()
	e.err = e.decide(d)
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
		if err != nil {
			release()
			return nil, refuseLock(err)
		}
		held = append(held, l)
	}
	return release, nil
}

func refuseLock(err error) error {
	if errors.Is(err, flock.ErrHeld) {
		return refuse(errBusy, "the server is busy: %v", err)
	}
	return refuse(errBroken, "nothing can be allocated: %v", err)
}

// Kinds of refusals. Each has an HTTP status (see statusOf).
var (
	errInput     = errors.New("bad input")
	errNoMatch   = errors.New("nothing fits")
	errConflict  = errors.New("not now, not so")
	errUnusable  = errors.New("cannot be worked with")
	errForbidden = errors.New("not allowed")
	errBroken    = errors.New("the configuration is broken")
	errBusy      = errors.New("busy")
	errTooLarge  = errors.New("too large")
	errNoFile    = errors.New("no such file")
	errNoSpace   = errors.New("no room on the disk")
	// errPrecondition: a file is not the version that the operator has seen.
	errPrecondition = errors.New("another version")
)

// refusal is an answer that carries no configuration: one clear sentence,
// perhaps with a list under it, for the console of the machine.
type refusal struct {
	kind    error
	message string
}

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.message }
func (r *refusal) Unwrap() error { return r.kind }
