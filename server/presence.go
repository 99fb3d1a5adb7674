package server

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// booted is what a machine was last told to boot. It is kept in memory only.
type booted struct {
	Action  wire.BootAction
	Message string // what the boot services have said since
	Time    time.Time
}

// bootedTable is that of all machines that are known, by id.
type bootedTable struct {
	mu  sync.Mutex
	now map[string]booted
}

func newBootedTable() *bootedTable { return &bootedTable{now: map[string]booted{}} }

func (t *bootedTable) set(id string, action wire.BootAction, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now[id] = booted{Action: action, Time: now}
}

// say adds what a boot service says, if the machine is booting.
func (t *bootedTable) say(id, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.now[id]; ok {
		b.Message = refusal.Clip(message, 200)
		t.now[id] = b
	}
}

func (t *bootedTable) get(id string) booted {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now[id]
}

func (t *bootedTable) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.now, id)
}

// Times after which a machine that says nothing is called silent. On hold it
// asks every ten seconds; a step of an installation says how far it is.
const (
	holdSilence = time.Minute
	bootSilence = 5 * time.Minute
	stepSilence = 10 * time.Minute
)

// present says in words what a machine is doing now. All lists show the same.
func present(r machine.Record, p api.Progress, b booted, now time.Time) string {
	silent := func(since time.Time, most time.Duration) string {
		if took := now.Sub(since); took > most {
			return fmt.Sprintf(", silent for %d min", int(took.Minutes()))
		}
		return ""
	}
	if b.Time.After(p.Updated) && b.Time.After(r.Since) || b.Action == wire.BootHold && b.Time.After(p.Updated) {
		switch b.Action {
		case wire.BootHold:
			return "on hold, waiting" + silent(b.Time, holdSilence)
		case wire.BootRescue:
			if strings.HasPrefix(b.Message, "fetched initrd") {
				return "in rescue shell"
			}
			return "booting into the rescue shell" + silent(b.Time, bootSilence)
		case wire.BootInstall:
			return "booting the installer" + silent(b.Time, bootSilence)
		case wire.BootLocal:
			if now.Sub(b.Time) < bootSilence {
				return "booting its own disk"
			}
		}
	}
	return standing(r, p) + silentStep(r, p, silent) + wish(r)
}

func silentStep(r machine.Record, p api.Progress, silent func(time.Time, time.Duration) string) string {
	if r.State != machine.Installing || p.Updated.IsZero() {
		return ""
	}
	return silent(p.Updated, stepSilence)
}

// standing is where a machine stands, by its last word.
func standing(r machine.Record, p api.Progress) string {
	first, _, _ := strings.Cut(r.LastError, "\n")
	switch r.State {
	case machine.Failed:
		return "FAILED " + first
	case machine.Installing:
		return "installing" + stepWords(p)
	case machine.Installed:
		switch {
		case first != "":
			return "installed; failed since: " + first
		case wire.Step(p.Step).Later() && p.Status != string(wire.StatusDone):
			return "installed" + stepWords(p)
		}
		return "installed"
	}
	return "seen, never installed"
}

// stepWords are the words for a step that runs, such as ", transfer 43 %".
func stepWords(p api.Progress) string {
	if p.Step == "" {
		return ""
	}
	text := ", " + p.Step
	switch {
	case p.Status == string(wire.StatusDone):
		return text + " done"
	case p.TotalBytes > 0 && p.Status == string(wire.StatusProgress):
		text += fmt.Sprintf(" %.0f %%", p.Percent)
		if p.BytesPerSecond > 0 {
			text += fmt.Sprintf(", %.1f MB/s", p.BytesPerSecond/1e6)
		}
	}
	return text
}

// wish is what the operator wants of it, which it has not taken up yet.
func wish(r machine.Record) string {
	switch r.Boot {
	case machine.Reinstall:
		return "; to be installed at its next boot"
	case machine.Hold:
		return "; on hold from its next boot"
	case machine.Rescue:
		return "; rescue shell at its next boot"
	case machine.Local:
		return "; boots its own disk until edeployctl release"
	}
	return ""
}

// now says what a machine is doing now.
func (s *Server) now(r machine.Record) string {
	p, _ := s.progress.get(r.ID)
	return present(r, p, s.booted.get(r.ID), s.config.Now())
}
