package allocation

import (
	"fmt"
	"slices"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// Report is what a report makes of a machine's record. Most reports change
// nothing: then there are no Changes.
func Report(s *Snapshot, rep wire.Report) (Outcome, Changes, error) {
	noticed, err := s.Machines.Notice(rep.Machine)
	if err != nil {
		return Outcome{}, Changes{}, identityRefused("report", err)
	}
	if rep.Step == wire.StepWipe && !noticed.New {
		return wipeReport(s, noticed.Record, rep)
	}
	r, replaced := arrive(s, noticed.Record)
	old, _ := s.Machines.Get(r.ID)
	if next := nextState(r, rep); next != r.State || noticed.New {
		r.State, r.Since = next, s.Time
	}
	r = said(r, rep, s.Time)
	changed := noticed.New || r.State != old.State || r.Image != old.Image || r.BootDisk != old.BootDisk || !slices.Equal(r.Disks, old.Disks) || r.LastError != old.LastError ||
		len(r.MACs) != len(old.MACs) || r.Allocation != old.Allocation || r.Differs != old.Differs || r.Foreign != old.Foreign || r.Expected != old.Expected
	var c Changes
	if noticed.New && len(replaced) == 0 {
		if c, err = room(s); err != nil {
			return Outcome{}, Changes{}, err
		}
	}
	c.Removed, c.Lost = append(c.Removed, replaced...), append(c.Lost, replaced...)
	if changed {
		c.Records = []machine.Record{r}
	}
	return Outcome{Record: r}, c, nil
}

// said is a record with what a report says beside the state.
func said(r machine.Record, rep wire.Report, now time.Time) machine.Record {
	if a := r.Allocation; rep.Status == wire.StatusInstalled && a != nil && a.Installed.IsZero() {
		good := *a
		good.Installed = now
		r.Allocation = &good
	}
	switch {
	case rep.Status == wire.StatusInstalled:
		r.Differs, r.Foreign = nil, nil
	case rep.Status == wire.StatusFailed && len(rep.Foreign) > 0:
		r.Foreign = &api.Foreign{Disks: rep.Foreign}
	}
	if rep.Status == wire.StatusInstalled && rep.Step == wire.StepReboot {
		r.BootDisk = rep.BootDisk
	}
	if len(rep.Disks) > 0 {
		r.Disks = rep.Disks
	}
	switch {
	case rep.Status == wire.StatusInstalled, rep.Status == wire.StatusDone && rep.Step.Later():
		r.LastError = ""
		if rep.Image != (wire.ImageRef{}) {
			r.Image = rep.Image
		}
	case rep.Status == wire.StatusFailed:
		r.LastError = fmt.Sprintf("%s: %s", rep.Step, refusal.Clip(rep.Message, 2000))
	}
	return r
}

// nextState is the state of a machine after a report. One that is installed
// stays so whatever is reported: an agent that was booted to rescue it says
// things too. Only a configuration that is handed out makes it "installing"
// again. One that upgrades is installed, also if the server has never heard
// that or has forgotten it.
func nextState(r machine.Record, rep wire.Report) machine.State {
	is := r.State
	switch {
	case rep.Status == wire.StatusInstalled:
		return machine.Installed
	case r.Boot == machine.Wipe, rep.Step == wire.StepWipe: // see OrderWipe and wipeReport
		return is
	case is == machine.Installed:
		return machine.Installed
	case rep.Step.Later() && (is == machine.Unknown || rep.Status == wire.StatusDone):
		return machine.Installed
	case rep.Step.Later():
		return is
	case rep.Status == wire.StatusFailed:
		return machine.Failed
	case is == machine.Unknown, rep.Status == wire.StatusStarted:
		return machine.Installing
	}
	return is
}
