// Package activity knows what machines are doing, tells everybody, and writes
// it into their histories. But for the histories it keeps everything in memory.
package activity

import (
	"context"
	"iter"
	"log/slog"
	"slices"
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

// Bounds of what is kept. Any device on the network can cause notes about
// machines that are not known.
const (
	maxEvents   = 1000 // for readers that are slower
	maxNoted    = 1000 // MAC addresses
	notesPerMAC = 10
)

// Activity is that of all machines.
type Activity struct {
	history  *history.Dir
	problems *problems.List
	log      *slog.Logger
	events   *events.Stream[api.Event]

	mu       sync.Mutex
	progress map[string]api.Progress      // by id
	boots    map[string]boot              // by id
	notes    map[string][]api.HistoryLine // by MAC address; nobody knows whose it is
	noted    []string                     // these addresses, as they came
}

// boot is what a machine was last told to boot.
type boot struct {
	action  wire.BootAction
	message string // what the boot services have said since
	time    time.Time
}

// New knows nothing yet.
func New(history *history.Dir, problems *problems.List, log *slog.Logger) *Activity {
	return &Activity{history: history, problems: problems, log: log, events: events.New[api.Event](maxEvents),
		progress: map[string]api.Progress{}, boots: map[string]boot{}, notes: map[string][]api.HistoryLine{}}
}

// Events are those after the one with this number, each with its own number; 0:
// from the first one. They come as they happen, until ctx ends. Nobody waits
// for a slow reader: of more than the last 1000 it misses the oldest, as their
// numbers show.
func (a *Activity) Events(ctx context.Context, after uint64) iter.Seq2[uint64, api.Event] {
	return a.events.After(ctx, after)
}

func (a *Activity) tell(e api.Event) {
	level := a.log.Debug
	if e.Status == "failed" || e.Status == "installed" || e.Step == "match" {
		level = a.log.Info
	}
	level("machine", "machine", e.Machine, "name", e.Name, "step", e.Step, "status", e.Status, "message", e.Message)
	a.events.Append(e)
}

// Record adds lines to a machine's history and tells them. That the history
// cannot be written is no reason to stop anything; it becomes a problem.
func (a *Activity) Record(r machine.Record, lines ...api.HistoryLine) {
	if err := a.history.Append(r.ID, false, append(a.takeNotes(r.MACs), lines...)...); err != nil {
		a.problems.Add(r.Section, "%v", err)
	}
	for _, l := range lines {
		a.tell(api.Event{Time: l.Time, Machine: r.ID, Name: r.DisplayName(), Step: l.Step, Status: l.Status, Message: l.Message, Seconds: l.Seconds})
	}
}

// Report takes a machine's report. When it answers, a step that is over is in
// the history, on the disk.
func (a *Activity) Report(r machine.Record, rep wire.Report, now time.Time) error {
	p := a.advance(r.ID, rep, now)
	step := string(rep.Step)
	if rep.Status == wire.StatusInstalled { // its time is that of the whole installation
		step = "installation"
	}
	if rep.Status != wire.StatusProgress {
		line := api.HistoryLine{Time: now, Step: step, Status: string(rep.Status), Seconds: rep.Seconds, Message: rep.Message}
		if err := a.history.Append(r.ID, rep.Status != wire.StatusStarted, append(a.takeNotes(r.MACs), line)...); err != nil {
			return refusal.New(refusal.Unwritable(err), "%v", err)
		}
	}
	a.tell(api.Event{Time: now, Machine: r.ID, Name: r.DisplayName(), Step: step, Status: string(rep.Status),
		Message: rep.Message, Seconds: rep.Seconds, Percent: p.Percent, BytesPerSecond: p.BytesPerSecond})
	return nil
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

// Note adds what a boot service says about a machine to its history.
func (a *Activity) Note(r machine.Record, line api.HistoryLine) {
	a.mu.Lock()
	if b, ok := a.boots[r.ID]; ok {
		b.message = refusal.Clip(line.Message, 200)
		a.boots[r.ID] = b
	}
	a.mu.Unlock()
	a.Record(r, line)
}

// NoteUnknown keeps what a boot service says about a machine that nobody knows
// until it is known.
func (a *Activity) NoteUnknown(mac string, line api.HistoryLine) {
	a.tell(api.Event{Time: line.Time, Name: mac, Step: line.Step, Status: line.Status, Message: line.Message})
	if mac == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.notes[mac]; !ok {
		a.noted = append(a.noted, mac)
	}
	all := append(a.notes[mac], line)
	a.notes[mac] = all[max(0, len(all)-notesPerMAC):]
	if len(a.noted) > maxNoted {
		delete(a.notes, a.noted[0])
		a.noted = a.noted[1:]
	}
}

// takeNotes takes out what was noted about these addresses.
func (a *Activity) takeNotes(macs []string) []api.HistoryLine {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []api.HistoryLine
	for _, mac := range macs {
		if notes, ok := a.notes[mac]; ok {
			all = append(all, notes...)
			delete(a.notes, mac)
			a.noted = slices.DeleteFunc(a.noted, func(s string) bool { return s == mac })
		}
	}
	return all
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
