package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"edeploy/server/wire"
)

// order asks whether a machine may erase its disks.
func (l *lab) order(is wire.Identity, want int) (order wire.WipeOrder) {
	l.t.Helper()
	body, err := json.Marshal(is)
	if err != nil {
		l.t.Fatal(err)
	}
	a := l.do("POST", wire.WipePath, "application/json", strings.NewReader(string(body)))
	if a.status != want {
		l.t.Fatalf("order: status %d, want %d: %s", a.status, want, a.body)
	}
	if want == http.StatusOK {
		if err := json.Unmarshal([]byte(a.body), &order); err != nil {
			l.t.Fatal(err)
		}
	}
	return order
}

// TestWipe follows a machine that is taken out of service; the other one is
// untouched.
func TestWipe(t *testing.T) {
	files := seedFiles()
	files["state"] = "[('vm', 2)]\n"
	l := startLab(t, files)
	for n := range 2 {
		l.mustGet(vm(n))
		l.installed(vm(n))
	}
	cmdb := l.read("vm.cmdb")
	say := func(rep wire.Report) {
		t.Helper()
		rep.Machine, rep.Step = vm(1).Identity(), wire.StepWipe
		l.report(rep, http.StatusOK)
	}
	is := func(when, state string, boots wire.BootAction, now string) {
		t.Helper()
		m := l.machine(idOf(1))
		if m.State != state || m.NextBoot != boots || l.server.BootAction(mac(1), "") != boots || !strings.HasPrefix(m.Now, now) {
			t.Errorf("%s: state %s, boots %s, now %q", when, m.State, m.NextBoot, m.Now)
		}
		if m := l.machine(idOf(0)); m.State != "installed" || m.NextBoot != wire.BootLocal || m.Allocation == nil {
			t.Errorf("%s: the other machine: %+v", when, m)
		}
	}

	l.order(vm(1).Identity(), http.StatusConflict) // nobody has said so
	l.boot(idOf(1), "wipe", http.StatusOK)
	is("the operator has said so", "installed", wire.BootWipe, "installed; its disks are erased at its next boot")
	l.order(vm(0).Identity(), http.StatusConflict)
	l.order(vm(7).Identity(), http.StatusConflict)
	if a := l.upload(vm(1)); a.status != http.StatusConflict {
		t.Errorf("an upload meanwhile: status %d", a.status)
	}
	l.boot(idOf(1), "auto", http.StatusOK)
	is("taken back", "installed", wire.BootLocal, "")
	l.order(vm(1).Identity(), http.StatusConflict)

	l.boot(idOf(1), "wipe", http.StatusOK)
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepDetect, Status: wire.StatusDone}, http.StatusOK)
	if order := l.order(vm(1).Identity(), http.StatusOK); order.Machine != idOf(1) || order.Name != "host04" || !order.For(vm(1).Identity()) {
		t.Errorf("order %+v", order)
	}
	l.boot(idOf(1), "auto", http.StatusConflict) // it has begun
	say(wire.Report{Status: wire.StatusStarted})
	say(wire.Report{Status: wire.StatusProgress, Bytes: 43, TotalBytes: 100})
	if now := l.machine(idOf(1)).Now; !strings.HasPrefix(now, "wiping 43 %") {
		t.Errorf("now %q", now)
	}
	l.restart()
	is("after a power cut of both", "wiping", wire.BootWipe, "wiping")
	l.order(vm(1).Identity(), http.StatusOK)
	say(wire.Report{Status: wire.StatusFailed, Message: "sda is broken", Wiped: []wire.WipedDisk{{Name: "sda", Error: "it is broken"}}})
	is("not erased", "wipe-failed", wire.BootHold, "")
	if got := l.read("vm.cmdb"); got != cmdb {
		t.Error("what it holds was given back although its disks are not erased")
	}
	l.boot(idOf(1), "wipe", http.StatusOK)
	l.order(vm(1).Identity(), http.StatusOK)
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepWipe, Status: wire.StatusDone, Wiped: []wire.WipedDisk{{Name: "sda\n"}}}, http.StatusBadRequest)
	done := wire.Report{Status: wire.StatusDone, Seconds: 9, Wiped: []wire.WipedDisk{{Name: "sda", Serial: "S1", Method: "zeros", Bytes: 1, Samples: 1512, Held: 40}}}
	say(done)
	say(done) // its answer was lost
	l.restart()
	is("erased", "wiped", wire.BootHold, "wiped 2026-11-22: sda; on hold")
	m := l.machine(idOf(1))
	if m.Allocation != nil || m.Image != nil || m.LastError != "" || m.Wipe == nil || m.Wipe.Disks[0] != done.Wiped[0] {
		t.Errorf("erased: %+v", m)
	}
	l.stateIs("[('vm', 1)]\n")
	if got := l.read("vm.cmdb"); strings.Count(got, "'used'") != 1 {
		t.Errorf("CMDB:\n%s", got)
	}
	if a := l.upload(vm(1)); a.status != http.StatusConflict {
		t.Errorf("a wiped machine is installed by itself: status %d", a.status)
	}
	l.boot(idOf(1), "auto", http.StatusOK)
	l.mustGet(vm(1))
	if m := l.machine(idOf(1)); m.State != "installing" || m.Wipe != nil {
		t.Errorf("installed again: %+v", m)
	}
}

