package server_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

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

// TestForget gives everything back.
func TestForget(t *testing.T) {
	files := seedFiles()
	files["state"] = "[('vm', 2)]\n"
	l := startLab(t, files)
	l.mustGet(vm(1))
	l.installed(vm(1))
	if a := l.do("DELETE", "/api/v1/machines/"+mac(1), "", nil); a.status != http.StatusNoContent {
		t.Fatalf("status %d: %s", a.status, a.body)
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
	left, err := filepath.Glob(filepath.Join(l.state, "*", idOf(1)+"*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left of a forgotten machine: %v, %v", left, err)
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
