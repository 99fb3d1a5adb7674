package server_test

import (
	"net/http"
	"strings"
	"testing"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

const genuineUUID = "4c4c4544-0051-3510-8052-b4c04f4d3232"

// add says that an address is a machine of its own, or belongs to one.
func (l *lab) add(mac, owner string, want int) {
	l.t.Helper()
	a := l.do("POST", "/api/v1/machines", "application/json", strings.NewReader(`{"mac": "`+mac+`", "machine": "`+owner+`"}`))
	if a.status != want {
		l.t.Fatalf("add %s %s: status %d, want %d: %s", mac, owner, a.status, want, a.body)
	}
}

// withSerial gives a description the serial SN1.
func withSerial(h wire.Hardware) wire.Hardware {
	h[2].Value = "SN1"
	return h
}

// genuine is vm with a UUID of its own and further adapters.
func genuine(n int, more ...int) wire.Hardware {
	h := vm(n)
	h[3].Value = genuineUUID
	for _, m := range more {
		h = append(h, fact("network", "eth9", "serial", mac(m)))
	}
	return h
}

// TestKept: whatever an installed machine looks like, its disk stays as it is
// until the operator says otherwise; by the script as by the upload.
func TestKept(t *testing.T) {
	replaced := genuine(7) // its only adapter was replaced
	placeholder := append(vm(1), fact("network", "eth1", "serial", mac(8)))
	foreign := append(vm(9), fact("network", "eth1", "serial", mac(1))) // a machine that has its adapter now
	foreign[2].Value, foreign[3].Value = "SN9", "4c4c4544-0051-3510-8052-b4c04f4d3299"
	noAdapter := genuine(1)[:5]
	for _, tt := range []struct {
		name  string
		first wire.Hardware
		boot  string // action that the operator has set
		state string
		mac   string // that asks what to boot
		then  wire.Hardware
		boots wire.BootAction
		says  string // in the refusal of the upload; "": it gets its configuration
	}{
		{"itself", genuine(1), "auto", "installed", mac(1), genuine(1), wire.BootLocal, "edeployctl reinstall " + idOf(1)},
		{"a card was added", genuine(1), "auto", "installed", mac(2), genuine(1, 2), wire.BootLocal, "edeployctl reinstall " + idOf(1)},
		{"a card was added, placeholders", vm(1), "auto", "installed", mac(1), placeholder, wire.BootLocal, "edeployctl reinstall " + idOf(1)},
		{"the only card was replaced", genuine(1), "auto", "installed", mac(7), replaced, wire.BootLocal, "edeployctl machines add " + mac(7) + " --to " + idOf(1)},
		{"the only card was replaced, to be reinstalled", genuine(1), "reinstall", "installed", mac(7), replaced, wire.BootInstall, "--to " + idOf(1)},
		{"its card in another machine", genuine(1), "auto", "installed", mac(1), foreign, wire.BootLocal, "edeployctl machines add " + mac(9)},
		{"the only card was replaced, serial only", withSerial(vm(1)), "auto", "installed", mac(1), withSerial(vm(7)), wire.BootLocal, "shows the serial of"},
		{"no card", genuine(1), "auto", "installed", "", noAdapter, wire.BootLocal, "edeployctl machines add MAC"},
		{"reinstall", genuine(1), "reinstall", "installed", mac(2), genuine(1, 2), wire.BootInstall, ""},
		{"local", genuine(1), "local", "installed", mac(2), genuine(1, 2), wire.BootLocal, "to local"},
		{"on hold before its installation", genuine(1), "hold", "installing", mac(7), replaced, wire.BootHold, "has set to hold"},
		{"the agent asks again", genuine(1), "auto", "installing", mac(2), genuine(1, 2), wire.BootInstall, ""},
		{"failed", genuine(1), "auto", "failed", mac(1), genuine(1), wire.BootInstall, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := startLab(t, seedFiles())
			l.mustGet(tt.first)
			switch tt.state {
			case "installed":
				l.installed(tt.first)
			case "failed":
				l.fail("vm", tt.first)
			}
			l.boot(idOf(1), tt.boot, http.StatusOK)
			before := l.machine(idOf(1))
			if got := l.server.BootAction(tt.mac, genuineUUID); got != tt.boots {
				t.Errorf("boots %s, want %s", got, tt.boots)
			}
			a := l.upload(tt.then)
			if tt.says == "" {
				if a.status != http.StatusOK {
					t.Errorf("upload: %d %s", a.status, wire.ParseRefusal(a.body))
				}
				return
			}
			if text := wire.ParseRefusal(a.body); a.status != http.StatusConflict || !strings.Contains(text, tt.says) {
				t.Errorf("upload: %d %q, want %q", a.status, text, tt.says)
			}
			l.restart()
			after := l.machine(idOf(1))
			if after.State != before.State || !cmp.Equal(after.Allocation, before.Allocation) || len(l.machines()) != 1 {
				t.Errorf("before: %+v\nafter: %+v, of %d machines", before, after, len(l.machines()))
			}
		})
	}
}

