package server

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
	"edeploy/server/wire"
)

// takeReport answers POST /api/v1/reports. When it answers 200, the step is in
// the history; for "installed" and "failed" also the machine's state is on
// the disk.
func (s *Server) takeReport(w http.ResponseWriter, r *http.Request) {
	rep, err := wire.DecodeReport(http.MaxBytesReader(w, r.Body, wire.MaxReportBytes))
	if err != nil {
		s.answerError(w, refuse(errInput, "%v", err))
		return
	}
	rep.Message = strings.TrimPrefix(rep.Message, string(rep.Step)+": ") // the step is said once, beside the message
	if err := checkReport(rep); err != nil {
		s.answerError(w, err)
		return
	}
	if err := machine.Check(rep.Machine); err != nil {
		s.answerError(w, refuseIdentity("report", err))
		return
	}
	if err := s.arrives(peerOf(r), rep.Machine); err != nil {
		s.answerError(w, err)
		return
	}
	rec, err := s.noteReport(r.Context(), rep)
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusOK, map[string]string{"machine": rec.ID})
}

// checkReport refuses what no agent says.
func checkReport(rep wire.Report) error {
	steps := []wire.Step{wire.StepDevices, wire.StepNetwork, wire.StepDetect, wire.StepUpload, wire.StepConfigure,
		wire.StepTransfer, wire.StepVerify, wire.StepOverlay, wire.StepBootloader, wire.StepReboot, wire.StepUpgrade, wire.StepRollback}
	statuses := []wire.Status{wire.StatusStarted, wire.StatusProgress, wire.StatusDone, wire.StatusFailed, wire.StatusInstalled}
	switch {
	case !slices.Contains(steps, rep.Step):
		return refuse(errInput, "report: unknown step %.40q", rep.Step)
	case !slices.Contains(statuses, rep.Status):
		return refuse(errInput, "report: unknown status %.40q", rep.Status)
	case rep.Bytes < 0, rep.TotalBytes < 0, rep.Seconds < 0:
		return refuse(errInput, "report: negative number")
	}
	if rep.BootDisk != "" {
		if _, _, _, err := rep.BootDisk.Where(); err != nil {
			return refuse(errInput, "report: %v", err)
		}
	}
	if rep.Image != (wire.ImageRef{}) {
		if _, err := wire.NewImageRef(rep.Image.Role, rep.Image.Version); err != nil {
			return refuse(errInput, "report: %v", err)
		}
	}
	return nil
}

// noteReport writes down what a report says, first what must last.
func (s *Server) noteReport(ctx context.Context, rep wire.Report) (machine.Record, error) {
	rec, err := s.updateRecord(ctx, rep)
	if err != nil {
		return rec, err
	}
	now := s.config.Now()
	p := s.progress.note(rec.ID, rep, now)
	step := string(rep.Step)
	if rep.Status == wire.StatusInstalled { // its time is that of the whole installation
		step = "installation"
	}
	if rep.Status != wire.StatusProgress {
		line := history.Line{Time: now, Step: step, Status: string(rep.Status), Seconds: rep.Seconds, Message: rep.Message}
		if err := s.history.Append(rec.ID, rep.Status != wire.StatusStarted, s.notes.take(rec.MACs, line)...); err != nil {
			return rec, refuse(unwritable(err), "%v", err)
		}
	}
	s.tell(Event{Time: now, Machine: rec.ID, Name: displayName(rec), Step: step, Status: string(rep.Status),
		Message: rep.Message, Seconds: rep.Seconds, Percent: p.Percent, BytesPerSecond: p.BytesPerSecond})
	return rec, nil
}

// updateRecord changes the machine's record when the report changes it; most
// reports do not, and wait for nobody.
func (s *Server) updateRecord(ctx context.Context, rep wire.Report) (machine.Record, error) {
	rec, changed, err := s.reported(&s.machines.shelf, rep)
	if err != nil || !changed {
		return rec, err
	}
	err = s.together(ctx, func(d *draft) error {
		now, _, err := s.reported(s.machines.drafted, rep)
		rec = now
		if err == nil && s.machines.drafted.isNew(rec) {
			err = s.makeRoom(d)
		}
		if err == nil {
			d.accept([]machine.Record{rec})
		}
		return err
	})
	return rec, err
}

// reported answers the record as it is after the report, and whether that
// changed it.
func (s *Server) reported(known *shelf, rep wire.Report) (machine.Record, bool, error) {
	noticed, err := known.notice(rep.Machine)
	if err != nil {
		return machine.Record{}, false, refuseIdentity("report", err)
	}
	r := noticed.Record
	old, _ := known.get(r.ID)
	if next := nextState(r.State, rep); next != r.State || noticed.New {
		r.State, r.Since = next, s.config.Now()
	}
	if a := r.Allocation; rep.Status == wire.StatusInstalled && a != nil && a.Installed.IsZero() {
		good := *a
		good.Installed = s.config.Now()
		r.Allocation = &good
	}
	if rep.Status == wire.StatusInstalled && rep.Step == wire.StepReboot {
		r.BootDisk = rep.BootDisk
	}
	switch {
	case rep.Status == wire.StatusInstalled, rep.Status == wire.StatusDone && rep.Step.Later():
		r.LastError = ""
		if rep.Image != (wire.ImageRef{}) {
			r.Image = rep.Image
		}
	case rep.Status == wire.StatusFailed:
		r.LastError = fmt.Sprintf("%s: %s", rep.Step, clipText(rep.Message, 2000))
	}
	changed := noticed.New || r.State != old.State || r.Image != old.Image || r.BootDisk != old.BootDisk || r.LastError != old.LastError || len(r.MACs) != len(old.MACs) || r.Allocation != old.Allocation
	return r, changed, nil
}

func clipText(s string, most int) string {
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// nextState is the state of a machine after a report. One that is installed
// stays so whatever is reported: an agent that was booted to rescue it says
// things too. Only a configuration that is handed out makes it "installing"
// again. One that upgrades is installed, also if the server has never heard
// that or has forgotten it.
func nextState(is machine.State, rep wire.Report) machine.State {
	switch {
	case rep.Status == wire.StatusInstalled:
		return machine.Installed
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
