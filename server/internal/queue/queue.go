// Package queue makes decisions that change documents, one after the other, and
// writes those that wait at the same time together: one snapshot, one commit.
//
// A decision reads the snapshot and changes it; each sees what those before it
// have changed. When a document was edited between reading and writing, all
// are made again on a new snapshot; when they are too large for one commit, by
// halves. A decision's defect hits that decision alone.
package queue

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
)

const (
	maxGroup = 256 // decisions that are written at once
	// maxTries bounds how often a decision is made anew because somebody
	// edited a file between its reading and its writing.
	maxTries = 5
)

// Documents is what a queue reads and writes. One goroutine calls its functions.
type Documents[S any] struct {
	Lock      func(ctx context.Context, keys []string) (release func(), err error) // against other processes
	Snapshot  func() S
	Commit    func(S) error // all of the snapshot's changes or none; store.ErrConflict: decide again; store.ErrTooLarge: fewer together
	Committed func(S)       // its changes are on the disk
	Unwritten func(error)   // they could not be written
}

// Decision is one that waits.
type Decision[S any] struct {
	Decide func(S) error // may be asked several times, each time with a new snapshot
	Locks  []string      // keys of the locks that it needs
	Alone  bool          // it goes with no other
}

// Queue is that of one process.
type Queue[S any] struct {
	documents Documents[S]
	wait      time.Duration
	log       *slog.Logger
	mu        sync.Mutex
	waiting   []*entry[S]
	came      chan struct{} // something waits
	closing   chan struct{}
	ended     chan struct{}
}

// entry is a decision in the queue.
type entry[S any] struct {
	Decision[S]
	done     chan struct{}
	err      error // when done
	panicked any   // when done
}

// New starts a queue. A decision waits for its turn, and a group for its locks,
// as long as wait says.
func New[S any](documents Documents[S], wait time.Duration, log *slog.Logger) *Queue[S] {
	q := &Queue[S]{documents: documents, wait: wait, log: log,
		came: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{})}
	go q.run()
	return q
}

// Close waits for the group that is being written. Later decisions are refused.
func (q *Queue[S]) Close() {
	close(q.closing)
	<-q.ended
}

func (q *Queue[S]) run() {
	defer close(q.ended)
	for {
		select {
		case <-q.closing:
			return
		case <-q.came:
		}
		for group := q.next(); len(group) > 0; group = q.next() {
			q.runGroup(group)
		}
	}
}

// Do waits until the decision is made and on the disk. It answers the
// decision's error, or panics as the decision did.
func (q *Queue[S]) Do(ctx context.Context, d Decision[S]) error {
	d.Locks = slices.Compact(slices.Sorted(slices.Values(d.Locks)))
	e := &entry[S]{Decision: d, done: make(chan struct{})}
	q.add(e)
	ctx, cancel := context.WithTimeout(ctx, q.wait)
	defer cancel()
	var busy error
	select {
	case <-e.done:
	case <-q.closing:
		busy = refusal.New(refusal.Busy, "the server is being stopped: ask again")
	case <-ctx.Done():
		busy = refusal.New(refusal.Busy, "the server is busy: no turn within %s", q.wait)
	}
	if busy != nil && q.remove(e) {
		return busy
	}
	<-e.done
	if e.panicked != nil {
		panic(e.panicked)
	}
	return e.err
}

// Waiting is the number of decisions that wait.
func (q *Queue[S]) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (q *Queue[S]) add(e *entry[S]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, e)
	select {
	case q.came <- struct{}{}:
	default:
	}
}

// remove takes a decision out; false: it is being made, or is made.
func (q *Queue[S]) remove(e *entry[S]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, e)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// next takes out what goes next: the decision that has waited longest, with all
// that can go with it, because they need the same locks. None overtakes one
// that goes alone. When the queue is closed, nothing goes.
func (q *Queue[S]) next() []*entry[S] {
	select {
	case <-q.closing:
		return nil
	default:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	var group, rest []*entry[S]
	for i, e := range q.waiting {
		if len(group) > 0 && (e.Alone || group[0].Alone || len(group) == maxGroup) {
			rest = append(rest, q.waiting[i:]...)
			break
		}
		if len(group) == 0 || slices.Equal(e.Locks, group[0].Locks) {
			group = append(group, e)
		} else {
			rest = append(rest, e)
		}
	}
	q.waiting = rest
	return group
}

// runGroup makes and writes the decisions of a group, and tells those who wait.
func (q *Queue[S]) runGroup(group []*entry[S]) {
	defer func() {
		for _, e := range group {
			close(e.done)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), q.wait)
	defer cancel()
	release, err := q.documents.Lock(ctx, group[0].Locks)
	if err != nil {
		for _, e := range group {
			e.err = err
		}
		return
	}
	defer release()
	q.commit(group)
}

// commit makes and writes the decisions of a group. When they are too large for
// one commit, each half is made and written by itself; when a defect keeps the
// group from being written, each decision is, and the defect hits only the one
// that it is in.
func (q *Queue[S]) commit(group []*entry[S]) {
	whole := true
	defect := q.guard(func() { whole = q.attempt(group) })
	switch {
	case defect != nil && len(group) == 1:
		group[0].panicked = defect
	case defect != nil:
		for i := range group {
			q.commit(group[i : i+1])
		}
	case !whole:
		q.commit(group[:len(group)/2])
		q.commit(group[len(group)/2:])
	}
}

// attempt makes and writes until nobody interferes. false: nothing is written,
// because the decisions are too large together.
func (q *Queue[S]) attempt(group []*entry[S]) bool {
	for try := 1; ; try++ {
		snapshot := q.documents.Snapshot()
		for _, e := range group {
			e.panicked = q.guard(func() { e.err = e.Decide(snapshot) })
		}
		err := q.documents.Commit(snapshot)
		if err == nil {
			// It is on the disk by now: a defect must not undo the answers.
			q.guard(func() { q.documents.Committed(snapshot) })
			return true
		}
		if errors.Is(err, store.ErrConflict) && try < maxTries {
			continue
		}
		if errors.Is(err, store.ErrTooLarge) && len(group) > 1 {
			return false
		}
		q.documents.Unwritten(err)
		for _, e := range group {
			if e.err == nil {
				e.err = unwritten(err)
			}
		}
		return true
	}
}

// unwritten is the refusal that an error of the store makes.
func unwritten(err error) error {
	if errors.Is(err, store.ErrTooLarge) {
		return refusal.New(refusal.TooLarge, "the change cannot be written: %v: make it in parts, or its files smaller", err)
	}
	return refusal.New(refusal.Unwritable(err), "the change cannot be written: %v", err)
}

// guard calls a function and answers what it panicked with.
func (q *Queue[S]) guard(call func()) (defect any) {
	defer func() {
		if defect = recover(); defect != nil {
			q.log.Error("defect", "panic", defect, "stack", string(debug.Stack()))
		}
	}()
	call()
	return nil
}
