package server_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestReports: steps come into the history, progress into memory, the state
// onto the disk.
func TestReports(t *testing.T) {
	l := startLab(t, seedFiles())
	is := vm(1).Identity()
	say := func(step wire.Step, status wire.Status, rep wire.Report) {
		t.Helper()
		rep.Machine, rep.Step, rep.Status = is, step, status
		l.report(rep, http.StatusOK)
	}
	state := func(want string) {
		t.Helper()
		if got := l.machine(idOf(1)).State; got != want {
			t.Errorf("state is %s, want %s", got, want)
		}
	}
	say(wire.StepDevices, wire.StatusStarted, wire.Report{})
	state("installing")
	say(wire.StepDevices, wire.StatusFailed, wire.Report{Message: "no disk"})
	state("failed")
	if got := l.machine(idOf(1)).LastError; got != "devices: no disk" {
		t.Errorf("last error is %q", got)
	}
	say(wire.StepDevices, wire.StatusProgress, wire.Report{Message: "late words"})
	state("failed")
	say(wire.StepDevices, wire.StatusStarted, wire.Report{})
	state("installing")
	l.mustGet(vm(1))
	say(wire.StepTransfer, wire.StatusStarted, wire.Report{})
	say(wire.StepTransfer, wire.StatusProgress, wire.Report{Bytes: 100, TotalBytes: 400})
	say(wire.StepTransfer, wire.StatusProgress, wire.Report{Bytes: 300, TotalBytes: 400})
	want := &api.Progress{Step: "transfer", Status: "progress", Bytes: 300, TotalBytes: 400, Percent: 75}
	got := l.machine(idOf(1)).Progress
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(api.Progress{}, "Started", "Updated", "BytesPerSecond")); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if got.BytesPerSecond <= 0 || got.BytesPerSecond > 200 || !got.Started.Before(got.Updated) {
		t.Errorf("rate %v, started %v, updated %v", got.BytesPerSecond, got.Started, got.Updated)
	}
	say(wire.StepTransfer, wire.StatusNote, wire.Report{Message: "a word"})
	if again := l.machine(idOf(1)).Progress; again.Percent != 75 || again.Status != "progress" {
		t.Errorf("progress after a note: %+v", again)
	}
	say(wire.StepTransfer, wire.StatusDone, wire.Report{Seconds: 3.5, Bytes: 400, TotalBytes: 400})
	say(wire.StepReboot, wire.StatusInstalled, wire.Report{BootDisk: "12345678", Image: wire.ImageRef{Role: "mysql", Version: "1"}})
	state("installed")
	say(wire.StepReboot, wire.StatusDone, wire.Report{})

	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepReboot, Status: wire.StatusInstalled, BootDisk: "${net0/ip}"}, http.StatusBadRequest)
	l.restart() // everything but the progress is on the disk
	state("installed")
	if got := l.server.BootDisks(vm(1).Identity().MACs[0], ""); !slices.Equal(got, []wire.DiskID{"12345678"}) {
		t.Errorf("boot disk %q, want 12345678", got)
	}
	m := l.machine(idOf(1))
	if m.Progress != nil || m.Image == nil || m.LastError != "" {
		t.Errorf("after a restart: %+v", m)
	}
	var steps []string
	for _, line := range m.History {
		steps = append(steps, fmt.Sprintf("%s %s %g", line.Step, line.Status, line.Seconds))
	}
	wantSteps := []string{"devices started 0", "devices failed 0", "devices started 0", "upload note 0", "match done 0",
		"transfer started 0", "transfer note 0", "transfer done 3.5", "installation installed 0", "reboot done 0"}
	if diff := cmp.Diff(wantSteps, steps); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}

// TestUpgradeReports: an upgrade changes the image when it is done, tells why
// when it is not, and never what the machine boots.
func TestUpgradeReports(t *testing.T) {
	old, next := wire.ImageRef{Role: "mysql", Version: "1"}, wire.ImageRef{Role: "mysql", Version: "2"}
	l := startLab(t, seedFiles())
	say := func(n int, step wire.Step, status wire.Status, image wire.ImageRef) {
		t.Helper()
		l.report(wire.Report{Machine: vm(n).Identity(), Step: step, Status: status, Image: image, Message: "post: exit status 1"}, http.StatusOK)
	}
	is := func(n int, state string, image *wire.ImageRef, lastError string) {
		t.Helper()
		m := l.machine(idOf(n))
		if diff := cmp.Diff(image, m.Image); m.State != state || diff != "" || m.LastError != lastError {
			t.Errorf("state %s, last error %q, want %s, %q; image (-want +got):\n%s", m.State, m.LastError, state, lastError, diff)
		}
	}
	l.mustGet(vm(1))
	say(1, wire.StepUpgrade, wire.StatusStarted, next)
	is(1, "installing", nil, "") // somebody else's words: it is not yet installed
	say(1, wire.StepReboot, wire.StatusInstalled, old)
	say(1, wire.StepUpgrade, wire.StatusStarted, next)
	is(1, "installed", &old, "")
	say(1, wire.StepUpgrade, wire.StatusFailed, next)
	is(1, "installed", &old, "upgrade: post: exit status 1")
	say(1, wire.StepUpgrade, wire.StatusDone, next)
	is(1, "installed", &next, "")
	say(1, wire.StepRollback, wire.StatusDone, old)
	l.restart()
	is(1, "installed", &old, "")

	say(2, wire.StepUpgrade, wire.StatusStarted, next)
	is(2, "installed", nil, "") // installed by a server that has been replaced
}

