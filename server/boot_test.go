package server_test

import (
	"fmt"
	"net/http"
	"testing"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestBoot follows what a machine boots through its life.
func TestBoot(t *testing.T) {
	files := seedFiles()
	files["state"] = "[('vm', 2)]\n"
	l := startLab(t, files)
	boots := func(when string, want wire.BootAction) {
		t.Helper()
		if got := l.server.BootAction(mac(1), "03000200-0400-0500-0006-000700080009"); got != want {
			t.Errorf("%s: boots %s, want %s", when, got, want)
		}
	}
	boots("unknown", wire.BootInstall)
	if l.server.Known(mac(1), "") {
		t.Error("a machine that nobody has said anything about is known")
	}
	first := l.mustGet(vm(1))
	if !l.server.Known(mac(1), "") {
		t.Error("a machine that is installed is not known")
	}
	boots("installing", wire.BootInstall)
	l.installed(vm(1))
	boots("installed", wire.BootLocal)
	l.restart()
	boots("installed, after a restart", wire.BootLocal)

	l.boot(idOf(1), "rescue", http.StatusOK)
	boots("rescue", wire.BootRescue)
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepDevices, Status: wire.StatusStarted}, http.StatusOK)
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepNetwork, Status: wire.StatusFailed, Message: "no link"}, http.StatusOK)
	if a := l.upload(vm(1)); a.status != http.StatusConflict {
		t.Errorf("an upload in rescue: status %d", a.status)
	}
	l.boot(idOf(1), "auto", http.StatusOK)
	boots("after the rescue", wire.BootLocal)

	l.boot(idOf(1), "hold", http.StatusOK)
	boots("hold", wire.BootHold)
	l.boot(mac(1), "reinstall", http.StatusOK)
	boots("reinstall", wire.BootInstall)
	l.stateIs("[('vm', 1)]\n")
	l.restart()
	boots("reinstall, after a restart", wire.BootInstall)
	if diff := cmp.Diff(first, l.mustGet(vm(1))); diff != "" {
		t.Errorf("reinstalled with (-first +second):\n%s", diff)
	}
	l.stateIs("[('vm', 1)]\n")
	boots("installing again", wire.BootInstall)
	l.installed(vm(1))
	boots("installed again", wire.BootLocal)

	l.boot(idOf(1), "dance", http.StatusBadRequest)
	l.boot("02-00-00-00-99-99", "hold", http.StatusNotFound)
}

// TestBootTwins: two machines with one UUID are told apart by their addresses.
// When the second comes, it may as well be the first one with a new adapter:
// the operator says which.
func TestBootTwins(t *testing.T) {
	l := startLab(t, seedFiles())
	const uuid = "4c4c4544-0051-3510-8052-b4c04f4d3232"
	one, two := vm(1), vm(2)
	one[3].Value, two[3].Value = uuid, uuid
	l.mustGet(one)
	l.installed(one)
	if got := l.server.BootAction(mac(2), uuid); got != wire.BootLocal {
		t.Errorf("the twin that nobody knows boots %s", got)
	}
	if a := l.upload(two); a.status != http.StatusConflict {
		t.Errorf("the upload of a twin that nobody knows: %d %s", a.status, a.body)
	}
	l.add(mac(2), "", http.StatusCreated)
	if !l.server.Known(mac(2), "") {
		t.Error("a machine that the operator has added is not known")
	}
	if got := l.server.BootAction(mac(2), uuid); got != wire.BootInstall {
		t.Errorf("the twin that is a machine of its own boots %s", got)
	}
	if got := l.server.BootAction("", uuid); got != wire.BootLocal {
		t.Errorf("without an address, while the UUID is unique: %s", got)
	}
	l.mustGet(two)
	if got := l.server.BootAction("", uuid); got != wire.BootInstall {
		t.Errorf("without an address, the UUID twice: %s", got)
	}
}

// TestNotes: what the boot services say comes into the history, also from
// before the machine was known; strangers cannot fill the memory.
func TestNotes(t *testing.T) {
	l := startLab(t, seedFiles())
	l.server.Tell(api.Event{MAC: mac(1), Name: mac(1), Step: "boot", Status: "note", Message: "offered undionly.kpxe"})
	for n := range 3000 {
		l.server.Tell(api.Event{MAC: mac(100 + n), Name: mac(100 + n), Step: "boot", Status: "note", Message: "who is this"})
	}
	l.server.Tell(api.Event{MAC: mac(2), Name: mac(2), Step: "boot", Status: "note", Message: "offered snponly.efi"})
	l.server.Tell(api.Event{Name: "boot services", Step: "boot", Status: "note", Message: "nobody"})
	l.mustGet(vm(1))
	l.mustGet(vm(2))
	l.server.Tell(api.Event{MAC: mac(2), Name: mac(2), Step: "boot", Status: "note", Message: "sent the kernel\nand more"})
	var got []string
	for _, line := range l.machine(idOf(2)).History {
		got = append(got, fmt.Sprintf("%s %s %s", line.Step, line.Status, line.Message))
	}
	want := []string{"boot note offered snponly.efi", "upload note 6 facts", "match done profile vm", "boot note sent the kernel and more"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
}
