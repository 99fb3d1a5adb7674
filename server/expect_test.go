package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/internal/expectation"
	"edeploy/server/wire"
)

// expectingFiles is the seed's configuration, whose profile vm expects the
// hardware of machine 1.
func expectingFiles() map[string]string {
	files := seedFiles()
	files["vm.specs"] = "# edeploy: expect r7\n" + vmSpecs
	files["r7.bill"] = expectation.New(dimm(1), nil).Text()
	return files
}

// dimm is the n-th virtual machine with firmware and a bank.
func dimm(n int) wire.Hardware {
	return append(vm(n), fact("firmware", "bios", "version", "1.1"), fact("memory", "bank:0", "size", "8589934592"))
}

// old is that machine with older firmware.
func old(n int) wire.Hardware {
	h := dimm(n)
	h[len(h)-2].Value = "1.0"
	return h
}

func (l *lab) anyway(n, want int) {
	l.t.Helper()
	if a := l.do("POST", "/api/v1/machines/"+idOf(n)+"/anyway", "", nil); a.status != want {
		l.t.Fatalf("anyway: status %d, want %d: %s", a.status, want, a.body)
	}
}

// held uploads, expects that nothing is given, and answers the sentence.
func (l *lab) held(h wire.Hardware) string {
	l.t.Helper()
	a := l.upload(h)
	if a.status != http.StatusConflict {
		l.t.Fatalf("status %d: %s", a.status, a.body)
	}
	return wire.ParseRefusal(a.body)
}

// TestExpectedHardware: a machine that fits and differs is held, takes nothing,
// and is told about everywhere with what mends it.
func TestExpectedHardware(t *testing.T) {
	files := expectingFiles()
	files["state"] = "[('vm', 2), ('hp', 4)]\n"
	l := startLab(t, files)
	if c := l.mustGet(dimm(1)); c.Profile != "vm" {
		t.Fatalf("the good machine gets %s", c.Profile)
	}
	before := l.read("state") + l.read("vm.cmdb")
	said := l.held(old(2))
	for _, want := range []string{"fits profile vm", "differs from r7.bill in 1 property", "\n  firmware bios version: 1.0 instead of 1.1"} {
		if !strings.Contains(said, want) {
			t.Errorf("the console lacks %q: %s", want, said)
		}
	}
	if after := l.read("state") + l.read("vm.cmdb"); after != before {
		t.Errorf("it took something:\n%s\n%s", before, after)
	}
	m := l.machine(idOf(2))
	if m.Allocation != nil || m.Differs == nil || m.Differs.Count() != 1 || m.Differs.Anyway || m.NextBoot != wire.BootInstall {
		t.Errorf("%+v", m)
	}
	if !strings.HasPrefix(m.Now, "HELD: its hardware differs from r7.bill in 1 property") || !strings.Contains(m.History[len(m.History)-1].Message, "1.0 instead of 1.1") {
		t.Errorf("%s: %+v", m.Now, m.History)
	}
	for _, want := range []string{"firmware bios version: 1.0 instead of 1.1", "edeployctl expect r7 " + idOf(2), "edeployctl install-anyway " + idOf(2)} {
		if !l.problemSays(want) {
			t.Errorf("no problem says %q:\n%s", want, l.problemTexts())
		}
	}
	// The agent says at last that it got nothing: the list stays.
	l.report(wire.Report{Machine: old(2).Identity(), Step: wire.StepUpload, Status: wire.StatusFailed, Message: "refused"}, http.StatusOK)
	if m := l.machine(idOf(2)); m.Differs == nil || !strings.HasPrefix(m.Now, "HELD") {
		t.Errorf("after the agent's report: %+v", m)
	}
	l.restart()
	if l.machine(idOf(2)).Differs == nil {
		t.Error("forgotten by a restart")
	}
	l.mustGet(dimm(2)) // somebody has mended it
	if m := l.machine(idOf(2)); m.Differs != nil || m.State != "installing" || l.problemSays("is held") {
		t.Errorf("%+v", m)
	}
}

