// Package retry is how the agent waits for a server that is away: with
// pauses that double, until something good happens or the time is over.
package retry

import (
	"cmp"
	"context"
	"time"
)

// Policy is how to wait. Zero fields have the defaults named beside them.
type Policy struct {
	First   time.Duration // the first pause; default 1 s, doubled each time
	Longest time.Duration // default 10 s
	Limit   time.Duration // give up after so long without anything good; default 1 h
}

// Wait is one wait under way.
type Wait struct {
	p     Policy
	pause time.Duration
	since time.Time
}

// Start begins to wait now.
func (p Policy) Start() *Wait {
	w := &Wait{p: Policy{
		First: cmp.Or(p.First, time.Second), Longest: cmp.Or(p.Longest, 10*time.Second), Limit: cmp.Or(p.Limit, time.Hour),
	}}
	w.Reset()
	return w
}

// Reset says that something good happened: the wait begins again.
func (w *Wait) Reset() { w.pause, w.since = w.p.First, time.Now() }

// Next answers how long to pause now, and how long nothing good happened. It
// answers false when the pause would end after the limit.
func (w *Wait) Next() (pause, without time.Duration, ok bool) {
	pause, without = w.pause, time.Since(w.since)
	w.pause = min(2*w.pause, w.p.Longest)
	return pause, without, without+pause <= w.p.Limit
}

// Sleep pauses, or returns the cause when ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