// TestWipeTwice: two machines that show the same are not told apart, and neither
// is erased.
func TestWipeTwice(t *testing.T) {
	l := startLab(t, seedFiles())
	const uuid = "4c4c4544-0051-3510-8052-b4c04f4d3232"
	one := vm(1)
	one[3].Value = uuid
	l.mustGet(one)
	l.boot(idOf(1), "wipe", http.StatusOK)
	other := vm(2)
	other[3].Value = uuid
	if got := l.server.BootAction(mac(2), uuid); got != wire.BootHold {
		t.Errorf("a machine with the UUID boots %s", got)
	}
	l.order(other.Identity(), http.StatusConflict)
	moved := vm(1) // the adapter in another machine
	moved[3].Value = "4c4c4544-0051-3510-8052-b4c04f4d3299"
	l.order(moved.Identity(), http.StatusConflict)
	found := false
	for _, p := range l.server.Problems() {
		found = found || strings.Contains(p.Text, "wanted to erase its disks, and was refused")
	}
	if !found {
		t.Errorf("no problem says so: %+v", l.server.Problems())
	}
	l.order(one.Identity(), http.StatusOK)
	if a := l.do("POST", wire.WipePath, "application/json", strings.NewReader("{")); a.status != http.StatusBadRequest {
		t.Errorf("no JSON: status %d", a.status)
	}
}

// TestForeign: a profile that asks before it overwrites somebody's data. The
// operator lets pass what it has asked about, once.
func TestForeign(t *testing.T) {
	files := seedFiles()
	files["vm.specs"] = "# edeploy: wipe ask\n" + vmSpecs
	l := startLab(t, files)
	stopped := func(mark wire.DiskID) {
		t.Helper()
		l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepConfigure, Status: wire.StatusFailed, Message: "wipe('ask'): no",
			Foreign: []wire.ForeignDisk{{Disk: "/dev/sdb (SSD)", Holds: "sdb1 ntfs", Mark: mark}}}, http.StatusOK)
		l.fail("vm", vm(1))
	}
	anyway := func(want int) {
		t.Helper()
		if a := l.do("POST", "/api/v1/machines/"+idOf(1)+"/wipe-anyway", "", nil); a.status != want {
			t.Errorf("status %d, want %d: %s", a.status, want, a.body)
		}
	}
	gets := func(disks ...wire.DiskID) {
		t.Helper()
		if c := l.mustGet(vm(1)); c.Wipe != wire.WipeAsk || !slices.Equal(c.Disks, disks) {
			t.Errorf("policy %q, disks %q, want %q", c.Wipe, c.Disks, disks)
		}
	}
	gets()
	anyway(http.StatusConflict)
	stopped("12345678")
	if now := l.machine(idOf(1)).Now; now != "HELD: the disk /dev/sdb (SSD) holds sdb1 ntfs" {
		t.Errorf("now %q", now)
	}
	if p := l.server.Problems(); len(p) != 1 || !strings.Contains(p[0].Text, "the disk /dev/sdb (SSD) holds sdb1 ntfs. If it may be overwritten: edeployctl wipe-anyway "+idOf(1)) {
		t.Errorf("problems %+v", p)
	}
	gets() // it boots, and nobody has said so
	stopped("12345678")
	l.restart()
	anyway(http.StatusOK)
	if m := l.machine(idOf(1)); m.LastError != "" || m.Foreign == nil || !m.Foreign.Anyway || len(l.server.Problems()) > 0 {
		t.Errorf("let pass: %+v, %+v", m, l.server.Problems())
	}
	gets("12345678")
	stopped("99999999") // other data by now
	gets()
	stopped("99999999")
	anyway(http.StatusOK)
	gets("99999999")
	l.installed(vm(1))
	if m := l.machine(idOf(1)); m.Foreign != nil {
		t.Errorf("installed, and %+v", m.Foreign)
	}
	l.boot(idOf(1), "reinstall", http.StatusOK)
	gets()
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepConfigure, Status: wire.StatusFailed, Foreign: []wire.ForeignDisk{{Disk: "x"}}}, http.StatusBadRequest)
}
