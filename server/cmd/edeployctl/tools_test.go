package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server/internal/lint"

	"github.com/google/go-cmp/cmp"
)

// original is a deployment in the style of the original eDeploy.
const original = "testdata/original"

// ask runs a command that must end with this status.
func ask(t *testing.T, status int, args ...string) (stdout, stderr string) {
	t.Helper()
	got, stdout, stderr := ctl(t, args...)
	if got != status {
		t.Fatalf("edeployctl %s: status %d, want %d; stderr %q; stdout\n%s", strings.Join(args, " "), got, status, stderr, stdout)
	}
	return stdout, stderr
}

// holds wants texts in this order.
func holds(t *testing.T, text string, want ...string) {
	t.Helper()
	rest := text
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("lacks %q in its place:\n%s", w, text)
			return
		}
		rest = after
	}
}

// decode reads what --json prints.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return v
}

// TestStatuses: "no" is 1, "could not look" is 2.
func TestStatuses(t *testing.T) {
	config, node1, node4 := original+"/config", original+"/machines/node1.hw", original+"/machines/node4.hw"
	for _, tt := range []struct {
		status int
		args   string
		err    string
	}{
		{1, "lint " + config, "errors"},
		{2, "lint " + config + "/absent", "no such file"},
		{2, "lint", "usage: edeployctl lint CONFIGDIR"},
		{2, "lint --nosuch x", "flag"},
		{0, "match " + node1 + " --config " + config, ""},
		{0, "match " + node1 + " vm --config " + config, ""},
		{1, "match " + node1 + " web --config " + config, "no profile fits"},
		{1, "match " + node4 + " --config " + config, "no profile fits"},
		{2, "match " + node1 + " hp --config " + config, "hp.specs:6:5"},
		{2, "match " + node1 + " --config " + original, "state"},
		{2, "match absent.hw --config " + config, "no such file"},
		{1, "match --all " + original + "/machines --config " + config, "1 of 5 machines"},
		{2, "match --all " + config + " --config " + config, "holds no hardware descriptions"},
		{2, "match --all " + original + "/machines vm --config " + config, "one directory"},
		{0, "hw diff " + node1 + " " + original + "/machines/node2.hw", ""},
		{1, "hw diff --all " + node1 + " " + original + "/machines/node2.hw", "4 differences"},
		{1, "hw diff " + node1 + " " + node4, "2 differences"},
		{2, "hw diff " + node1 + " " + config + "/state", "hardware"},
		{0, "hw groups " + original + "/machines", ""},
		{2, "hw groups " + config, "holds no hardware"},
		{0, "cmdb verify ip 192.168.122.11 " + config + "/vm.cmdb " + config + "/web.cmdb", ""},
		{1, "cmdb verify ip 192.168.122.12 " + config + "/web.cmdb", "no used entry"},
		{1, "cmdb verify ip 192.168.122.3 " + config + "/vm.cmdb", "no used entry"},
		{2, "cmdb verify ip 192.168.122.3 " + config + "/absent.cmdb", "no such file"},
		{2, "cmdb verify ip", "usage: "},
		{0, "state show --config " + config, ""},
		{1, "state show --config " + original, "no such file"},
		{2, "state set vm -- -1 --config " + config, "usage: "},
		{0, "cmdb list web --config " + config, ""},
		{1, "cmdb free vm 1 --config " + config, "nothing of it is used yet"},
		{1, "cmdb free web 9 --config " + config, "there is no entry 9: the CMDB has 3 entries"},
		{1, "cmdb free web 2 --config " + config, "entry 2 is free"},
	} {
		if _, stderr := ask(t, tt.status, strings.Fields(tt.args)...); !strings.Contains(stderr, tt.err) || tt.err == "" && stderr != "" {
			t.Errorf("%s: stderr %q, want %q", tt.args, stderr, tt.err)
		}
	}
}

func TestLintJSON(t *testing.T) {
	out, _ := ask(t, 1, "lint", "--json", original+"/config")
	report := decode[lint.Report](t, out)
	want := lint.Finding{File: "hp.specs", Line: 6, Column: 5, Severity: lint.Error, Text: `a comma is missing before this "(": the original fails here, too`}
	found := false
	for _, f := range report.Findings {
		found = found || f == want
	}
	if !found || len(report.Files) != 14 {
		t.Errorf("%d files; finding %v is not there:\n%s", len(report.Files), want, out)
	}
	if out, _ := ask(t, 0, "lint", "--json", profiles(t, map[string]string{"state": "[]"})); out != "{\n  \"files\": [\n    {\n      \"name\": \"state\",\n      \"verdict\": \"runs unchanged: 0 profiles\",\n      \"errors\": 0,\n      \"warnings\": 0\n    }\n  ],\n  \"findings\": []\n}\n" {
		t.Errorf("clean:\n%s", out)
	}
}

