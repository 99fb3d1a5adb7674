package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/transaction"
	"edeploy/server/wire"
)

// takeReport answers POST /api/v1/reports. When it answers 200, the step is in
// the history; for "installed" and "failed" also the machine's state is on
// the disk.
func (h *Handlers) takeReport(r *http.Request) (any, error) {
	rep, err := wire.DecodeReport(http.MaxBytesReader(nil, r.Body, wire.MaxReportBytes))
	if err != nil {
		return nil, refusal.New(refusal.Input, "%v", err)
	}
	rep.Message = strings.TrimPrefix(rep.Message, string(rep.Step)+": ") // the step is said once, beside the message
	if err := checkReport(rep); err != nil {
		return nil, err
	}
	if err := allocation.CheckIdentity("report", rep.Machine); err != nil {
		return nil, err
	}
	if err := h.arrives(peerOf(r), rep.Machine); err != nil {
		return nil, err
	}
	rec, err := h.updateRecord(r.Context(), rep)
	if err != nil {
		return nil, err
	}
	return map[string]string{"machine": rec.ID}, h.Activity.Report(r.Context(), rec, rep, h.Now())
}

// checkReport refuses what no agent says.
func checkReport(rep wire.Report) error {
	steps := []wire.Step{wire.StepDevices, wire.StepNetwork, wire.StepDetect, wire.StepUpload, wire.StepConfigure,
		wire.StepTransfer, wire.StepVerify, wire.StepOverlay, wire.StepBootloader, wire.StepReboot, wire.StepUpgrade, wire.StepRollback, wire.StepWipe}
	statuses := []wire.Status{wire.StatusStarted, wire.StatusProgress, wire.StatusNote, wire.StatusDone, wire.StatusFailed, wire.StatusInstalled}
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
	if err := errors.Join(wire.CheckWritten(rep.Disks), wire.CheckWiped(rep.Wiped), wire.CheckForeign(rep.Foreign)); err != nil {
		return refusal.New(refusal.Input, "report: %v", err)
	}
	if rep.Image != (wire.ImageRef{}) {
		if _, err := wire.NewImageRef(rep.Image.Role, rep.Image.Version); err != nil {
			return refusal.New(refusal.Input, "report: %v", err)
		}
	}
	return nil
}

// updateRecord changes the machine's record when the report changes it; most
// reports do not, and wait for nobody.
func (h *Handlers) updateRecord(ctx context.Context, rep wire.Report) (machine.Record, error) {
	decide := func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Report(snapshot, rep)
	}
	out, c, err := decide(h.Snapshot())
	if err == nil && len(c.Records) > 0 {
		var sections []string
		if len(c.Directories) > 0 {
			sections = h.Site.Sections()
		}
		out, err = h.Decide(ctx, decide, transaction.Together, sections...)
	}
	return out.Record, err
}

// orderWipe answers POST /api/v1/wipe. When it answers 200, that the machine has
// begun is on the disk.
func (h *Handlers) orderWipe(r *http.Request) (any, error) {
	var is wire.Identity
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, wire.MaxReportBytes)).Decode(&is); err != nil {
		return nil, refusal.New(refusal.Input, "decode identity: %v", err)
	}
	for i, mac := range is.MACs {
		is.MACs[i] = wire.NormalMAC(mac)
	}
	if err := allocation.CheckIdentity("wipe", is); err != nil {
		return nil, err
	}
	out, err := h.Decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.OrderWipe(snapshot, is)
	}, transaction.Together)
	return wire.WipeOrder{Machine: out.Record.ID, Name: out.Record.DisplayName(), Identity: out.Record.Identity}, err
}