// TestInstallAnyway: the operator lets pass what differs, for one machine, until
// it is installed, and nothing else.
func TestInstallAnyway(t *testing.T) {
	l := startLab(t, expectingFiles())
	l.mustGet(dimm(1))
	l.anyway(1, http.StatusConflict) // it is not held
	if a := l.do("POST", "/api/v1/machines/02-99/anyway", "", nil); a.status != http.StatusNotFound {
		t.Errorf("unknown machine: %d", a.status)
	}
	l.held(old(2))
	l.held(old(3))
	l.anyway(2, http.StatusOK)
	if m := l.machine(idOf(2)); m.Now != "to be installed at its next boot, though its hardware differs from r7.bill in 1 property" {
		t.Error(m.Now)
	}
	if l.problemSays("machine " + idOf(2)) {
		t.Errorf("it is still a problem:\n%s", l.problemTexts())
	}
	other := old(2)
	other[len(other)-1].Value = "4"
	if said := l.held(other); !strings.Contains(said, "2 properties") {
		t.Errorf("another difference: %s", said)
	}
	l.held(old(2)) // what was let pass was forgotten when something else differed
	l.anyway(2, http.StatusOK)
	l.mustGet(old(2))
	l.mustGet(old(2)) // it was switched off meanwhile
	if m := l.machine(idOf(2)); m.Differs == nil || !m.Differs.Anyway || m.Now != "installing" {
		t.Errorf("%+v", m)
	}
	l.installed(old(2))
	if m := l.machine(idOf(2)); m.Differs != nil {
		t.Errorf("installed: %+v", m.Differs)
	}
	l.boot(idOf(2), "reinstall", http.StatusOK)
	l.held(old(2))
	if m := l.machine(idOf(2)); m.State != "installed" || m.Allocation == nil {
		t.Errorf("held at its reinstallation, it is %s and holds %v", m.State, m.Allocation)
	}
	l.held(old(3))
}

// TestNewBill: a bill is brought with the rest of the configuration; machines
// that were held get what they ask for when they equal the new one.
func TestNewBill(t *testing.T) {
	l := startLab(t, expectingFiles())
	l.held(old(2))
	a := l.do("PUT", "/api/v1/config/SERVER/r7.bill", "", strings.NewReader("{'facts': [('a', 'b')]}"))
	if a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "r7.bill:1:12") {
		t.Errorf("a broken bill: %d %s", a.status, a.body)
	}
	if a := l.do("PUT", "/api/v1/config/SERVER/r7.bill", "", strings.NewReader(expectation.New(old(2), nil).Text())); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	l.mustGet(old(2))
	l.held(dimm(3))
}

// TestMissingBill: without its bill a profile is given to nobody; after a broken
// edit the last good one stays in use.
func TestMissingBill(t *testing.T) {
	files := expectingFiles()
	bill := files["r7.bill"]
	delete(files, "r7.bill")
	l := startLab(t, files)
	if a := l.upload(dimm(1)); a.status != http.StatusServiceUnavailable || !strings.Contains(wire.ParseRefusal(a.body), "expects the hardware of r7.bill, which cannot be had") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if !l.problemSays("edeployctl expect r7 ID makes it from a good machine") {
		t.Error(l.problemTexts())
	}
	l.write("r7.bill", bill)
	l.mustGet(dimm(1))
	l.write("r7.bill", "{'facts': [")
	l.mustGet(dimm(2))
	l.held(old(3))
	if !l.problemSays("r7.bill:1:") {
		t.Error(l.problemTexts())
	}
}

// expect imports a list.
func (l *lab) expect(list string, want int) answer {
	l.t.Helper()
	a := l.do("POST", "/api/v1/expected", "text/csv", strings.NewReader(list))
	if a.status != want {
		l.t.Fatalf("status %d, want %d: %s", a.status, want, a.body)
	}
	return a
}

// TestExpectedMachines: machines are listed before they come, are told by
// address or serial when they do, and take name, place and deployment.
func TestExpectedMachines(t *testing.T) {
	l := startTwo(t)
	l.mustGet(vm(9))
	list := mac(1) + ",rack1-1,LAB,R1,1\nCZ2D1X0F3K,rack1-2,LAB,R1,2\n" + mac(3) + ",rack1-3\n" + mac(9) + ",rack1-9,,R1,9\n"
	for _, want := range []string{`"added": 3,`, `"unchanged": 4`} {
		if a := l.expect(list, http.StatusOK); !strings.Contains(a.body, want) {
			t.Errorf("%s, want %s", a.body, want)
		}
	}
	names := map[string]string{}
	for _, m := range l.machines() {
		names[m.DisplayName] = m.Now
	}
	for _, name := range []string{"rack1-1", "rack1-2", "rack1-3"} {
		if names[name] != "not come yet" {
			t.Errorf("%s: %v", name, names)
		}
	}
	if m := l.machine("rack1-9"); m.Expected.Place() != "rack R1 unit 9" || m.Expected.Came.IsZero() || m.DisplayName != "host03" {
		t.Errorf("a known one: %+v", m)
	}
	if got := l.server.BootSection(mac(1), ""); got != "LAB" {
		t.Errorf("rack1-1 boots for %s", got)
	}
	bySerial := vm(2)
	bySerial[2].Value = "cz2d1x0f3k"
	for n, h := range map[string]wire.Hardware{"rack1-1": vm(1), "rack1-2": bySerial, "rack1-3": vm(3)} {
		if a := l.upload(h); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", n, a.status, a.body)
		}
		m := l.machine(n)
		if m.Expected == nil || m.Expected.Came.IsZero() || m.State != "installing" || m.ID != strings.ReplaceAll(h.Identity().MACs[0], ":", "-") {
			t.Errorf("%s: %+v", n, m)
		}
		if want := map[string]string{"rack1-3": "SERVER"}[n]; m.Section != want && (want != "" || m.Section != "LAB") {
			t.Errorf("%s is of %s", n, m.Section)
		}
	}
	if all := l.machines(); len(all) != 4 {
		t.Errorf("%d machines, want 4", len(all))
	}
}