func TestMatchJSON(t *testing.T) {
	out, _ := ask(t, 0, "match", "--json", original+"/machines/node1.hw", "--config", original+"/config")
	m := decode[struct {
		Profiles []struct {
			Profile, Problem string
			Fits             bool
			Count            any
			Lines            []struct {
				Line    int
				Fact    []string
				Binds   map[string]string
				Closest *struct {
					Fact []string
					Why  []string
				}
			}
		}
		Gets struct {
			Profile          string
			Variables, Entry map[string]any
		}
	}](t, out)
	if len(m.Profiles) != 5 || m.Gets.Profile != "vm" || m.Gets.Entry["ip"] != "192.168.122.3" || m.Gets.Variables["disk"] != "vda" || m.Gets.Entry["disk"] != nil {
		t.Fatalf("%s", out)
	}
	web, vm := m.Profiles[2], m.Profiles[3]
	if web.Fits || web.Count != 3.0 || len(web.Lines) != 2 || web.Lines[1].Fact != nil || web.Lines[1].Closest == nil || len(web.Lines[1].Closest.Why) != 1 {
		t.Errorf("web: %+v", web)
	}
	if diff := cmp.Diff([]string{"disk", "vda", "size", "40"}, vm.Lines[0].Fact); diff != "" || vm.Count != "*" || vm.Lines[2].Binds["mac"] != "52:54:00:00:00:01" {
		t.Errorf("vm: %+v %s", vm, diff)
	}
}

