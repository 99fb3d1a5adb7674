package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/wire"
)

const (
	hwJSON = `[["disk","vda","size","40"],["network","eth0","serial","02:00:00:00:00:01"]]`
	id     = "02-00-00-00-00-01"
)

// configDir is a configuration directory with two profiles.
func configDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"state":        "[('big', 1), ('vm', 2)]\n",
		"big.specs":    "[('disk', '$disk', 'size', '$gb=gt(100)')]\n",
		"vm.specs":     "[('disk', '$disk', 'size', 'gt(4)'), ('network', '$eth', 'serial', '$mac')]\n",
		"vm.configure": "set_role('mysql', '1', '/dev/vda')\n", "big.configure": "set_role('mysql', '1', '/dev/vda')\n",
		"hw.json": hwJSON,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// start starts a server with one machine that has its configuration, and
// answers its address.
func start(t *testing.T) (address, config string) {
	t.Helper()
	config = configDir(t)
	now := func() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC) }
	s, err := server.New(server.Config{Deployments: map[string]server.Deployment{"SERVER": {ConfigDir: config}}, StateDir: t.TempDir(), Version: "9.9", Now: now,
		Addons: []wire.ImageRef{{Role: "tools", Version: "1"}}, DHCPFirst: netip.MustParseAddr("10.9.0.100"), DHCPLast: netip.MustParseAddr("10.9.0.199")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	web := httptest.NewServer(s.Handler())
	t.Cleanup(web.Close)
	uploadHW(t, strings.TrimPrefix(web.URL, "http://"))
	var report bytes.Buffer
	if err := wire.EncodeReport(&report, wire.Report{Machine: wire.Identity{MACs: []string{"02:00:00:00:00:01"}}, Step: wire.StepTransfer,
		Status: wire.StatusProgress, Bytes: 1, TotalBytes: 4}); err != nil {
		t.Fatal(err)
	}
	post(t, web.URL+wire.ReportPath, "application/json", &report)
	return strings.TrimPrefix(web.URL, "http://"), config
}

// uploadHW lets the machine ask for its configuration.
func uploadHW(t *testing.T, address string) {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "hw.json")
	if err == nil {
		_, err = io.WriteString(part, hwJSON)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	post(t, "http://"+address+"/cgi-bin/upload.py", w.FormDataContentType(), &body)
}

func post(t *testing.T, url, kind string, body io.Reader) {
	t.Helper()
	resp, err := http.Post(url, kind, body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s: %s", url, resp.Status, text)
	}
}

// ctl runs the program.
func ctl(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	t.Setenv("EDEPLOY_SERVER", "")
	var out, err bytes.Buffer
	status = run(t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

func TestCommands(t *testing.T) {
	address, config := start(t)
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		out    []string // what stdout holds, in this order
		err    string
	}{
		{"table", []string{"machines", "--server", address}, 0, []string{"ID", "NOW", id, "installing", "install", "vm", "transfer 25 %"}, ""},
		{"one machine", []string{"machines", id, "--server", "http://" + address + "/"}, 0, []string{"machine", id, "profile", "vm", "variables", "'disk': 'vda'", "history", "upload note", "match done"}, ""},
		{"JSON", []string{"machines", "--json", "--server", address}, 0, []string{`"id": "` + id + `"`, `"next_boot": "install"`}, ""},
		{"nobody", []string{"machines", "nobody", "--server", address}, 1, nil, "edeployctl: no machine is known as nobody\n"},
		{"hold", []string{"hold", id, "--server", address}, 0, []string{"boots next: hold"}, ""},
		{"reinstall by MAC", []string{"reinstall", "02:00:00:00:00:01", "--server", address}, 0, []string{id, "boots next: install"}, ""},
		{"rescue", []string{"rescue", id, "--server", address}, 0, []string{"boots next: rescue"}, ""},
		{"boot-local", []string{"boot-local", id, "--server", address}, 0, []string{"boots next: local"}, ""},
		{"boot-auto", []string{"boot-auto", id, "--server", address}, 0, []string{"boots next: install"}, ""},
		{"section", []string{"machines", "section", id, "SERVER", "--server", address}, 0, []string{"machine " + id + " belongs to deployment SERVER\n"}, ""},
		{"section of a new machine", []string{"machines", "section", "02:00:00:00:00:07", "SERVER", "--server", address}, 0, []string{"machine 02-00-00-00-00-07 belongs to deployment SERVER\n"}, ""},
		{"default section", []string{"machines", "section", id, "--default", "--server", address}, 0, []string{"machine " + id + " belongs to the default deployment\n"}, ""},
		{"no section", []string{"machines", "section", id, "--server", address}, 1, nil, "edeployctl: which deployment? Give its NAME or --default\n"},
		{"two sections", []string{"machines", "section", id, "SERVER", "--default", "--server", address}, 1, nil, "which deployment?"},
		{"empty section", []string{"machines", "section", id, "", "--server", address}, 1, nil, "--default"},
		{"unknown section", []string{"machines", "section", id, "LAB", "--server", address}, 1, nil, `edeployctl: edeploy.conf has no section "LAB"`},
		{"loader", []string{"machines", "loader", id, "ipxe-native", "--server", address}, 0, []string{"machine " + id + " has the loader ipxe-native\n"}, ""},
		{"pinned loader in the table", []string{"machines", "--server", address}, 0, []string{"LOADER", id, "ipxe-native"}, ""},
		{"pinned loader", []string{"show", id, "--server", address}, 0, []string{"loader", "ipxe-native", "the operator pins it to the loader ipxe-native"}, ""},
		{"any loader", []string{"machines", "loader", id, "auto", "--server", address}, 0, []string{"machine " + id + " has the loader auto\n"}, ""},
		{"unknown loader", []string{"machines", "loader", id, "lilo", "--server", address}, 1, nil, `edeployctl: loader "lilo": want ipxe, ipxe-native, grub, http or auto`},
		{"explain", []string{"machines", "explain", id, "--server", address}, 0, []string{"machine " + id + ", deployment SERVER, ", "got vm\n",
			"\nbig: does not fit\n  line 1  ('disk', '$disk', 'size', '$gb=gt(100)')  finds nothing\n  closest is ('disk', 'vda', 'size', '40'): '40' is not gt(100)\n",
			"\nvm: fits\n  line 1  ", "takes ('disk', 'vda', 'size', '40')", "disk=vda\n  line 1", "mac=02:00:00:00:00:01"}, ""},
		{"explain, where it is looked for", []string{"explain", id, "--server", address}, 0, []string{"machine " + id, "got vm\n"}, ""},
		{"show", []string{"show", "02:00:00:00:00:01", "--server", address}, 0, []string{"machine", id, "profile", "history"}, ""},
		{"history", []string{"history", id, "--server", address}, 0, []string{"upload note", "match done"}, ""},
		{"history JSON", []string{"machines", "history", id, "--json", "--server", address}, 0, []string{`"step": "upload"`}, ""},
		{"list", []string{"machines", "list", "--server", address}, 0, []string{"ID", id}, ""},
		{"hold below machines", []string{"machines", "hold", id, "--server", address}, 0, []string{"boots next: hold"}, ""},
		{"release", []string{"release", id, "--server", address}, 0, []string{"boots next: install"}, ""},
		{"no logs", []string{"logs", id, "--server", address}, 1, nil, "edeployctl: "},
		{"explain JSON", []string{"machines", "explain", "02:00:00:00:00:01", "--json", "--server", address}, 0, []string{`"profile":`, `"vm"`, `"profiles":`, `"closest":`}, ""},
		{"explain nobody", []string{"machines", "explain", "nobody", "--server", address}, 1, nil, "edeployctl: no machine is known as nobody\n"},
		{"explain one that never asked", []string{"machines", "explain", "02:00:00:00:00:07", "--server", address}, 1, nil, "there is no explanation of machine 02-00-00-00-00-07"},
		{"forget the new machine", []string{"forget", "02:00:00:00:00:07", "--server", address}, 0, nil, ""},
		{"problems", []string{"problems", "--server", address}, 0, nil, ""},
		{"version", []string{"version", "--server", address}, 0, []string{"edeployctl", "server 9.9, protocol 1"}, ""},
		{"own version", []string{"version"}, 0, []string{"edeployctl"}, ""},
		{"forget", []string{"forget", id, "--server", address}, 0, []string{"is forgotten"}, ""},
		{"forget again", []string{"forget", id, "--server", address}, 1, nil, "no machine is known"},
		{"empty table", []string{"machines", "--server", address}, 0, []string{"ID", "NOW"}, ""},

		{"match all", []string{"match", config + "/hw.json", "--config", config}, 0, []string{"big: does not fit (1 left)", "line 1", "$gb=gt(100)", "finds nothing", "closest is ('disk', 'vda', 'size', '40')", "vm: fits", "disk = 'vda'", "mac = '02:00:00:00:00:01'"}, ""},
		{"match one", []string{"match", config + "/hw.json", "big", "--config", config}, 1, []string{"big: does not fit"}, "no profile fits"},
		{"match unknown", []string{"match", config + "/hw.json", "none", "--config", config}, 2, nil, "none.specs: no such file"},
		{"match outside", []string{"match", config + "/hw.json", "../x", "--config", config}, 2, nil, "../x"},
		{"match nothing", []string{"match", config + "/state", "--config", config}, 2, nil, "hardware"},

		{"no server", []string{"machines"}, 1, nil, "EDEPLOY_SERVER"},
		{"silent server", []string{"machines", "--server", "127.0.0.1:1"}, 1, nil, "edeployctl: http://127.0.0.1:1 does not answer: dial tcp 127.0.0.1:1: connect: connection refused\n"},
		{"bad server", []string{"machines", "--server", "http://"}, 1, nil, "server"},
		{"no machine", []string{"forget", "--server", address}, 2, nil, "which machine? Give its ID, or --strangers"},
		{"completion", []string{"completion", "bash"}, 0, []string{"edeployctl"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, out, stderr := ctl(t, tt.args...)
			if status != tt.status || !strings.Contains(stderr, tt.err) {
				t.Errorf("status %d, want %d; stderr %q", status, tt.status, stderr)
			}
			rest := out
			for _, want := range tt.out {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("stdout lacks %q in its place:\n%s", want, out)
				}
				rest = after
			}
		})
	}
}

// TestProblems: broken files are named, and the exit status says so.
func TestProblems(t *testing.T) {
	address, config := start(t)
	if err := os.WriteFile(filepath.Join(config, "state"), []byte("[('vm', 1),\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	status, out, stderr := ctl(t, "problems", "--server", address)
	if status != 1 || !strings.Contains(out, "problem: state:1:1:") || stderr != "edeployctl: 1 problem\n" {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, stderr)
	}
	out, _ = ask(t, 1, "problems", "--json", "--server", address)
	if all := decode[[]api.Problem](t, out); len(all) != 1 || all[0].File != "state" && !strings.HasSuffix(all[0].File, "/state") {
		t.Errorf("%s", out)
	}
}

// TestUsage: what is no command, or no way to call one, is one line and exit
// status 2.
func TestUsage(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"config foo", "edeployctl config has no command foo; edeployctl config --help lists them"},
		{"config pish x", "edeployctl config has no command pish: did you mean edeployctl config push?"},
		{"cmdb foo", "edeployctl cmdb has no command foo; edeployctl cmdb --help lists them"},
		{"hw list", "edeployctl hw has no command list: did you mean edeployctl cmdb list, or edeployctl config list, or edeployctl images list?"},
		{"machnes", "edeployctl has no command machnes: did you mean edeployctl machines?"},
		{"pull", "edeployctl has no command pull: did you mean edeployctl config pull"},
		{"nosuch", "edeployctl has no command nosuch; edeployctl --help lists them"},
		{"images mysql", "edeployctl images has no command mysql; edeployctl images --help lists them"},
		{"machines hod node7", "edeployctl machines has no command hod: did you mean edeployctl machines hold?"},
		{"hold", "usage: edeployctl hold ID; --help explains it"},
		{"state set vm -3", "count -3: want a number, 0 or more, or '*'"},
		{"hold --nosuch", "unknown flag: --nosuch; edeployctl hold --help lists the options"},
	} {
		out, stderr := ask(t, 2, strings.Fields(tt.args)...)
		if out != "" || !strings.HasPrefix(stderr, "edeployctl: "+tt.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: stdout %q, stderr %q; want %q", tt.args, out, stderr, tt.want)
		}
	}
	if out, _ := ask(t, 0, "config"); !strings.Contains(out, "Usage:") {
		t.Errorf("config alone: %s", out)
	}
	if out, _ := ask(t, 0, "--version"); !strings.HasPrefix(out, "edeployctl ") || strings.Count(out, "\n") != 1 {
		t.Errorf("--version: %q", out)
	}
}

