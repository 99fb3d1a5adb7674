package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	ctx, cancel := context.WithTimeout(ctx, s.config.Limits.Wait)
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-s.closing:
		return refuse(errBusy, "the server is being stopped: ask again")
	case <-ctx.Done():
		return refuse(errBusy, "the server is busy: no turn within %s", s.config.Limits.Wait)
	}
	release, err := s.lockFiles(ctx, sections)
	if err != nil {
		return err
	}
	defer release()
	return s.commitDecision(decide)
}

func (s *Server) commitDecision(decide func() (change, error)) error {
	for try := 1; ; try++ {
		c, err := decide()
		if err != nil {
			return err
		}
		err = s.machines.commit(c)
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) || try == maxTries {
			s.problem("", "Documents cannot be written: %v", err)
			return refuse(errBroken, "the change cannot be written: %v", err)
		}
	}
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
	errInput    = errors.New("bad input")
	errNoMatch  = errors.New("nothing fits")
	errConflict = errors.New("not now, not so")
	errUnusable = errors.New("cannot be worked with")
	errBroken   = errors.New("the configuration is broken")
	errBusy     = errors.New("busy")
	errTooLarge = errors.New("too large")
	errNoFile   = errors.New("no such file")
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