// TestKeptReport: an agent that knows the new card alone makes no second
// machine of it, which would make the UUID worthless.
func TestKeptReport(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(genuine(1))
	l.installed(genuine(1))
	l.report(wire.Report{Machine: genuine(7).Identity(), Step: wire.StepDevices, Status: wire.StatusStarted}, http.StatusConflict)
	l.report(wire.Report{Machine: genuine(7).Identity(), Step: wire.StepReboot, Status: wire.StatusInstalled}, http.StatusConflict)
	if got := len(l.machines()); got != 1 {
		t.Errorf("%d machines, want 1", got)
	}
	l.add(mac(7), idOf(1), http.StatusCreated)
	l.report(wire.Report{Machine: genuine(7).Identity(), Step: wire.StepUpgrade, Status: wire.StatusDone, Image: wire.ImageRef{Role: "mysql", Version: "2"}}, http.StatusOK)
	if m := l.machine(idOf(1)); m.State != "installed" || m.Image.Version != "2" || len(m.MACs) != 2 {
		t.Errorf("with its new card: %+v", m)
	}
	l.boot(idOf(1), "reinstall", http.StatusOK)
	if a := l.upload(genuine(7)); a.status != http.StatusOK {
		t.Errorf("with the new card alone, to be reinstalled: %d %s", a.status, wire.ParseRefusal(a.body))
	}
}

// TestLateFailure: a failure report that comes after the machine was installed
// changes nothing.
func TestLateFailure(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	l.installed(vm(1))
	if a := l.fail("vm", vm(1)); a.status != http.StatusConflict || !strings.Contains(a.body, "is installed since") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if m := l.machine(idOf(1)); m.State != "installed" || m.Allocation == nil || m.NextBoot != wire.BootLocal {
		t.Errorf("after it: %+v", m)
	}
}

// TestKeptProblem: the operator is told, by the script's request alone.
func TestKeptProblem(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(genuine(1))
	l.installed(genuine(1))
	l.server.BootAction(mac(7), genuineUUID)
	want := "edeployctl machines add " + mac(7)
	for _, p := range l.server.Problems() {
		if strings.Contains(p.Text, want) {
			return
		}
	}
	t.Errorf("no problem says %q: %+v", want, l.server.Problems())
}

// TestOwnAddress: the operator may say it twice, and of an adapter that moved.
func TestOwnAddress(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(genuine(1, 2))
	l.installed(genuine(1, 2))
	l.add(mac(2), "", http.StatusCreated)
	l.add(mac(2), "", http.StatusCreated)
	moved := vm(3)
	moved[5].Value = mac(2)
	moved[3].Value = "4c4c4544-0051-3510-8052-b4c04f4d3299"
	l.mustGet(moved)
	if got := len(l.machines()); got != 2 {
		t.Errorf("%d machines, want 2", got)
	}
	if m := l.machine(idOf(1)); m.State != "installed" || len(m.MACs) != 1 {
		t.Errorf("the machine that lost an adapter: %+v", m)
	}
	l.add("nonsense", "", http.StatusBadRequest)
	l.add(mac(2), "nobody", http.StatusNotFound)
}

// TestNames: a name that lists show is taken wherever an id is; a failed
// machine keeps it, and one that is given to another means the other.
func TestNames(t *testing.T) {
	files := seedFiles()
	files["vm.cmdb"] = "[{'ip': '10.0.0.1', 'hostname': 'node10'}]\n"
	l := startLab(t, files)
	l.mustGet(vm(1))
	if m := l.machine("node10"); m.ID != idOf(1) {
		t.Errorf("node10 is %s", m.ID)
	}
	l.boot("NODE10", "hold", http.StatusOK)
	l.boot("node10", "auto", http.StatusOK)
	l.fail("vm", vm(1))
	if m := l.machine("node10"); m.ID != idOf(1) || m.DisplayName != "node10" || m.State != "failed" {
		t.Errorf("after its failure: %+v", m)
	}
	l.mustGet(vm(2))
	if m := l.machine("node10"); m.ID != idOf(2) {
		t.Errorf("node10 is %s, want who holds the name", m.ID)
	}
	l.fail("vm", vm(2))
	a := l.do("GET", "/api/v1/machines/node10", "", nil)
	if a.status != http.StatusConflict || !strings.Contains(a.body, idOf(1)+" "+idOf(2)) {
		t.Errorf("of two that failed: %d %s", a.status, a.body)
	}
	l.boot("node11", "hold", http.StatusNotFound)
}

// TestFailedReinstallation: what an installed machine holds stays with it.
func TestFailedReinstallation(t *testing.T) {
	files := seedFiles()
	files["state"] = "[('vm', 1)]\n"
	l := startLab(t, files)
	first := variables(t, l.mustGet(vm(1)))
	l.installed(vm(1))
	l.boot(idOf(1), "reinstall", http.StatusOK)
	l.mustGet(vm(1))
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepConfigure, Status: wire.StatusFailed, Message: "name disk is not defined"}, http.StatusOK)
	if a := l.fail("vm", vm(1)); a.status != http.StatusOK {
		t.Errorf("failure report: %d %s", a.status, a.body)
	}
	l.stateIs("[('vm', 0)]\n")
	var m api.Machine
	if m = l.machine(idOf(1)); m.State != "failed" || m.Allocation == nil {
		t.Errorf("after it: %+v", m)
	}
	if diff := cmp.Diff(first, variables(t, l.mustGet(vm(1)))); diff != "" {
		t.Errorf("asked again (-first +again):\n%s", diff)
	}
}
