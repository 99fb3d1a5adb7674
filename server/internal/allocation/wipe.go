package allocation

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// mayBoot refuses wishes that would erase what nobody has seen, or that call
// back what cannot be called back.
func mayBoot(r machine.Record, boot machine.Boot) error {
	switch {
	case boot == machine.Wipe && r.Awaited():
		return refusal.New(refusal.Conflict, "machine %s has not come yet, and nobody knows its disks: they can be erased when it has", r.ID)
	case r.State == machine.Wiping && (boot == machine.Auto || boot == machine.Local):
		return refusal.New(refusal.Conflict, "machine %s has begun to erase its disks at %s, which cannot be taken back: edeployctl hold %s lets it wait when it boots again, edeployctl reinstall %s installs it",
			r.ID, r.Wipe.Begun.UTC().Format(time.RFC3339), r.ID, r.ID)
	}
	return nil
}

// OrderWipe lets a machine erase its disks, when the operator has said so and it
// is surely the machine that was meant. It asks right before: what it was told to
// boot may be long ago, or was meant for another one. From now on the wish
// cannot be taken back.
func OrderWipe(s *Snapshot, is wire.Identity) (Outcome, Changes, error) {
	r, known, err := s.Machines.Find(is)
	if err == nil && known {
		err = s.Machines.Certain(r, is)
	}
	if err != nil {
		var out Outcome
		if errors.Is(err, machine.ErrAmbiguous) || errors.Is(err, machine.ErrKept) || errors.Is(err, machine.ErrUncertain) {
			out.Notes = []Note{{Doubt, r.Section, fmt.Sprintf("A machine wanted to erase its disks, and was refused: %v.", err)}}
		}
		return out, Changes{}, identityRefused("wipe", err)
	}
	if !known || r.Boot != machine.Wipe {
		return Outcome{}, Changes{}, refusal.New(refusal.Conflict, "nobody has said that the disks of this machine are to be erased, or it was taken back: nothing is erased")
	}
	if r.State != machine.Wiping {
		r.State, r.Since = machine.Wiping, s.Time
	}
	r.Wipe, r.LastError = &api.Wipe{Begun: s.Time}, ""
	out := Outcome{Record: r, Lines: []api.HistoryLine{{Time: s.Time, Step: string(wire.StepWipe), Status: "note", Message: "the server lets it begin"}}}
	return out, Changes{Records: []machine.Record{r}}, nil
}

// wipeReport is what a machine's word about its disks makes of its record. Only
// the end of what it was let to begin counts: then it waits, whatever it was
// before, until the operator says what becomes of it.
func wipeReport(s *Snapshot, r machine.Record, rep wire.Report) (Outcome, Changes, error) {
	if r.State != machine.Wiping || rep.Status != wire.StatusDone && rep.Status != wire.StatusFailed {
		return Outcome{Record: r}, Changes{}, nil
	}
	over := api.Wipe{Ended: s.Time, Disks: rep.Wiped}
	if r.Wipe != nil {
		over.Begun = r.Wipe.Begun
	}
	r.Wipe, r.Since = &over, s.Time
	if r.Boot == machine.Wipe {
		r.Boot = machine.Hold
	}
	left := func(d wire.WipedDisk) bool { return d.Error != "" }
	if rep.Status == wire.StatusFailed || len(rep.Wiped) == 0 || slices.ContainsFunc(rep.Wiped, left) {
		r.State, r.LastError = machine.WipeFailed, refusal.Clip(rep.Message, 2000)
		return Outcome{Record: r}, Changes{Records: []machine.Record{r}}, nil
	}
	return wiped(s, r)
}

// wiped gives back what a machine holds whose disks are erased: it is as one that
// was never installed.
func wiped(s *Snapshot, r machine.Record) (Outcome, Changes, error) {
	out := word(s, r, "its disks are erased: "+frees(r))
	var c Changes
	if r.Allocation != nil {
		var err error
		if c.Directories, out.Notes, err = release(s, r); err != nil {
			return Outcome{}, Changes{}, err
		}
	}
	r.State, r.LastError, r.Allocation, r.Differs = machine.Wiped, "", nil, nil
	r.Image, r.BootDisk, r.Disks, r.Foreign = wire.ImageRef{}, "", nil, nil
	out.Record, c.Records = r, []machine.Record{r}
	return out, c, nil
}