// TestVersionStamp: the programs show the version that the build stamps in.
func TestVersionStamp(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "edeployctl")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-X edeploy/server/wire.release=v7.8-stamp", "-o", bin, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, arg := range []string{"version", "--version"} {
		if out, err := exec.CommandContext(t.Context(), bin, arg).Output(); err != nil || string(out) != "edeployctl v7.8-stamp\n" {
			t.Errorf("%s: %q, %v", arg, out, err)
		}
	}
}

// TestForget: an installed machine is forgotten when that is wanted, and comes
// back with what it held.
func TestForget(t *testing.T) {
	address, config := start(t)
	reportInstalled(t, address, wire.ImageRef{Role: "mysql", Version: "1"})
	if _, stderr := ask(t, 1, "forget", id, "--server", address); !strings.Contains(stderr, "is installed") {
		t.Errorf("stderr %q", stderr)
	}
	for _, tt := range []struct{ answer, want, err string }{
		{"n\n", "", "nothing was changed"},
		{"", "", "nothing was changed"},
		{"y\n", "machine " + id + " (", ""},
	} {
		var stderr bytes.Buffer
		out, err := forgetting{client: &api.Client{Address: address}, terminal: terminal{bufio.NewReader(strings.NewReader(tt.answer)), &stderr, true}}.one(t.Context(), id)
		if err == nil && tt.err != "" || err != nil && err.Error() != tt.err || !strings.HasPrefix(out, tt.want) || !strings.Contains(stderr.String(), "is installed") {
			t.Errorf("%q: %v, %q, %q", tt.answer, err, out, stderr.String())
		}
		if tt.err == "" && !strings.Contains(out, "is forgotten; free now: one count of profile vm; edeployctl restore "+id+" takes it back") {
			t.Errorf("%q", out)
		}
	}
	out, _ := ask(t, 0, "forgotten", "--server", address)
	holds(t, out, id, "installed", "vm")
	out, _ = ask(t, 0, "restore", id, "--server", address)
	holds(t, out, "machine "+id, "is back: it holds profile vm and boots next: local\n")
	if got := contents(t, config)["state"]; got != "[('big', 1), ('vm', 1)]\n" {
		t.Errorf("state %q", got)
	}
	out, _ = ask(t, 0, "forget", "--strangers", "--server", address)
	if out != "0 machines forgotten\n" {
		t.Errorf("%q", out)
	}
}