func TestReportEvents(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepTransfer, Status: wire.StatusProgress, Bytes: 1, TotalBytes: 4}, http.StatusOK)
	var got []string
	now, cancel := context.WithCancel(t.Context())
	cancel() // those that have happened
	for _, e := range l.server.Events(now, 0) {
		got = append(got, fmt.Sprintf("%s %s %s %s %g", e.Machine, e.Name, e.Step, e.Status, e.Percent))
	}
	want := []string{idOf(1) + " host03 upload note 0", idOf(1) + " host03 match done 0", idOf(1) + " host03 transfer progress 25"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestBadReports(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	stranger := vm(1).Identity()
	stranger.UUID, stranger.Serial = "4c4c4544-0051-3510-8052-b4c04f4d3232", "SN7"
	stranger.MACs = append(stranger.MACs, mac(60), mac(61), mac(62))
	known := vm(2)
	known[3].Value, known[2].Value = "4c4c4544-0051-3510-8052-b4c04f4d3233", "SN8"
	l.mustGet(known)
	stranger.MACs[0] = mac(2)
	for _, tt := range []struct {
		name   string
		rep    wire.Report
		status int
	}{
		{"unknown step", wire.Report{Machine: vm(1).Identity(), Step: "dance", Status: wire.StatusDone}, http.StatusBadRequest},
		{"unknown status", wire.Report{Machine: vm(1).Identity(), Step: wire.StepDetect, Status: "glad"}, http.StatusBadRequest},
		{"negative bytes", wire.Report{Machine: vm(1).Identity(), Step: wire.StepDetect, Status: wire.StatusProgress, Bytes: -1}, http.StatusBadRequest},
		{"image outside", wire.Report{Machine: vm(1).Identity(), Step: wire.StepDetect, Status: wire.StatusDone, Image: wire.ImageRef{Role: "../x", Version: "1"}}, http.StatusBadRequest},
		{"nobody", wire.Report{Step: wire.StepDetect, Status: wire.StatusDone}, http.StatusUnprocessableEntity},
		{"with an address of another machine", wire.Report{Machine: stranger, Step: wire.StepReboot, Status: wire.StatusInstalled}, http.StatusConflict},
	} {
		t.Run(tt.name, func(t *testing.T) { l.report(tt.rep, tt.status) })
	}
	for name, body := range map[string]string{
		"no JSON":        "{",
		"other protocol": `{"protocol": 99, "machine": {"macs": ["02:00:00:00:00:01"]}, "step": "detect", "status": "done"}`,
		"too large":      `{"protocol": 1, "message": "` + strings.Repeat("x", wire.MaxReportBytes) + `"}`,
	} {
		if a := l.do("POST", wire.ReportPath, "application/json", strings.NewReader(body)); a.status != http.StatusBadRequest || !strings.Contains(a.body, `"error"`) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if got := len(l.machines()); got != 2 {
		t.Errorf("bad reports made machines: there are %d", got)
	}
}

// TestWrittenDisks: a machine that comes back hears which disks its
// installations have written, also one that failed.
func TestWrittenDisks(t *testing.T) {
	l := startLab(t, seedFiles())
	is := vm(1).Identity()
	if got := l.mustGet(vm(1)).Disks; len(got) > 0 {
		t.Errorf("a new machine hears of the disks %q", got)
	}
	l.report(wire.Report{Machine: is, Step: wire.StepConfigure, Status: wire.StatusFailed, Message: "x", Disks: []wire.DiskID{"aaaa0001", "1234-5678"}}, http.StatusOK)
	l.report(wire.Report{Machine: is, Step: wire.StepDevices, Status: wire.StatusStarted}, http.StatusOK)
	if diff := cmp.Diff([]wire.DiskID{"aaaa0001", "1234-5678"}, l.mustGet(vm(1)).Disks); diff != "" {
		t.Errorf("after a failure (-want +got):\n%s", diff)
	}
	l.report(wire.Report{Machine: is, Step: wire.StepReboot, Status: wire.StatusInstalled, BootDisk: "aaaa0003", Disks: []wire.DiskID{"aaaa0002"}}, http.StatusOK)
	l.restart()
	l.boot(idOf(1), "reinstall", http.StatusOK)
	if diff := cmp.Diff([]wire.DiskID{"aaaa0003", "aaaa0002"}, l.mustGet(vm(1)).Disks); diff != "" {
		t.Errorf("after an installation (-want +got):\n%s", diff)
	}
	for _, bad := range [][]wire.DiskID{{""}, {"a b"}, {"a\n#EDEPLOY_SCRIPT = x"}, make([]wire.DiskID, wire.MaxDisks+1)} {
		l.report(wire.Report{Machine: is, Step: wire.StepConfigure, Status: wire.StatusDone, Disks: bad}, http.StatusBadRequest)
	}
}
