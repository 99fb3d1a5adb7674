package server_test

import (
	"net/http"
	"strings"
	"testing"

	"edeploy/server/api"
	"edeploy/server/wire"
)

// TestNow: what a machine is doing now is one sentence, through a whole day.
func TestNow(t *testing.T) {
	l := startLab(t, seedFiles())
	id := vm(1).Identity()
	say := func(rep wire.Report) {
		t.Helper()
		rep.Machine = id
		l.report(rep, http.StatusOK)
	}
	now := func(want string) {
		t.Helper()
		if got := l.machine(idOf(1)).Now; got != want {
			t.Errorf("now %q, want %q", got, want)
		}
	}
	boots := func(notes ...string) {
		l.server.BootAction(mac(1), "")
		for _, note := range notes {
			l.server.Tell(api.Event{MAC: mac(1), Name: mac(1), Step: "boot", Status: "note", Message: note})
		}
	}
	say(wire.Report{Step: wire.StepDevices, Status: wire.StatusStarted})
	now("installing, devices")
	say(wire.Report{Step: wire.StepDevices, Status: wire.StatusDone})
	now("installing, devices done")
	l.mustGet(vm(1))
	say(wire.Report{Step: wire.StepTransfer, Status: wire.StatusStarted})
	say(wire.Report{Step: wire.StepTransfer, Status: wire.StatusProgress, Bytes: 25, TotalBytes: 100})
	if got := l.machine(idOf(1)).Now; !strings.HasPrefix(got, "installing, transfer 25 %") {
		t.Errorf("now %q", got)
	}
	say(wire.Report{Step: wire.StepConfigure, Status: wire.StatusFailed, Message: "configure: vm.configure:3: no disk\nmore"})
	now("FAILED configure: vm.configure:3: no disk")
	boots("boots: install")
	now("booting the installer")
	l.boot(idOf(1), "hold", http.StatusOK)
	boots()
	now("on hold, waiting") // and not the error of the last try
	l.boot(idOf(1), "rescue", http.StatusOK)
	boots("boots: rescue")
	now("booting into the rescue shell")
	l.server.Tell(api.Event{MAC: mac(1), Name: mac(1), Step: "boot", Status: "note", Message: "fetched initrd.pxe, 9 bytes in 0.1 s"})
	now("in rescue shell")
	l.boot(idOf(1), "auto", http.StatusOK)
	boots()
	l.mustGet(vm(1))
	say(wire.Report{Step: wire.StepReboot, Status: wire.StatusInstalled, Image: wire.ImageRef{Role: "mysql", Version: "1"}})
	now("installed")
	boots()
	now("booting its own disk")
	say(wire.Report{Step: wire.StepUpgrade, Status: wire.StatusStarted})
	now("installed, upgrade")
	say(wire.Report{Step: wire.StepUpgrade, Status: wire.StatusFailed, Message: "post: exit status 1"})
	now("installed; failed since: upgrade: post: exit status 1")
	say(wire.Report{Step: wire.StepUpgrade, Status: wire.StatusDone})
	l.boot(idOf(1), "reinstall", http.StatusOK)
	now("installed; to be installed at its next boot")
	l.restart() // what it booted last is forgotten
	now("installed; to be installed at its next boot")
	for range 40 * 60 {
		l.clock.Now()
	}
	now("installed; to be installed at its next boot")
}

// TestSilent: a machine that says nothing is told so.
func TestSilent(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepTransfer, Status: wire.StatusStarted}, http.StatusOK)
	for range 20 * 60 {
		l.clock.Now()
	}
	if got := l.machine(idOf(1)).Now; got != "installing, transfer, silent for 20 min" {
		t.Errorf("now %q", got)
	}
}

// TestHistoryOrder: what comes into the history later stands at its time.
func TestHistoryOrder(t *testing.T) {
	l := startLab(t, seedFiles())
	l.server.Tell(api.Event{MAC: mac(2), Name: mac(2), Step: "boot", Status: "note", Message: "offered snponly.efi"}) // nobody knows whose it is
	l.mustGet(vm(1))
	l.mustGet(append(vm(1), fact("network", "eth1", "serial", mac(2))))
	last := l.machine(idOf(1)).History[0]
	for _, line := range l.machine(idOf(1)).History {
		if line.Time.Before(last.Time) {
			t.Errorf("%v comes after %v", line, last)
		}
		last = line
	}
	if first := l.machine(idOf(1)).History[0]; first.Message != "offered snponly.efi" {
		t.Errorf("the first line is %v", first)
	}
}