// TestMatchSelection: disks that a comment chooses are told as any line is.
func TestMatchSelection(t *testing.T) {
	dir := profiles(t, map[string]string{
		"state":     "[('two', '*'), ('one', '*')]",
		"two.specs": "# edeploy: disks $disk, $other\n[]", "two.configure": "set_role('base', '1', var['disk'])",
		"one.specs": "# edeploy: disks $disk, order=-size\n[('disk', '$disk', 'size', '$size')]", "one.configure": "set_role('base', '1', var['disk'])",
	})
	hw := filepath.Join(dir, "machine.hw")
	description := "[('disk', 'sda', 'size', '40'), ('disk', 'sda', 'rotational', '0'), ('disk', 'sda', 'model', 'M')]"
	if err := os.WriteFile(hw, []byte(description), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := ask(t, 0, "match", hw, "--config", dir)
	holds(t, out, "two: does not fit\n", "finds nothing\n  2 disks are wanted, and only 1 fit: sda (M, 40 GB); there are: sda (M, 40 GB)\n",
		"# edeploy: disks $disk, order=-size", "chooses", "disk=sda", "The machine gets one with", "disk = 'sda'")
	out, _ = ask(t, 1, "match", hw, "two", "--config", dir)
	holds(t, out, "2 disks are wanted")
}

// TestPlan: machines take counts and entries away from those behind them.
func TestPlan(t *testing.T) {
	config := profiles(t, map[string]string{
		"state":     "[('few', 1), ('entries', '*'), ('rest', '*')]",
		"few.specs": "[('disk', '$d', 'size', 'gt(10)')]", "entries.specs": "[('disk', '$d', 'size', 'gt(10)'), ('network', 'eth0', 'serial', '$mac')]", "rest.specs": "[]",
		"few.configure": "x", "entries.configure": "x", "rest.configure": "x", "entries.cmdb": "generate({'ip': '10.0.0.1-2'})",
	})
	machines := map[string]string{"small.json": `[["disk","sda","size","4"]]`}
	for _, n := range []string{"1", "2", "3", "4"} {
		machines["m"+n+".json"] = `[["disk","sda","size","40"],["network","eth0","serial","02:00:00:00:00:0` + n + `"]]`
	}
	before := contents(t, config)
	out, stderr := ask(t, 1, "match", "--json", "--all", profiles(t, machines), "--config", config)
	p := decode[struct {
		Machines []struct {
			Machine, Profile, Message string
			Entry                     map[string]string
		}
		Left []leftover
	}](t, out)
	var got []string
	for _, m := range p.Machines {
		got = append(got, m.Machine+" "+m.Profile+" "+m.Entry["ip"]+m.Message)
	}
	want := []string{"m1 few ", "m2 entries 10.0.0.1", "m3 entries 10.0.0.2", "m4  entries fits, but all 2 entries of entries.cmdb are used", "small rest "}
	if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(stderr, "1 of 5 machines gets no profile") {
		t.Errorf("%s (-want +got):\n%s", stderr, diff)
	}
	if diff := cmp.Diff([]leftover{{"few", 0.0}, {"entries", "*"}, {"rest", "*"}}, p.Left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, contents(t, config)); diff != "" {
		t.Errorf("something was written (-before +after):\n%s", diff)
	}
}

// TestAllocation: a profile that fits by its specs is not given without a CMDB
// entry, a script, or a count.
func TestAllocation(t *testing.T) {
	hw := func(serial string) string {
		return `[["system","product","serial","` + serial + `"],["disk","sda","size","40"],["network","eth0","serial","02:00:00:00:00:0` + serial[1:] + `"]]`
	}
	machines := profiles(t, map[string]string{"a.json": hw("S1"), "b.json": hw("S1"), "c.json": hw("S2")})
	config := profiles(t, map[string]string{
		"state":       "[('none', 0), ('infra', '*')]",
		"infra.specs": "[('system', 'product', 'serial', '$$sn')]", "infra.configure": "x", "infra.cmdb": "[{'sn': 'S1'}]",
		"none.specs": "[('disk', '$d', 'size', 'gt(4)')]", "none.configure": "x",
		"one.specs": "[('disk', '$d', 'size', 'gt(4)')]", "one.configure": "x", "one.cmdb": "[{'ip': 1, 'used': 1}]",
		"bare.specs": "[('disk', '$d', 'size', 'gt(4)')]",
	})
	for _, tt := range []struct {
		machine, profile, want, stderr string
	}{
		{"a", "infra", "infra: fits\n", ""},
		{"c", "infra", "infra: fits, but no entry of infra.cmdb has sn='S2'\n", "edeployctl: infra is not given to this machine\n"},
		{"c", "", "infra: fits, but no entry of infra.cmdb has sn='S2'\n", "edeployctl: no profile fits\n"},
		{"a", "one", "one: fits, but the only entry of one.cmdb is used\n", "edeployctl: one is not given to this machine\n"},
		{"a", "none", "none: fits, but its count is 0: edeployctl state set none N\n", "edeployctl: none is not given to this machine\n"},
		{"a", "bare", "bare: fits, but read ", "edeployctl: bare is not given to this machine\n"},
	} {
		args := []string{"match", machines + "/" + tt.machine + ".json", "--config", config}
		if tt.profile != "" {
			args = append(args, tt.profile)
		}
		status := 0
		if tt.stderr != "" {
			status = 1
		}
		out, stderr := ask(t, status, args...)
		if !strings.Contains(out, tt.want) || stderr != tt.stderr {
			t.Errorf("%s %s: stderr %q, stdout\n%s", tt.machine, tt.profile, stderr, out)
		}
	}
	out, stderr := ask(t, 1, "match", "--all", machines, "--config", config)
	holds(t, out, "a ", "infra", "b ", "-", "b gets no profile: infra fits, but entry 1 of infra.cmdb, which has sn='S1', is another machine's",
		"c gets no profile: infra fits, but no entry of infra.cmdb has sn='S2'")
	holds(t, stderr, "2 of 3 machines get no profile")
	out, _ = ask(t, 1, "match", machines+"/a.json", "--config", profiles(t, map[string]string{"state": "[('none', 0)]", "none.specs": "[]", "none.configure": "x"}))
	holds(t, out, "The machine gets no profile: none fits, but its count is 0: edeployctl state set none N")
}

// TestState: one count is replaced, the rest of the file stays.
func TestState(t *testing.T) {
	const text = "# mine\n[('big', 1), # few\n ('vm', '2'), ('vm', 7)]\n"
	dir := profiles(t, map[string]string{"state": text})
	out, _ := ask(t, 0, "state", "show", "--config", dir)
	if want := "PROFILE  COUNT\nbig      1\nvm       2\nvm       7\n"; out != want {
		t.Errorf("got\n%s", out)
	}
	out, _ = ask(t, 0, "state", "set", "vm", "12", "--config", dir)
	if out != "vm: 2 -> 12\n" {
		t.Errorf("got %q", out)
	}
	ask(t, 0, "state", "set", "big", "*", "--config", dir)
	if got := contents(t, dir)["state"]; got != "# mine\n[('big', '*'), # few\n ('vm', 12), ('vm', 7)]\n" {
		t.Errorf("got\n%s", got)
	}
	out, _ = ask(t, 0, "state", "show", "--json", "--config", dir)
	if diff := cmp.Diff([]leftover{{"big", "*"}, {"vm", 12.0}, {"vm", 7.0}}, decode[[]leftover](t, out)); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range [][]string{{"vm", "many"}, {"vm", "1.5"}, {"vm", ""}, {"none", "1"}} {
		if _, stderr := ask(t, 1, "state", "set", wrong[0], wrong[1], "--config", dir); stderr == "" {
			t.Error("nothing is said")
		}
	}
}

// TestStateOnServer: the same, on a server whose machines take counts.
func TestStateOnServer(t *testing.T) {
	address, config := start(t)
	out, _ := ask(t, 0, "state", "set", "vm", "9", "--server", address)
	if out != "vm: 1 -> 9\n" || contents(t, config)["state"] != "[('big', 1), ('vm', 9)]\n" {
		t.Errorf("%q, %q", out, contents(t, config)["state"])
	}
	out, _ = ask(t, 0, "state", "show", "--server", address)
	holds(t, out, "big", "1", "vm", "9")
	ask(t, 1, "state", "show", "--server", address, "--section", "LAB")
}

// TestCMDBOnServer: an entry is given back only when no machine holds it.
func TestCMDBOnServer(t *testing.T) {
	address, config := start(t)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(config, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, 0, "forget", id, "--server", address)
	write("vm.cmdb", "# by hand\n[{'ip': '10.0.0.1'},\n {'ip': '10.0.0.2', 'disk': 'vdb', 'eth': 'eth0', 'mac': '02:00:00:00:00:99', 'used': 1},\n {'ip': '10.0.0.3'}]\n")
	uploadHW(t, address)

	out, _ := ask(t, 0, "cmdb", "list", "vm", "--server", address)
	holds(t, out, "ENTRY", "HOLDER", "1", id, "ip=10.0.0.1", "2", "used", "ip=10.0.0.2", "3", "-", "ip=10.0.0.3")
	out, _ = ask(t, 0, "cmdb", "list", "vm", "--json", "--server", address)
	all := decode[[]entry](t, out)
	if len(all) != 3 || all[0].Holder != id || !all[1].Used || all[1].Holder != "" || all[2].Used || all[1].Values["mac"] != "02:00:00:00:00:99" {
		t.Errorf("%+v", all)
	}

	before := contents(t, config)["vm.cmdb"]
	if _, stderr := ask(t, 1, "cmdb", "free", "vm", "1", "--server", address); !strings.Contains(stderr, "held by machine "+id) {
		t.Errorf("stderr %q", stderr)
	}
	write("vm.cmdb", strings.Replace(before, "'10.0.0.1'", "'10.0.0.77'", 1)) // the operator edits the entry
	if _, stderr := ask(t, 1, "cmdb", "free", "vm", "ip=10.0.0.77", "--server", address); !strings.Contains(stderr, "held by machine "+id) {
		t.Errorf("stderr %q", stderr)
	}
	write("vm.cmdb", before)

	out, _ = ask(t, 0, "cmdb", "free", "vm", "mac=02:00:00:00:00:99", "--server", address)
	if out != "entry 2 is free: {'ip': '10.0.0.2'}\n" {
		t.Errorf("got %q", out)
	}
	after := contents(t, config)["vm.cmdb"]
	if !strings.Contains(after, "# by hand") || !strings.Contains(after, "{'ip': '10.0.0.2'}") || !strings.Contains(after, "02:00:00:00:00:01") {
		t.Errorf("got\n%s", after)
	}
}

// TestFreeOfGenerate: the entry is again what the generate call made.
func TestFreeOfGenerate(t *testing.T) {
	dir := profiles(t, map[string]string{
		"vm.specs":     "[('disk', '$disk', 'size', '$gb'), ('network', '$eth', 'serial', '$$mac')]",
		"vm.cmdb.orig": "generate({'mac': ['a', 'b'], 'disk': 'any', 'ip': '10.0.0.1-2'})",
		"vm.cmdb":      "[{'disk': 'vda', 'gb': '4', 'eth': 'eth0', 'ip': '10.0.0.1', 'mac': 'a', 'used': 1},\n {'disk': 'any', 'ip': '10.0.0.2', 'mac': 'b'}]\n",
	})
	ask(t, 0, "cmdb", "free", "vm", "1", "--config", dir)
	if got, want := contents(t, dir)["vm.cmdb"], "[{'disk': 'any', 'ip': '10.0.0.1', 'mac': 'a'},\n {'disk': 'any', 'ip': '10.0.0.2', 'mac': 'b'}]\n"; got != want {
		t.Errorf("got\n%s", got)
	}
}

// TestChange: a change begins again when somebody was quicker, and gives up.
func TestChange(t *testing.T) {
	for _, tt := range []struct {
		quicker int
		err     string
	}{{0, ""}, {3, ""}, {maxTries, "changed 10 times"}} {
		d := &contested{directory: directory(profiles(t, map[string]string{"state": "0"})), quicker: tt.quicker}
		err := change(t.Context(), d, "state", func(text string) (string, error) { return text + "mine", nil })
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%d: %v", tt.quicker, err)
		}
		if want := strings.Repeat("x", tt.quicker) + "mine"; err == nil && contents(t, string(d.directory))["state"] != "0"+want {
			t.Errorf("%d: %q", tt.quicker, contents(t, string(d.directory))["state"])
		}
	}
}

