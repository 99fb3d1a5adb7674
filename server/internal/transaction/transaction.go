// Package transaction makes decisions about machines in turn: each on all
// documents as those before it leave them. What it changes is on the disk when
// it is answered.
package transaction

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"edeploy/server/internal/activity"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/explanation"
	"edeploy/server/internal/flock"
	"edeploy/server/internal/problems"
	"edeploy/server/internal/queue"
	"edeploy/server/internal/records"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
)

// Queue makes decisions. Its fields are what they read and change, and those
// that hear of it; they are set before Start.
type Queue struct {
	Site         *allocation.Site
	Records      *records.Records
	Store        store.Store // with the configuration directories
	Explanations *explanation.Explanations
	Activity     *activity.Activity
	Late         *problems.List
	Now          func() time.Time
	Log          *slog.Logger
	queue        *queue.Queue[*allocation.Snapshot]
	stop         func() // ends following
	following    sync.WaitGroup
}

// Start starts the queue; a decision waits so long for its turn, and for its
// lock files.
func (q *Queue) Start(wait time.Duration) {
	q.queue = queue.New(queue.Documents[*allocation.Snapshot]{
		Lock:      q.lock,
		Snapshot:  q.Snapshot,
		Commit:    q.commit,
		Committed: q.committed,
		Unwritten: func(err error) { q.Late.Add("", "Documents cannot be written: %v", err) },
	}, wait, q.Log)
	ctx, stop := context.WithCancel(context.Background())
	q.stop = stop
	q.following.Go(func() { q.follow(ctx) })
}

// follow takes in what other servers with the same documents make of records.
func (q *Queue) follow(ctx context.Context) {
	err := q.Records.Follow(ctx, func(read func()) error {
		return q.queue.Do(ctx, queue.Decision[*allocation.Snapshot]{Alone: true, Decide: func(*allocation.Snapshot) error {
			read()
			return nil
		}})
	})
	if err != nil {
		q.Late.Add("", "%v", err)
	}
}

// Close waits for what is being written. Later decisions are refused.
func (q *Queue) Close() error {
	q.stop()
	q.queue.Close()
	q.following.Wait()
	return nil
}

// Waiting is the number of decisions that wait for their turn.
func (q *Queue) Waiting() int { return q.queue.Waiting() }

// Decision is a decision about a machine, see package allocation.
type Decision func(*allocation.Snapshot) (allocation.Outcome, allocation.Changes, error)

// With what others a decision may go.
const (
	Together = false // with all that wait at the same time
	Alone    = true
)

// Decide makes a decision in its turn, while it holds the lock files of the
// sections. When it is answered, its changes are on the disk and its lines in
// the machine's history.
func (q *Queue) Decide(ctx context.Context, decision Decision, alone bool, sections ...string) (out allocation.Outcome, err error) {
	d := queue.Decision[*allocation.Snapshot]{Locks: sections, Alone: alone}
	d.Decide = func(snapshot *allocation.Snapshot) error {
		var c allocation.Changes
		var err error
		if out, c, err = decision(snapshot); err == nil {
			snapshot.Apply(c)
		}
		return err
	}
	err = q.queue.Do(ctx, d)
	q.Late.Note(out.Notes)
	if err == nil && out.Record.ID != "" && len(out.Lines) > 0 {
		q.Activity.Record(ctx, out.Record, out.Lines)
	}
	return out, err
}

// Snapshot is all documents as they are now, for a decision that changes
// nothing.
func (q *Queue) Snapshot() *allocation.Snapshot {
	return allocation.NewSnapshot(q.Site, q.Now(), q.Records.Index(), q.Store)
}

func (q *Queue) commit(snapshot *allocation.Snapshot) error {
	others, err := snapshot.ChangedDocuments()
	if err != nil {
		return err
	}
	return q.Records.Commit(snapshot.Machines, snapshot.ChangedRecords(), others)
}

func (q *Queue) committed(snapshot *allocation.Snapshot) {
	q.Late.Note(snapshot.Keep())
	for _, id := range snapshot.Lost() {
		q.Activity.Forget(id)
		if err := errors.Join(q.Explanations.Forget(id), q.Activity.History.Remove(id)); err != nil {
			q.Late.Add("", "%v", err)
		}
	}
}

// lock takes the lock files of the sections, always in the same order.
func (q *Queue) lock(ctx context.Context, sections []string) (release func(), err error) {
	var paths []string
	for _, name := range sections {
		if d := q.Site.Deployments[name]; d != nil {
			paths = append(paths, d.LockFile)
		}
	}
	slices.Sort(paths)
	var held []*flock.Lock
	release = func() {
		for _, l := range held {
			if err := l.Release(); err != nil {
				q.Log.Error("release lock file", "error", err)
			}
		}
	}
	for _, path := range slices.Compact(paths) {
		l, err := flock.Take(ctx, path)
		if errors.Is(err, flock.ErrHeld) {
			release()
			return nil, refusal.New(refusal.Busy, "the server is busy: %v", err)
		}
		if err != nil {
			release()
			return nil, refusal.New(refusal.Broken, "nothing can be allocated: %v", err)
		}
		held = append(held, l)
	}
	return release, nil
}
