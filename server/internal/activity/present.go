package activity

import (
	"fmt"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/machine"
	"edeploy/server/wire"
)

// Times after which a machine that says nothing is called silent. On hold it
// asks every ten seconds; a step of an installation says how far it is.
const (
	holdSilence = time.Minute
	bootSilence = 5 * time.Minute
	stepSilence = 10 * time.Minute
)

// present says in words what a machine is doing now. All lists show the same.
func present(r machine.Record, p api.Progress, b boot, now time.Time) string {
	silent := func(since time.Time, most time.Duration) string {
		if took := now.Sub(since); took > most {
			return fmt.Sprintf(", silent for %d min", int(took.Minutes()))
		}
		return ""
	}
	if b.time.After(p.Updated) && b.time.After(r.Since) || b.action == wire.BootHold && b.time.After(p.Updated) {
		switch b.action {
		case wire.BootHold:
			return erased(r) + "on hold, waiting" + silent(b.time, holdSilence)
		case wire.BootRescue:
			if strings.HasPrefix(b.message, "fetched initrd") {
				return "in rescue shell"
			}
			return "booting into the rescue shell" + silent(b.time, bootSilence)
		case wire.BootInstall:
			return "booting the installer" + silent(b.time, bootSilence)
		case wire.BootWipe:
			return "booting, to erase its disks" + silent(b.time, bootSilence)
		case wire.BootLocal:
			if now.Sub(b.time) < bootSilence {
				return "booting its own disk"
			}
		}
	}
	text := standing(r, p)
	if (r.State == machine.Installing || r.State == machine.Wiping) && !p.Updated.IsZero() {
		text += silent(p.Updated, stepSilence)
	}
	if r.State == machine.Wiping && r.Boot == machine.Wipe {
		return text
	}
	return text + wishes[r.Boot]
}

// standing is where a machine stands, by its last word.
func standing(r machine.Record, p api.Progress) string {
	first, _, _ := strings.Cut(r.LastError, "\n")
	switch r.State {
	case machine.Failed:
		if r.Differs != nil && !r.Differs.Anyway {
			return "HELD: its hardware " + r.Differs.String()
		}
		if r.Foreign != nil && !r.Foreign.Anyway {
			return "HELD: " + r.Foreign.String()
		}
		return "FAILED " + first
	case machine.Installing:
		return "installing" + stepWords(p)
	case machine.Wiping:
		if wire.Step(p.Step) == wire.StepWipe {
			return "wiping" + farWords(p)
		}
		return "wiping" + stepWords(p)
	case machine.Wiped, machine.WipeFailed:
		return strings.TrimSuffix(erased(r), "; ")
	case machine.Installed:
		switch {
		case first != "":
			return "installed; failed since: " + first
		case wire.Step(p.Step).Later() && p.Status != string(wire.StatusDone):
			return "installed" + stepWords(p)
		}
		return "installed"
	}
	if r.Differs != nil {
		return "to be installed at its next boot, though its hardware " + r.Differs.String()
	}
	if r.Awaited() {
		return "not come yet"
	}
	return "seen, never installed"
}

// erased is what became of the disks of a machine that was to erase them, such as
// "wiped 2026-11-29: sda sdb; ".
func erased(r machine.Record) string {
	switch {
	case r.State == machine.WipeFailed:
		first, _, _ := strings.Cut(r.LastError, "\n")
		return "WIPE FAILED: " + first + "; "
	case r.State != machine.Wiped || r.Wipe == nil:
		return ""
	}
	text := "wiped " + r.Wipe.Ended.UTC().Format(time.DateOnly) + ":"
	for _, d := range r.Wipe.Disks {
		text += " " + d.Name
	}
	return text + "; "
}

// stepWords are the words for a step that runs, such as ", transfer 43 %".
func stepWords(p api.Progress) string {
	switch {
	case p.Step == "":
		return ""
	case p.Status == string(wire.StatusDone):
		return ", " + p.Step + " done"
	}
	return ", " + p.Step + farWords(p)
}

// farWords say how far a step is: " 43 %, 12.3 MB/s".
func farWords(p api.Progress) string {
	if p.TotalBytes == 0 || p.Status != string(wire.StatusProgress) {
		return ""
	}
	text := fmt.Sprintf(" %.0f %%", p.Percent)
	if p.BytesPerSecond > 0 {
		text += fmt.Sprintf(", %.1f MB/s", p.BytesPerSecond/1e6)
	}
	return text
}

// wishes are what the operator wants of it, which it has not taken up yet.
var wishes = map[machine.Boot]string{
	machine.Reinstall: "; to be installed at its next boot",
	machine.Hold:      "; on hold from its next boot",
	machine.Rescue:    "; rescue shell at its next boot",
	machine.Wipe:      "; its disks are erased at its next boot",
	machine.Local:     "; boots its own disk until edeployctl release",
}