// contested is a directory in which somebody else is quicker a few times.
type contested struct {
	directory
	quicker int
}

func (c *contested) get(ctx context.Context, name string) (text, version string, err error) {
	text, version, err = c.directory.get(ctx, name)
	if c.quicker > 0 && err == nil {
		c.quicker--
		err = os.WriteFile(filepath.Join(string(c.directory), name), []byte(text+"x"), 0o644)
	}
	return text, version, err
}

func TestGroups(t *testing.T) {
	out, _ := ask(t, 0, "hw", "groups", original+"/machines")
	holds(t, out, "Acme Rack Node\n", "2 alike: node1.hw node2.hw", "1 alike: node3.hw", "PROPERTY", "cpu logical number", "2", "node1.hw node2.hw node4.hw", "8", "node3.hw", "Acme Storage", "stor1.json")
	if strings.Contains(out, "serial") || strings.Contains(out, "ipv4") {
		t.Errorf("identities are differences:\n%s", out)
	}
	out, _ = ask(t, 0, "hw", "groups", "--json", original+"/machines")
	if kinds := decode[[]struct{ Name string }](t, out); len(kinds) != 2 || kinds[0].Name != "Acme Rack Node" {
		t.Errorf("%s", out)
	}
}

// TestGroupsSkip: what is not read is named.
func TestGroupsSkip(t *testing.T) {
	dir := profiles(t, map[string]string{"a.hw": "[]", "b.json": "[", "c.hw_2014": "[]", ".hw_d": "[]"})
	out, stderr := ask(t, 2, "hw", "groups", dir)
	holds(t, out, "unknown product\n  1 alike: a.hw\n")
	holds(t, stderr, "skipped, no .hw or .json: .hw_d c.hw_2014\n", "not read: ", "b.json", "edeployctl: 1 description could not be read")
	_, stderr = ask(t, 1, "match", "--all", profiles(t, map[string]string{"a.hw": "[]", "c.hw_2014": "[]"}), "--config", profiles(t, map[string]string{"state": "[]"}))
	holds(t, stderr, "skipped, no .hw or .json: c.hw_2014\n")
}

