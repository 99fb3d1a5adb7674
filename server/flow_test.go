package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestSeed runs the seed's profile through the life of one machine.
func TestSeed(t *testing.T) {
	l := startLab(t, seedFiles())
	first := l.mustGet(vm(1))
	want := map[string]any{"edeploy-profile": "vm", "disk": "vda", "eth": "eth0", "mac": mac(1),
		"ip": "192.168.122.3", "hostname": "host03", "gateway": "192.168.122.1", "netmask": "255.255.255.0", "used": int64(1)}
	if diff := cmp.Diff(want, variables(t, first)); diff != "" {
		t.Errorf("var (-want +got):\n%s", diff)
	}
	if first.Profile != "vm" || first.Script != vmConfigure {
		t.Errorf("profile %s, script %q", first.Profile, first.Script)
	}
	if got := l.read("vm.cmdb.orig"); got != vmCMDB {
		t.Errorf("vm.cmdb.orig is %q", got)
	}
	if got := l.read("state"); got != "[('hp', 4), ('vm', '*')]\n" {
		t.Errorf("state is %q", got)
	}

	cmdb := l.read("vm.cmdb")
	if diff := cmp.Diff(first, l.mustGet(vm(1))); diff != "" {
		t.Errorf("asked again (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(cmdb, l.read("vm.cmdb")); diff != "" {
		t.Errorf("CMDB after the second time (-want +got):\n%s", diff)
	}
	if second := variables(t, l.mustGet(vm(2))); second["ip"] != "192.168.122.4" {
		t.Errorf("the second machine got %v", second["ip"])
	}

	l.installed(vm(1))
	m := l.machine(idOf(1))
	if m.State != "installed" || m.NextBoot != wire.BootLocal || m.DisplayName != "host03" || m.Image == nil || m.Image.Role != "mysql" {
		t.Errorf("after the installation: %+v", m)
	}
}

// TestHardwareFile: the description is kept as a Python literal under a clean
// name.
func TestHardwareFile(t *testing.T) {
	l := startLab(t, seedFiles())
	h := vm(1)
	h[2].Value = "SN/00-9"
	h[5].Value = "../../../" + mac(1) // no MAC address, but part of the name
	h = append(h, fact("network", "eth1", "serial", mac(2)))
	l.upload(h)
	got := l.read("RackNodeR7-SN009-" + idOf(1) + ".hw")
	if !strings.HasPrefix(got, "[('disk', 'vda', 'size', '40'),\n ('system', ") {
		t.Errorf("got %q", got)
	}
}

// TestCounts: a count is taken once for a machine, and given back once.
func TestCounts(t *testing.T) {
	files := map[string]string{"state": "[('db', 1), ('web', '*')]\n", "db.specs": vmSpecs, "db.configure": "set_role('db', '1', 'x')\n",
		"web.specs": vmSpecs, "web.configure": "set_role('web', '1', 'x')\n", "db.cmdb": "[{'ip': '10.0.0.1'}]\n"}
	l := startLab(t, files)
	for range 3 {
		if got := l.mustGet(vm(1)); got.Profile != "db" {
			t.Fatalf("got %s, want db", got.Profile)
		}
	}
	if got := l.mustGet(vm(2)); got.Profile != "web" {
		t.Errorf("second machine: got %s, want web", got.Profile)
	}
	l.stateIs("[('db', 0), ('web', '*')]\n")

	for _, tt := range []struct {
		name    string
		profile string
		machine int
		status  int
		state   string
	}{
		{"of a machine that holds something else", "db", 2, http.StatusConflict, "[('db', 0), ('web', '*')]\n"},
		{"of a machine nobody knows", "db", 9, http.StatusOK, "[('db', 0), ('web', '*')]\n"},
		{"of an unlimited profile", "web", 2, http.StatusOK, "[('db', 0), ('web', '*')]\n"},
		{"of the holder", "db", 1, http.StatusOK, "[('db', 1), ('web', '*')]\n"},
		{"of the holder, again", "db", 1, http.StatusOK, "[('db', 1), ('web', '*')]\n"},
		{"of the holder, another profile", "web", 1, http.StatusOK, "[('db', 1), ('web', '*')]\n"},
	} {
		if a := l.fail(tt.profile, vm(tt.machine)); a.status != tt.status || tt.status == http.StatusOK && a.body != "" {
			t.Errorf("report %s: status %d, body %q", tt.name, a.status, a.body)
		}
		if got := l.read("state"); got != tt.state {
			t.Errorf("report %s: state is %q, want %q", tt.name, got, tt.state)
		}
	}
	if got := l.read("db.cmdb"); strings.Contains(got, "used") || strings.Contains(got, mac(1)) {
		t.Errorf("the CMDB entry was not given back: %s", got)
	}
	if m := l.machine(idOf(1)); m.State != "failed" || m.Allocation != nil || m.NextBoot != wire.BootInstall {
		t.Errorf("after the failure: %+v", m)
	}
	if got := l.mustGet(vm(1)); got.Profile != "db" {
		t.Errorf("after the failure: got %s, want db", got.Profile)
	}
}

func (l *lab) stateIs(want string) {
	l.t.Helper()
	if got := l.read("state"); got != want {
		l.t.Errorf("state is %q, want %q", got, want)
	}
}

// TestForget gives everything back. Of an installed machine it has to be said
// twice.
func TestForget(t *testing.T) {
	files := seedFiles()
	files["state"] = "[('vm', 2)]\n"
	l := startLab(t, files)
	l.mustGet(vm(1))
	l.installed(vm(1))
	a := l.do("DELETE", "/api/v1/machines/"+mac(1), "", nil)
	if a.status != http.StatusConflict || !strings.Contains(a.body, "profile vm, one count and the CMDB entry {'gateway'") {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	l.stateIs("[('vm', 1)]\n")
	a = l.do("DELETE", "/api/v1/machines/"+mac(1)+"?force=1", "", nil)
	var gone api.Forgotten
	if err := json.Unmarshal([]byte(a.body), &gone); err != nil || a.status != http.StatusOK {
		t.Fatalf("status %d: %s: %v", a.status, a.body, err)
	}
	if entry, _ := gone.Entry.(map[string]any); gone.DisplayName != "host03" || gone.Profile != "vm" || !gone.Counted || entry["ip"] != "192.168.122.3" {
		t.Errorf("forgotten: %+v", gone)
	}
	l.stateIs("[('vm', 2)]\n")
	if strings.Contains(l.read("vm.cmdb"), "used") {
		t.Errorf("the CMDB entry was not given back: %s", l.read("vm.cmdb"))
	}
	if a := l.do("GET", "/api/v1/machines/"+idOf(1), "", nil); a.status != http.StatusNotFound {
		t.Errorf("a forgotten machine: status %d", a.status)
	}
	if got := l.server.BootAction(mac(1), ""); got != wire.BootInstall {
		t.Errorf("a forgotten machine boots %s", got)
	}
}

// TestRestore: a forgotten machine is taken back with what it held, when that
// is still free; what it has reported meanwhile stays.
func TestRestore(t *testing.T) {
	files := seedFiles()
	files["state"] = "[('vm', 2)]\n"
	l := startLab(t, files)
	l.mustGet(vm(1))
	l.installed(vm(1))
	before, entries := l.machine("host03"), l.read("vm.cmdb")
	forget := func() {
		t.Helper()
		if a := l.do("DELETE", "/api/v1/machines/host03?force=1", "", nil); a.status != http.StatusOK {
			t.Fatalf("forget: %d %s", a.status, a.body)
		}
	}
	restore := func(word string, want int, says string) {
		t.Helper()
		if a := l.do("POST", "/api/v1/machines/"+word+"/restore", "", nil); a.status != want || !strings.Contains(a.body, says) {
			t.Errorf("restore %s: %d %s, want %d with %q", word, a.status, a.body, want, says)
		}
	}
	forget()
	l.report(wire.Report{Machine: vm(1).Identity(), Step: wire.StepUpgrade, Status: wire.StatusDone, Image: wire.ImageRef{Role: "mysql", Version: "2"}}, http.StatusOK)
	l.restart()
	restore("host04", http.StatusNotFound, "/api/v1/forgotten")
	restore("host03", http.StatusOK, "host03")
	after := l.machine("host03")
	if after.Image.Version != "2" || after.State != "installed" || !cmp.Equal(before.Allocation, after.Allocation) {
		t.Errorf("before: %+v\nafter: %+v", before, after)
	}
	l.stateIs("[('vm', 1)]\n")
	if diff := cmp.Diff(entries, l.read("vm.cmdb")); diff != "" {
		t.Errorf("CMDB (-before +after):\n%s", diff)
	}
	restore("host03", http.StatusNotFound, "no forgotten machine")

	forget()
	l.mustGet(vm(2)) // takes its entry
	restore(mac(1), http.StatusConflict, "edeployctl cmdb list vm")
	l.fail("vm", vm(2))
	l.write("state", "[('vm', 0)]\n")
	restore(mac(1), http.StatusConflict, "edeployctl state set vm 1")
	l.write("state", "[('vm', 1)]\n")
	restore(mac(1), http.StatusOK, "host03")
	l.stateIs("[('vm', 0)]\n")
}

// TestForgottenBound: the oldest ones go.
func TestForgottenBound(t *testing.T) {
	l := startLab(t, seedFiles())
	for n := range 205 {
		l.upload(tiny(n + 1))
		if a := l.do("DELETE", "/api/v1/machines/"+mac(n+1), "", nil); a.status != http.StatusOK {
			t.Fatalf("forget: %d %s", a.status, a.body)
		}
	}
	var all []api.Forgotten
	l.get("/api/v1/forgotten", &all)
	if len(all) != 200 || all[0].ID != idOf(205) || all[199].ID != idOf(6) {
		t.Errorf("%d are kept, from %s to %s", len(all), all[0].ID, all[len(all)-1].ID)
	}
}

// TestSent: descriptions and logs of a machine can be had.
func TestSent(t *testing.T) {
	l := startLab(t, seedFiles())
	h := vm(1)
	h[2].Value = "SN7"
	if a := l.do("GET", "/api/v1/machines/"+idOf(1)+"/hardware", "", nil); a.status != http.StatusNotFound {
		t.Errorf("of nobody: %d", a.status)
	}
	l.report(wire.Report{Machine: h.Identity(), Step: wire.StepDevices, Status: wire.StatusStarted}, http.StatusOK)
	if a := l.do("GET", "/api/v1/machines/"+idOf(1)+"/logs", "", nil); a.status != http.StatusNotFound || !strings.Contains(a.body, "has not sent its description") {
		t.Errorf("before its description: %d %s", a.status, a.body)
	}
	l.mustGet(h)
	var got wire.Hardware
	l.get("/api/v1/machines/host03/hardware", &got)
	if diff := cmp.Diff(h, got); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	for _, log := range []struct{ name, text string }{{wire.LogName(h), "first"}, {wire.LogName(h), "second"}, {"-other-SN8.log.gz", "other"}} {
		if a := l.post("section", "SERVER", "file/"+log.name, log.text); a.status != http.StatusOK {
			t.Fatalf("log: %d %s", a.status, a.body)
		}
	}
	var logs []api.Log
	l.get("/api/v1/machines/host03/logs", &logs)
	if len(logs) != 2 || logs[0].Name != wire.LogName(h) {
		t.Fatalf("logs %+v", logs)
	}
	for name, want := range map[string]answer{logs[0].Name: {200, "application/gzip", "second"}, logs[1].Name: {200, "application/gzip", "first"}} {
		if got := l.do("GET", "/api/v1/machines/host03/logs/"+name, "", nil); got != want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, name := range []string{"-other-SN8.log.gz", "state", "..%2fstate"} {
		if a := l.do("GET", "/api/v1/machines/host03/logs/"+name, "", nil); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	m := l.machine("host03")
	if v, _ := m.Allocation.Variables.(map[string]any); v["disk"] != "vda" || v["ip"] != "192.168.122.3" {
		t.Errorf("variables %v", m.Allocation.Variables)
	}
}

// TestNoLongerFits: what happens to a machine that holds a profile it does
// not fit any more depends on how far it has come.
func TestNoLongerFits(t *testing.T) {
	files := seedFiles()
	files["state"] = "[('vm', 1), ('small', 1)]\n"
	files["small.specs"] = "[('disk', '$disk', 'size', 'lt(5)')]\n"
	files["small.configure"] = "set_role('small', '1', 'x')\n"
	l := startLab(t, files)
	l.mustGet(vm(1))
	if got := l.mustGet(tiny(1)); got.Profile != "small" {
		t.Errorf("while it installs: got %s, want small", got.Profile)
	}
	l.stateIs("[('vm', 1), ('small', 0)]\n")
	if strings.Contains(l.read("vm.cmdb"), "used") {
		t.Errorf("the CMDB entry was not given back: %s", l.read("vm.cmdb"))
	}
	l.installed(tiny(1))
	l.boot(idOf(1), "reinstall", http.StatusOK)
	a := l.upload(vm(1))
	if a.status != http.StatusConflict || !strings.Contains(wire.ParseRefusal(a.body), "edeployctl forget "+idOf(1)) {
		t.Errorf("once it is installed: %d %s", a.status, wire.ParseRefusal(a.body))
	}
	l.stateIs("[('vm', 1), ('small', 0)]\n")
	if m := l.machine(idOf(1)); m.State != "installed" || m.Allocation == nil {
		t.Errorf("it must keep what it holds: %+v", m)
	}
}

// TestIdentity: machines with the same placeholders stay apart, and one stays
// itself with a new adapter.
func TestIdentity(t *testing.T) {
	l := startLab(t, seedFiles())
	a, b := variables(t, l.mustGet(vm(1))), variables(t, l.mustGet(vm(2)))
	if a["ip"] == b["ip"] {
		t.Errorf("two machines got %v", a["ip"])
	}
	two := append(vm(1), fact("network", "eth1", "serial", mac(50)))
	l.mustGet(two)
	two[5].Value = mac(51) // eth0 was replaced
	if got := variables(t, l.mustGet(two)); got["ip"] != a["ip"] || got["mac"] != mac(51) {
		t.Errorf("with a new adapter: ip %v, mac %v; want ip %v", got["ip"], got["mac"], a["ip"])
	}
	if got := len(l.machines()); got != 2 {
		t.Errorf("there are %d machines, want 2", got)
	}
}

func TestMetadataURL(t *testing.T) {
	l := newLab(t, seedFiles())
	l.meta = "http://10.0.0.1/meta/"
	l.write("sh.specs", "[('disk', '$d', 'size', 'lt(4)')]\n")
	l.write("sh.configure", "#!/bin/sh\ntrue\n")
	l.write("state", "[('vm', '*'), ('sh', '*')]\n")
	l.start()
	want := vmConfigure + "run('echo \"METADATA_URL=http://10.0.0.1/meta/\" >> /vars')\n"
	if got := l.mustGet(vm(1)).Script; got != want {
		t.Errorf("script is %q", got)
	}
	if got := l.mustGet(tiny(2)).Script; got != "#!/bin/sh\ntrue\n" {
		t.Errorf("a shell script became %q", got)
	}
}
