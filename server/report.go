package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// takeReport answers POST /api/v1/reports. When it answers 200, the step is in
// the history; for "installed" and "failed" also the machine's state is on
// the disk.
func (s *Server) takeReport(w http.ResponseWriter, r *http.Request) {
	rep, err := wire.DecodeReport(http.MaxBytesReader(w, r.Body, wire.MaxReportBytes))
	if err != nil {
		s.answerError(w, refusal.New(refusal.Input, "%v", err))
		return
	}
	rep.Message = strings.TrimPrefix(rep.Message, string(rep.Step)+": ") // the step is said once, beside the message
	if err := checkReport(rep); err != nil {
		s.answerError(w, err)
		return
	}
	if err := allocation.CheckIdentity("report", rep.Machine); err != nil {
		s.answerError(w, err)
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
		return refusal.New(refusal.Input, "report: unknown step %.40q", rep.Step)
	case !slices.Contains(statuses, rep.Status):
		return refusal.New(refusal.Input, "report: unknown status %.40q", rep.Status)
	case rep.Bytes < 0, rep.TotalBytes < 0, rep.Seconds < 0:
		return refusal.New(refusal.Input, "report: negative number")
	}
	if rep.BootDisk != "" {
		if _, _, _, err := rep.BootDisk.Where(); err != nil {
			return refusal.New(refusal.Input, "report: %v", err)
		}
	}
	if rep.Image != (wire.ImageRef{}) {
		if _, err := wire.NewImageRef(rep.Image.Role, rep.Image.Version); err != nil {
			return refusal.New(refusal.Input, "report: %v", err)
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
	return rec, s.activity.Report(ctx, rec, rep, s.config.Now())
}

// updateRecord changes the machine's record when the report changes it; most
// reports do not, and wait for nobody.
func (s *Server) updateRecord(ctx context.Context, rep wire.Report) (machine.Record, error) {
	decide := func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Report(snapshot, rep)
	}
	out, c, err := decide(s.snapshot())
	if err == nil && len(c.Records) > 0 {
		out, err = s.decide(ctx, decide, together)
	}
	return out.Record, err
}
