package server

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"edeploy/server/api"
	"edeploy/server/internal/lint"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/state"
	"edeploy/server/wire"
)

// maxAttention bounds the machines that are named one by one.
const maxAttention = 200

// machineProblems are the machines that an operator has to look at, each with
// the command that helps. restorable tells whether a forgotten record of the
// machine is kept.
func machineProblems(records []machine.Record, restorable func(id string) bool) []api.Problem {
	var all []api.Problem
	more := 0
	for _, r := range records {
		text := machineProblem(r, restorable)
		switch {
		case text == "":
		case len(all) >= maxAttention:
			more++
		default:
			all = append(all, api.Problem{Section: r.Section, Text: text})
		}
	}
	if more > 0 {
		all = append(all, api.Problem{Text: fmt.Sprintf("%d more machines have failed: edeployctl machines", more)})
	}
	return all
}

func machineProblem(r machine.Record, restorable func(id string) bool) string {
	who := fmt.Sprintf("machine %s (%s)", r.ID, r.DisplayName())
	first, _, _ := strings.Cut(r.LastError, "\n")
	switch {
	case r.Boot == machine.Hold: // the operator knows
		return ""
	case r.State == machine.Failed:
		return fmt.Sprintf("%s FAILED %s. It tries again when it boots: edeployctl logs %s and edeployctl machines explain %s say more, edeployctl hold %s stops it", who, first, r.ID, r.ID, r.ID)
	case r.State == machine.Installed && first != "":
		return fmt.Sprintf("%s is installed, but since then failed: %s", who, first)
	case r.State == machine.Installed && r.Allocation == nil && restorable(r.ID):
		return fmt.Sprintf("%s is installed and was forgotten: others may get its addresses. edeployctl machines restore %s takes it back", who, r.ID)
	case r.State == machine.Installed && r.Allocation == nil:
		return fmt.Sprintf("%s is installed, and which profile it has is not known: others may get its addresses. edeployctl reinstall %s gives it one", who, r.ID)
	}
	return ""
}

// supplies are the images that profiles name and the appliance has not, when
// it is known which it has, and, if asked for, what runs out.
func (d *deployment) supplies(images []wire.ImageRef, counts bool) []api.Problem {
	st, _ := d.dir.State() // what is wrong with it, problems says
	if st == nil {
		return nil
	}
	var all []api.Problem
	seen := map[string]bool{}
	for _, pair := range st.Pairs() {
		if seen[pair.Profile] || profile.CheckName(pair.Profile) != nil || len(all) >= maxPerSection {
			continue
		}
		seen[pair.Profile] = true
		all = append(all, d.scriptProblems(pair.Profile)...)
		if images != nil {
			all = append(all, d.imageProblems(pair.Profile, images)...)
		}
		if counts {
			all = append(all, d.supplyProblems(pair)...)
		}
	}
	return all
}

// supplyProblems are profiles that can take no more machines, or fewer than
// their count says.
func (d *deployment) supplyProblems(pair state.Pair) []api.Problem {
	warn := func(format string, args ...any) []api.Problem {
		return []api.Problem{{Section: d.name, Warning: true, Text: fmt.Sprintf(format, args...)}}
	}
	if !pair.Available() {
		return warn("profile %s takes no more machines, its count is %d: edeployctl state set %s N", pair.Profile, pair.Count, pair.Profile)
	}
	file, err := d.dir.CMDB(pair.Profile)
	if err != nil || file == nil || file.Len() == 0 {
		return nil // told elsewhere, or there is none
	}
	free := int64(0)
	for i := range file.Len() {
		if !file.Used(i) {
			free++
		}
	}
	switch {
	case free == 0:
		return warn("profile %s takes no more machines, all %d entries of %s.cmdb are used: add entries and edeployctl config push, or edeployctl cmdb list %s", pair.Profile, file.Len(), pair.Profile, pair.Profile)
	case !pair.Unlimited && free < pair.Count:
		entries := "entries"
		if free == 1 {
			entries = "entry"
		}
		return warn("profile %s takes %d more machines, but %s.cmdb has %d free %s: add entries and edeployctl config push, or edeployctl state set %s %d", pair.Profile, pair.Count, pair.Profile, free, entries, pair.Profile, free)
	}
	return nil
}

// maxMistakes bounds what is told of one script.
const maxMistakes = 3

// scriptProblems are mistakes in a profile's script, which ends the
// installation of every machine that gets it.
func (d *deployment) scriptProblems(name string) []api.Problem {
	text, err := d.dir.Configure(name)
	if err != nil {
		return nil // told elsewhere
	}
	d.scripts.Lock()
	defer d.scripts.Unlock()
	if is, ok := d.scripts.by[name]; ok && is.text == text {
		return is.problems
	}
	file := name + ".configure"
	found := lint.Script(file, text)
	var all []api.Problem
	for _, f := range found[:min(len(found), maxMistakes)] {
		all = append(all, api.Problem{Section: d.name, File: d.ConfigDir + "/" + file, Line: f.Line, Column: f.Column,
			Text: fmt.Sprintf("%s: %s: mend the script, and edeployctl config push", f.Where(), f.Text)})
	}
	if d.scripts.by == nil {
		d.scripts.by = map[string]readScript{}
	}
	d.scripts.by[name] = readScript{text, all}
	return all
}

// readScripts are the scripts that were read last, so that each is read once.
type readScripts struct {
	sync.Mutex
	by map[string]readScript // by profile
}

type readScript struct {
	text     string
	problems []api.Problem
}

// imageProblems are images that a profile's script names and that the
// appliance has not.
func (d *deployment) imageProblems(name string, have []wire.ImageRef) []api.Problem {
	text, err := d.dir.Configure(name)
	if err != nil {
		return nil // told elsewhere
	}
	var all []api.Problem
	for _, ref := range lint.Roles(text) {
		if !slices.Contains(have, ref) {
			all = append(all, api.Problem{Section: d.name, Text: fmt.Sprintf("profile %s installs %s, which this appliance has not: edeployctl push %s %s", name, ref, ref.Role, ref.Version)})
		}
	}
	return all
}
