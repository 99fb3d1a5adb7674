package client

import (
	"context"
	"math"
	"sync"

	"edeploy/agent/internal/retry"
	"edeploy/server/wire"
)

// queueLength bounds the reports that wait for the server. An installation
// has about twenty besides its progress, which is never queued twice.
const queueLength = 128

// Reporter sends reports in their order, in the background, and again when
// the server was away. Sending never blocks and never fails.
type Reporter struct {
	client *Client
	wake   chan struct{} // capacity 1: something changed
	done   chan struct{} // closed when run has ended

	mu       sync.Mutex
	queue    []wire.Report
	machine  *wire.Identity // nil: not known yet, reports are held back
	finished bool
}

// NewReporter starts a reporter, which ends with ctx or with Finish.
func NewReporter(ctx context.Context, c *Client) *Reporter {
	r := &Reporter{client: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go r.run(ctx)
	return r
}

// Identify says who the reports are about. Reports that were sent before are
// held back until then: the server could not tell whose they are.
func (r *Reporter) Identify(id wire.Identity) {
	r.mu.Lock()
	r.machine = &id
	r.mu.Unlock()
	r.signal()
}

// Send queues a report. Progress replaces progress that still waits.
func (r *Reporter) Send(rep wire.Report) {
	r.mu.Lock()
	last := len(r.queue) - 1
	switch {
	case last >= 0 && rep.Status == wire.StatusProgress && r.queue[last].Status == wire.StatusProgress:
		r.queue[last] = rep
	case len(r.queue) < queueLength:
		r.queue = append(r.queue, rep)
	}
	r.mu.Unlock()
	r.signal()
}

// Finish waits until everything is sent or ctx ends, and stops the reporter.
func (r *Reporter) Finish(ctx context.Context) {
	r.mu.Lock()
	r.finished = true
	r.mu.Unlock()
	r.signal()
	select {
	case <-r.done:
	case <-ctx.Done():
	}
}

func (r *Reporter) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take removes the next report that can be sent. It answers over when there
// will be none.
func (r *Reporter) take() (rep wire.Report, ok, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.machine == nil || len(r.queue) == 0 {
		return rep, false, r.finished
	}
	rep = r.queue[0]
	r.queue = r.queue[1:]
	rep.Machine = *r.machine
	return rep, true, false
}

// outdated says that progress need not be sent any more: something newer waits.
func (r *Reporter) outdated(rep wire.Report) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return rep.Status == wire.StatusProgress && len(r.queue) > 0
}

func (r *Reporter) run(ctx context.Context) {
	defer close(r.done)
	for ctx.Err() == nil {
		rep, ok, over := r.take()
		switch {
		case ok:
			r.deliver(ctx, rep)
		case over:
			return
		default:
			select {
			case <-r.wake:
			case <-ctx.Done():
			}
		}
	}
}

// deliver sends one report until it is answered. It does not say on the
// console that it waits: the step that needs the server says it.
func (r *Reporter) deliver(ctx context.Context, rep wire.Report) {
	wait := retry.Policy{First: r.client.FirstPause, Longest: r.client.LongestPause, Limit: math.MaxInt64 / 2}.Start()
	err := wait.Do(ctx, func() (final bool, err error) {
		if r.outdated(rep) {
			return true, nil
		}
		err = r.client.Report(ctx, rep)
		return err == nil || !again(err), err
	})
	if err != nil && ctx.Err() == nil {
		r.client.log().Debug("the server refused a report", "step", rep.Step, "status", rep.Status, "error", err)
	}
}
