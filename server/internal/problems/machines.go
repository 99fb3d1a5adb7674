package problems

import (
	"fmt"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/upload"
)

// maxMachines bounds the machines that are named one by one.
const maxMachines = 200

// ofMachines are the machines that an operator has to look at, each with
// the command that helps. restorable tells whether a forgotten record of the
// machine is kept.
func ofMachines(records []machine.Record, restorable func(id string) bool) []api.Problem {
	var all []api.Problem
	more := 0
	for _, r := range records {
		text := machineProblem(r, restorable)
		switch {
		case text == "":
		case len(all) >= maxMachines:
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
	case r.State == machine.WipeFailed:
		return fmt.Sprintf("%s: its disks are not all erased: %s. edeployctl show %s has them; edeployctl wipe %s tries again", who, first, r.ID, r.ID)
	case r.Boot == machine.Hold: // the operator knows
		return ""
	case r.Differs != nil && !r.Differs.Anyway:
		return who + differs(r)
	case r.State == machine.Failed && r.Foreign != nil && !r.Foreign.Anyway:
		return fmt.Sprintf("%s is held: its profile asks before it overwrites data that no installation of this machine has written, and %s. If it may be overwritten: edeployctl wipe-anyway %s; then it asks again when it boots", who, r.Foreign, r.ID)
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

// maxTold bounds the differences that are told of one machine.
const maxTold = 5

// differs says what a machine has otherwise than expected, and what the
// operator can say about it.
func differs(r machine.Record) string {
	is := r.Differs
	var told []string
	for _, d := range is.Differences[:min(len(is.Differences), maxTold)] {
		told = append(told, d.String())
	}
	if more := is.Count() - len(told); more > 0 {
		told = append(told, fmt.Sprintf("and %d more", more))
	}
	section := ""
	if r.Section != upload.DefaultSection {
		section = " --section " + r.Section
	}
	return fmt.Sprintf(" is held: it fits profile %s, but %s: %s. It asks again when it boots. If all are to be like it: edeployctl expect %s %s%s; if it alone may be so: edeployctl install-anyway %s",
		is.Profile, is, strings.Join(told, "; "), is.Bill, r.ID, section, r.ID)
}