// TestWatch: prints again when something changes, until interrupted.
func TestWatch(t *testing.T) {
	address, _ := start(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out := &lines{found: make(chan string, 100)}
	done := make(chan int)
	go func() {
		done <- run(ctx, []string{"machines", "--watch", "--interval", "10ms", "--server", address}, out, io.Discard)
	}()
	out.wait(t, "transfer 25 %")
	if status, _, stderr := ctl(t, "hold", id, "--server", address); status != 0 {
		t.Fatal(stderr)
	}
	out.wait(t, " hold ")
	interrupt()
	if status := <-done; status != 0 {
		t.Errorf("status %d", status)
	}
}

// lines is a writer that can be waited on.
type lines struct{ found chan string }

func (l *lines) Write(b []byte) (int, error) {
	l.found <- string(b)
	return len(b), nil
}

func (l *lines) wait(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case got := <-l.found:
			if strings.Contains(got, text) {
				return
			}
		case <-deadline:
			t.Fatalf("%q is never printed", text)
		}
	}
}

// TestTerminal: what machines say cannot steer the operator's terminal.
func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	m := api.Machine{ID: id, Name: "a\x1b[2Jb", DisplayName: "x\x07y", LastError: "one\x1b]0;evil\ntwo"}
	printMachine(&out, m)
	printTable(&out, []api.Machine{m})
	if strings.ContainsAny(out.String(), "\x1b\x07") {
		t.Errorf("%q", out.String())
	}
}