// TestHelp: every command explains itself.
func TestHelp(t *testing.T) {
	for _, name := range []string{"lint", "match", "cmdb", "cmdb verify", "cmdb list", "cmdb free", "state", "state show", "state set", "hw", "hw diff", "hw groups",
		"machines section", "machines explain", "push-metadata", "images", "images remove", "images remove-metadata", "expect", "install-anyway", "wipe", "wipe-anyway"} {
		out, _ := ask(t, 0, append(strings.Fields(name), "--help")...)
		if len(out) < 400 || !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help:\n%s", name, out)
		}
	}
}

func TestCompletion(t *testing.T) {
	out, _ := ask(t, 0, "__complete", "state", "set", "--config", original+"/config", "")
	holds(t, out, "hp\n", "storage\n", "vm\n")
	address, _ := start(t)
	out, _ = ask(t, 0, "__complete", "machines", "--server", address, "")
	holds(t, out, "explain\t", "section\t", id+"\t")
	out, _ = ask(t, 0, "__complete", "machines", "explain", "--server", address, "")
	holds(t, out, id+"\t")
	out, _ = ask(t, 0, "__complete", "machines", "section", "--server", address, id, "")
	holds(t, out, "SERVER\n")
	out, _ = ask(t, 0, "__complete", "push-metadata", "")
	holds(t, out, ":16\n") // directories only
	out, _ = ask(t, 0, "__complete", "match", "x.hw", "--config", original+"/config", "")
	holds(t, out, "hp\n", "web\n", "vm\n", "ghost\n")
}