// TestExpectedBySerialReports: a machine that is expected by its serial is told
// by a report, too, and what the operator has set for it goes along.
func TestExpectedBySerialReports(t *testing.T) {
	l := startLab(t, seedFiles())
	l.expect("CZ2D1X0F3K,node2\n", http.StatusOK)
	l.boot("node2", "hold", http.StatusOK)
	h := vm(2)
	h[2].Value = "CZ2D1X0F3K"
	l.report(wire.Report{Machine: h.Identity(), Step: wire.StepDetect, Status: wire.StatusDone}, http.StatusOK)
	if m := l.machine(idOf(2)); m.DisplayName != "node2" || m.Boot != "hold" || len(l.machines()) != 1 {
		t.Errorf("%+v of %d", m, len(l.machines()))
	}
	if said := l.held(h); !strings.Contains(said, "hold") {
		t.Error(said)
	}
}

// TestBadLists: a list with a mistake changes nothing, and the line is named.
func TestBadLists(t *testing.T) {
	l := newLab(t, seedFiles())
	l.limits = server.Limits{Machines: 5}
	l.start()
	twin := func(n int) wire.Hardware {
		h := vm(n)
		h[2].Value, h[3].Value = "CHASSIS", fmt.Sprintf("4c4c4544-0000-1000-8000-00000000000%d", n)
		return h
	}
	l.mustGet(twin(1))
	l.mustGet(twin(2))
	l.expect(mac(7)+",node7\n", http.StatusOK)
	before := l.do("GET", "/api/v1/machines", "", nil).body
	for _, tt := range []struct {
		list   string
		status int
		err    string
	}{
		{mac(3) + "\nx y z,a,b,c,d,e\n", http.StatusUnprocessableEntity, "line 2: it has 6 fields"},
		{mac(3) + "\n" + mac(4) + ",node4,NOSUCH\n", http.StatusUnprocessableEntity, "line 2: edeploy.conf has no section \\\"NOSUCH\\\""},
		{mac(3) + "\nCHASSIS,x\n", http.StatusUnprocessableEntity, "line 2: 2 machines have the serial CHASSIS"},
		{mac(3) + ",node7\n", http.StatusUnprocessableEntity, "line 1: machine " + idOf(7) + " is called node7 already"},
		{mac(3) + "\n" + mac(4) + "\n" + mac(5) + "\n", http.StatusConflict, "the list has 3 new machines, the server knows 3 and takes 5"},
		{strings.Repeat("x", 2<<20), http.StatusRequestEntityTooLarge, "bytes"},
	} {
		if a := l.expect(tt.list, tt.status); !strings.Contains(a.body, tt.err) {
			t.Errorf("%.40q: %s, want %s", tt.list, a.body, tt.err)
		}
		if after := l.do("GET", "/api/v1/machines", "", nil).body; after != before {
			t.Errorf("%.40q changes something", tt.list)
		}
	}
}

// TestLongList: more machines than a shared store takes at once.
func TestLongList(t *testing.T) {
	l := startLab(t, seedFiles())
	var list strings.Builder
	for n := range 450 {
		fmt.Fprintf(&list, "%s,node%d,,R%d,%d\n", mac(n), n, n/40, n%40)
	}
	if a := l.expect(list.String(), http.StatusOK); !strings.Contains(a.body, `"added": 450`) {
		t.Error(a.body)
	}
	var imported api.Imported
	if err := unmarshal(l.expect(list.String(), http.StatusOK).body, &imported); err != nil || imported.Unchanged != 450 || len(l.machines()) != 450 {
		t.Errorf("again: %+v, %v", imported, err)
	}
}
