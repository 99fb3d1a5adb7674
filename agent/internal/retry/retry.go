// Package retry is how the agent waits for a server that is away: with pauses
// that double, until something comes or the time is over.
package retry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Policy is how to wait. Zero fields have the defaults named beside them.
type Policy struct {
	First   time.Duration // the first pause; default 1 s, doubled each time
	Longest time.Duration // default 10 s
	Limit   time.Duration // give up after so long without anything; default 1 h
	Lacking string        // what does not come; default "answer"

	// Tell is told before each pause why there is one, and how long nothing came.
	Tell func(cause error, pause, without time.Duration)
}

// Wait is one wait under way.
type Wait struct {
	p     Policy
	pause time.Duration
	since time.Time
}

// Start begins to wait now.
func (p Policy) Start() *Wait {
	p.First, p.Longest = cmp.Or(p.First, time.Second), cmp.Or(p.Longest, 10*time.Second)
	p.Limit, p.Lacking = cmp.Or(p.Limit, time.Hour), cmp.Or(p.Lacking, "answer")
	w := &Wait{p: p}
	w.Reset()
	return w
}

// Reset says that something came: the wait begins again.
func (w *Wait) Reset() { w.pause, w.since = w.p.First, time.Now() }

// Pause waits before the next attempt. An error is why there is none: the cause
// of ctx's end, or cause, when the pause would end after the limit.
func (w *Wait) Pause(ctx context.Context, cause error) error {
	pause, without := w.pause, time.Since(w.since)
	w.pause = min(2*w.pause, w.p.Longest)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if without+pause > w.p.Limit {
		return fmt.Errorf("no %s for %s: %w", w.p.Lacking, without.Round(time.Second), cause)
	}
	if w.p.Tell != nil {
		w.p.Tell(cause, pause, without)
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Do calls try until it succeeds or answers that its error is final.
func (w *Wait) Do(ctx context.Context, try func() (final bool, err error)) error {
	for {
		final, err := try()
		if err == nil || final {
			return err
		}
		if err := w.Pause(ctx, err); err != nil {
			return err
		}
	}
}

// Temporary tells that a server that answers with an HTTP status may answer
// otherwise later: it, or a proxy before it, is starting, stopping or overloaded.
func Temporary(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// Cause leaves out of an HTTP client's error what the caller names: the method and
// the URL.
func Cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
