package main

import (
	"bufio"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server/api"

	"github.com/google/go-cmp/cmp"
)

// profiles writes a directory of files.
func profiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents reads a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

func TestConfigPush(t *testing.T) {
	const mine = "# mine\nset_role('mysql', '1', var['disk'])\n"
	vm := map[string]string{"vm.specs": "[('disk', '$disk', 'size', 'gt(4)')]\n", "vm.configure": mine, "notes.txt": "x", "vm.cmdb.orig": "x", "hw.json": "x"}
	with := func(pairs ...string) map[string]string {
		files := maps.Clone(vm)
		for i := 0; i < len(pairs); i += 2 {
			files[pairs[i]] = pairs[i+1]
		}
		return files
	}
	for _, tt := range []struct {
		name   string
		files  map[string]string
		flags  []string
		status int
		out    string
		err    string
		server map[string]string // files that the server has afterwards; "absent": not; nil: nothing has changed
	}{
		{"changed", vm, nil, 0, "changed    vm.configure\nchanged    vm.specs\n", "", map[string]string{"vm.configure": mine, "notes.txt": "absent", "big.specs": "[('disk', '$disk', 'size', '$gb=gt(100)')]\n"}},
		{"counts", with("state", "[('big', 1), ('vm', 7)]"), nil, 0, "changed    state\nchanged    vm.configure\nchanged    vm.specs\ncounts: vm: 1 -> 7\n", "", map[string]string{"state": "[('big', 1), ('vm', 7)]"}},
		{"prune", vm, []string{"--prune"}, 0, "changed    vm.configure\nchanged    vm.specs\nremoved    big.configure\nremoved    big.specs\nwarning: profile big of the state file has no big.specs: no machine gets it\n", "",
			map[string]string{"big.specs": "absent", "state": "[('big', 1), ('vm', 1)]\n"}},
		{"broken", with("vm.specs", "[\n('disk')]", "vm.cmdb", "[{]"), []string{"--prune"}, 1,
			"vm.cmdb:1:3: error: want a value, got \"]\"\nvm.specs:2:1: error: want a tuple", "nothing was changed: 2 files have mistakes; --force brings them all the same", nil},
		{"one broken", with("vm.specs", "["), nil, 1, "vm.specs:1:1: error: ", "nothing was changed: vm.specs has mistakes", nil},
		{"forced", with("vm.specs", "["), []string{"--force"}, 0, "vm.specs:1:1: error: list is never closed: \"]\" is missing\nchanged    vm.configure\nchanged    vm.specs\n", "", map[string]string{"vm.specs": "["}},
		{"wrong variable", with("vm.configure", "set_role('a', '1', var['nic'])\n"), nil, 1, "vm.configure:1:20: error: var has no 'nic': vm.specs binds disk, and there is no vm.cmdb\n", "vm.configure has mistakes", nil},
		{"variable of the server's specs", map[string]string{"vm.configure": "set_role('a', '1', var['mac'])\n"}, nil, 0, "changed    vm.configure\n", "", map[string]string{"vm.configure": "set_role('a', '1', var['mac'])\n"}},
		{"no set_role", with("vm.configure", "run('true')\n"), nil, 1, "vm.configure: error: the script never calls set_role", "vm.configure has mistakes", nil},
		{"bad indentation", with("vm.configure", mine+"    run('true')\n"), nil, 1, "vm.configure:3:5: error: unexpected indent\n", "vm.configure has mistakes", nil},
		{"syntax", with("vm.configure", mine+"run('true'\n"), nil, 1, "vm.configure:4:1: error: ", "vm.configure has mistakes", nil},
		{"addresses of DHCP", with("vm.cmdb", "[{'ip': '10.9.0.120'}]"), nil, 0, "vm.cmdb: warning: ip of entry 1 is 10.9.0.120, which the DHCP server gives to any machine: keep entries out of its range 10.9.0.100-10.9.0.199\n", "", map[string]string{"vm.configure": mine}},
		{"warnings alone", with("state", "[('big', 1), ('vm', -1)]"), nil, 0, "state:1:14: warning: the count of vm is -1", "", map[string]string{"vm.configure": mine}},
		{"binary", with("vm.configure", "a\xff"), []string{"--force"}, 1, "", "vm.configure:1:2: byte 0xff is no UTF-8 text", nil},
		{"large", with("vm.configure", strings.Repeat("x", 1<<20+1)), nil, 1, "", "more than 1048576", nil},
		{"no profiles", map[string]string{"notes.txt": "x"}, nil, 1, "", "holds no profiles: want state, authorized_keys, NAME.specs", nil},
		{"other deployment", vm, []string{"--section", "LAB"}, 1, "", `edeploy.conf has no section "LAB"`, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, config := start(t)
			before := contents(t, config)
			args := append([]string{"config", "push", profiles(t, tt.files), "--server", address}, tt.flags...)
			status, out, stderr := ctl(t, args...)
			if status != tt.status || !strings.Contains(out, tt.out) || !strings.Contains(stderr, tt.err) {
				t.Errorf("status %d, want %d; stderr %q; stdout\n%s", status, tt.status, stderr, out)
			}
			after := contents(t, config)
			if tt.server == nil {
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("files (-before +after):\n%s", diff)
				}
			}
			for name, want := range tt.server {
				got, ok := after[name]
				if !ok {
					got = "absent"
				}
				if got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestConfigThereAndBack: list, show, pull, and a push that changes nothing.
func TestConfigThereAndBack(t *testing.T) {
	address, config := start(t)
	status, out, stderr := ctl(t, "config", "list", "--server", address)
	if status != 0 || !strings.Contains(out, "SECTION") || !strings.Contains(out, "vm.specs") || strings.Contains(out, "hw.json") {
		t.Errorf("list: %d %q %s", status, stderr, out)
	}
	if _, out, _ = ctl(t, "config", "list", "--section", "LAB", "--server", address); strings.Contains(out, "vm") {
		t.Errorf("list of another deployment: %s", out)
	}
	if status, out, _ = ctl(t, "config", "list", "--json", "--server", address); status != 0 || !strings.Contains(out, `"section": "SERVER"`) {
		t.Errorf("list --json: %s", out)
	}
	text := contents(t, config)
	if status, out, stderr = ctl(t, "config", "show", "vm.specs", "--server", address); status != 0 || out != text["vm.specs"] {
		t.Errorf("show: %d %q %q", status, stderr, out)
	}
	if status, _, stderr = ctl(t, "config", "show", "no.specs", "--server", address); status != 1 || !strings.Contains(stderr, "deployment SERVER has no file no.specs") {
		t.Errorf("show of nothing: %d %q", status, stderr)
	}

	dir := filepath.Join(t.TempDir(), "new", "profiles")
	if status, out, stderr = ctl(t, "config", "pull", dir, "--server", address); status != 0 || !strings.Contains(out, "added      vm.specs") {
		t.Errorf("pull: %d %q %s", status, stderr, out)
	}
	want := map[string]string{}
	for _, name := range []string{"state", "big.specs", "big.configure", "vm.specs", "vm.configure"} {
		want[name] = text[name]
	}
	if diff := cmp.Diff(want, contents(t, dir)); diff != "" {
		t.Errorf("pulled (-want +got):\n%s", diff)
	}
	if status, out, stderr = ctl(t, "config", "push", dir, "--prune", "--server", address); status != 0 || strings.Count(out, "unchanged") != len(want) || strings.Count(out, "\n") != len(want) {
		t.Errorf("push: %d %q %s", status, stderr, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "state"), []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	if status, out, stderr = ctl(t, "config", "pull", dir, "--server", address); status != 1 || out != "" || stderr != "edeployctl: nothing was written: "+dir+" has other texts than the server: state; --force replaces them\n" {
		t.Errorf("pull over an edit: %d %q %s", status, stderr, out)
	}
	for answer, want := range map[string]string{"n\n": "[]", "": "[]", "yes\n": text["state"]} {
		_ = os.WriteFile(filepath.Join(dir, "state"), []byte("[]"), 0o644)
		pull := configPull{client: &api.Client{Address: address}, section: "SERVER", dir: dir, terminal: terminal{bufio.NewReader(strings.NewReader(answer)), io.Discard, true}}
		if err := pull.run(t.Context(), io.Discard); (err == nil) != (want != "[]") || contents(t, dir)["state"] != want {
			t.Errorf("answer %q: %v, state %q", answer, err, contents(t, dir)["state"])
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "state"), []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	if status, out, stderr = ctl(t, "config", "pull", dir, "--force", "--server", address); status != 0 || !strings.Contains(out, "changed    state") || !strings.Contains(out, "unchanged  vm.specs") {
		t.Errorf("pull again: %d %q %s", status, stderr, out)
	}
	if status, _, stderr = ctl(t, "config", "pull", dir, "--section", "LAB", "--server", address); status != 1 || !strings.Contains(stderr, "no files for deployment LAB") {
		t.Errorf("pull of nothing: %d %q", status, stderr)
	}
}

// TestPullGenerate: a CMDB comes as the generate call that it was, and pushing
// it changes nothing; its entries come when they are asked for, or when the
// call does not make them any more.
func TestPullGenerate(t *testing.T) {
	address, config := start(t)
	const call = "generate({'ip': '10.0.0.1-3'}) # mine\n"
	ask(t, 0, "forget", id, "--server", address)
	ask(t, 0, "config", "push", profiles(t, map[string]string{"vm.cmdb": call}), "--server", address)
	uploadHW(t, address)
	live := contents(t, config)["vm.cmdb"]
	if !strings.Contains(live, "'used': 1") {
		t.Fatalf("nothing is taken: %s", live)
	}
	pull := func(want, said string, flags ...string) string {
		t.Helper()
		dir := t.TempDir()
		out, _ := ask(t, 0, append([]string{"config", "pull", dir, "--server", address}, flags...)...)
		if got := contents(t, dir)["vm.cmdb"]; got != want || !strings.Contains(out, "added      vm.cmdb"+said+"\n") {
			t.Errorf("pull %v: %q, want %q; %s", flags, got, want, out)
		}
		return dir
	}
	dir := pull(call, ": the generate call; --entries brings the entries that it has become")
	pull(live, "", "--entries")
	if out, _ := ask(t, 0, "config", "push", dir, "--server", address); strings.Contains(out, "changed    vm.cmdb") || contents(t, config)["vm.cmdb"] != live {
		t.Errorf("pushed again: %s", out)
	}
	edited := strings.Replace(live, "10.0.0.3", "10.0.0.77", 1)
	if err := os.WriteFile(filepath.Join(config, "vm.cmdb"), []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	pull(edited, ": its entries, which are no longer those of its generate call")
}
