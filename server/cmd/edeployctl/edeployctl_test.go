package main

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server"
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
	s, err := server.New(server.Config{Deployments: map[string]server.Deployment{"SERVER": {ConfigDir: config}}, StateDir: t.TempDir(), Version: "9.9", Now: now})
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
		{"explain", []string{"machines", "explain", id, "--server", address}, 0, []string{"machine " + id + ", deployment SERVER, ", "got vm\n",
			"\nbig: does not fit\n  line 1  ('disk', '$disk', 'size', '$gb=gt(100)')  finds nothing\n  closest is ('disk', 'vda', 'size', '40'): '40' is not gt(100)\n",
			"\nvm: fits\n  line 1  ", "takes ('disk', 'vda', 'size', '40')", "disk=vda\n  line 1", "mac=02:00:00:00:00:01"}, ""},
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
		{"bad server", []string{"machines", "--server", "http://"}, 1, nil, "server"},
		{"no machine", []string{"forget", "--server", address}, 1, nil, "accepts 1 arg"},
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
	if status != 1 || !strings.Contains(out, "problem: state:1:1:") || !strings.Contains(stderr, "1 problems") {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, stderr)
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
	m := server.Machine{ID: id, Name: "a\x1b[2Jb", DisplayName: "x\x07y", LastError: "one\x1b]0;evil\ntwo"}
	printMachine(&out, m)
	printTable(&out, []server.Machine{m})
	if strings.ContainsAny(out.String(), "\x1b\x07") {
		t.Errorf("%q", out.String())
	}
}
