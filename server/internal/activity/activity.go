// Package activity knows what machines are doing, and tells everybody:
// histories, the log and the console read its events. But for the histories it
// keeps everything in memory.
package activity

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/events"
	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/problems"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// maxEvents are kept for readers that are slower.
const maxEvents = 4000

// Activity is that of all machines.
type Activity struct {
	History *history.Keeper
	log     *slog.Logger
	events  *events.Stream[api.Event]

	mu       sync.Mutex
	progress map[string]api.Progress // by id
	boots    map[string]boot         // by id
}

// boot is what a machine was last told to boot.
type boot struct {
	action  wire.BootAction
	message string // what the boot services have said since
	time    time.Time
}

// New knows nothing yet, and writes no history before Start.
func New(dir *history.Dir, index func() *machine.Index, late *problems.List, log *slog.Logger) *Activity {
	a := &Activity{log: log, events: events.New[api.Event](maxEvents), progress: map[string]api.Progress{}, boots: map[string]boot{}}
	known := func(id string) machine.Record {
		r, _ := index().Get(id)
		return r
	}
	a.History = history.NewKeeper(dir, a.events, func(id string) []string { return known(id).MACs },
		func(id string, err error) { late.Add(known(id).Section, "%v", err) })
	return a
}

// Start starts writing histories and the log. stop ends that when all that has
// happened before is written.
func (a *Activity) Start() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var writing sync.WaitGroup
	writing.Go(func() { a.History.Run(ctx) })
	writing.Go(func() { a.write(ctx) })
	return func() error {
		cancel()
		writing.Wait()
		return nil
	}
}

// write writes the log.
func (a *Activity) write(ctx context.Context) {
	for _, e := range a.events.After(ctx, 0) {
		level := slog.LevelDebug
		if e.Status == "failed" || e.Status == "installed" || e.Step == "match" {
			level = slog.LevelInfo
		}
		a.log.Log(context.Background(), level, "machine", "machine", e.Machine, "name", e.Name, "step", e.Step, "status", e.Status, "message", e.Message)
	}
}

// Events are those after the one with this number, each with its own number; 0:
// from the first one. They come as they happen, until ctx ends. Nobody waits
// for a slow reader: of more than the last 4000 it misses the oldest, as their
// numbers show.
func (a *Activity) Events(ctx context.Context, after uint64) iter.Seq2[uint64, api.Event] {
	return a.events.After(ctx, after)
}

// Record tells what happened to a machine, and waits until its history has it.
// That it cannot be written is no reason to stop anything; it becomes a problem.
func (a *Activity) Record(ctx context.Context, r machine.Record, lines []api.HistoryLine) {
	all := make([]api.Event, len(lines))
	for i, l := range lines {
		all[i] = api.Event{Time: l.Time, Machine: r.ID, Name: r.DisplayName(), Step: l.Step, Status: l.Status, Message: l.Message, Seconds: l.Seconds}
	}
	_ = a.History.Await(ctx, a.events.Append(all...))
}

// Report takes a machine's report. When it answers, a step that is over is in
// the history, on the disk.
func (a *Activity) Report(ctx context.Context, r machine.Record, rep wire.Report, now time.Time) error {
	p := a.advance(r.ID, rep, now)
	step := string(rep.Step)
	if rep.Status == wire.StatusInstalled { // its time is that of the whole installation
		step = "installation"
	}
	number := a.events.Append(api.Event{Time: now, Machine: r.ID, Name: r.DisplayName(), Step: step, Status: string(rep.Status),
		Message: rep.Message, Seconds: rep.Seconds, Percent: p.Percent, BytesPerSecond: p.BytesPerSecond})
	if rep.Status == wire.StatusProgress { // it is in no history
		return nil
	}
	switch err := a.History.Await(ctx, number); {
	case errors.Is(err, history.ErrMissed):
		return refusal.New(refusal.Busy, "the server is busy: %v: tell it again", err)
	case err != nil:
		return refusal.New(refusal.Unwritable(err), "%v", err)
	}
	return nil
}

// Tell takes an event of a boot service about a machine that is known (r.ID is
// not ""), about an address that nobody knows, or about the service itself. It
// never waits.
func (a *Activity) Tell(r machine.Record, e api.Event) {
	if r.ID != "" {
		e.Machine, e.Name = r.ID, r.DisplayName()
		a.mu.Lock()
		if b, ok := a.boots[r.ID]; ok {
			b.message = refusal.Clip(e.Message, 200)
			a.boots[r.ID] = b
		}
		a.mu.Unlock()
	}
	a.events.Append(e)
}

func (a *Activity) advance(id string, rep wire.Report, now time.Time) api.Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.progress[id] = nextProgress(a.progress[id], rep, now)
	return a.progress[id]
}

// Booted notes what a machine was told to boot.
func (a *Activity) Booted(id string, action wire.BootAction, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.boots[id] = boot{action: action, time: now}
}

// Of says in words what a machine is doing now, and how far it is; nil: it has
// not said.
func (a *Activity) Of(r machine.Record, now time.Time) (words string, progress *api.Progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p, ok := a.progress[r.ID]
	if ok {
		progress = &p
	}
	return present(r, p, a.boots[r.ID], now), progress
}

// Forget forgets what a machine was doing.
func (a *Activity) Forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.progress, id)
	delete(a.boots, id)
}

// nextProgress is the progress after a report that came at a time.
func nextProgress(p api.Progress, rep wire.Report, now time.Time) api.Progress {
	if rep.Status == wire.StatusNote && p.Step == string(rep.Step) { // the step goes on
		p.Updated = now
		return p
	}
	n := api.Progress{Step: string(rep.Step), Status: string(rep.Status), Message: refusal.Clip(rep.Message, 2000),
		Bytes: rep.Bytes, TotalBytes: rep.TotalBytes, Started: now, Updated: now}
	if rep.TotalBytes > 0 {
		n.Percent = min(100, 100*float64(rep.Bytes)/float64(rep.TotalBytes))
	}
	if p.Step == n.Step && rep.Status != wire.StatusStarted {
		n.Started = p.Started
		n.BytesPerSecond = rate(p, rep.Bytes, now)
	}
	return n
}

// rate smooths: half of it is the newest interval, half what was before.
func rate(p api.Progress, bytes int64, now time.Time) float64 {
	seconds := now.Sub(p.Updated).Seconds()
	if seconds <= 0 || bytes < p.Bytes {
		return p.BytesPerSecond
	}
	latest := float64(bytes-p.Bytes) / seconds
	if p.BytesPerSecond == 0 {
		return latest
	}
	return (latest + p.BytesPerSecond) / 2
}
