package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server"
	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestOutcomes compares the whole answer of every outcome with a golden file.
// EDEPLOY_GOLDEN=1 writes the files anew.
func TestOutcomes(t *testing.T) {
	with := func(files map[string]string, pairs ...string) map[string]string {
		for i := 0; i < len(pairs); i += 2 {
			files[pairs[i]] = pairs[i+1]
		}
		return files
	}
	without := func(files map[string]string, names ...string) map[string]string {
		for _, n := range names {
			delete(files, n)
		}
		return files
	}
	for _, tt := range []struct {
		name   string
		files  map[string]string
		before func(l *lab)
		act    func(l *lab) answer // nil: machine 1 uploads
		status int
	}{
		{name: "configuration", files: seedFiles(), status: http.StatusOK},
		{name: "failure-report", files: seedFiles(), before: func(l *lab) { l.mustGet(vm(1)) },
			act: func(l *lab) answer { return l.fail("vm", vm(1)) }, status: http.StatusOK},
		{name: "log", files: seedFiles(), act: func(l *lab) answer { return l.post("file/a.log.gz", "x") }, status: http.StatusOK},

		{name: "no-match", files: seedFiles(), act: func(l *lab) answer { return l.upload(tiny(1)) }, status: http.StatusNotFound},
		{name: "no-match-missing-specs", files: without(seedFiles(), "vm.specs"), status: http.StatusNotFound},
		{name: "no-match-broken-specs", files: with(seedFiles(), "vm.specs", "[('disk', '$disk', 'size' 'gt(4)'),\n ('a', 'b']\n"), status: http.StatusNotFound},
		{name: "other-profile-broken", files: with(seedFiles(), "hp.specs", "[(\n"), status: http.StatusOK},
		{name: "counts-used-up", files: with(seedFiles(), "state", "[('hp', 0), ('vm', -1)]\n"), status: http.StatusConflict},
		{name: "cmdb-used-up", files: with(seedFiles(), "vm.cmdb", "[{'ip': '10.0.0.1', 'used': 1}]\n"), status: http.StatusConflict},
		{name: "cmdb-no-entry", files: with(seedFiles(), "vm.specs", "[('network', '$eth', 'serial', '$$mac')]\n", "vm.cmdb", "[{'mac': 'aa', 'ip': '10.0.0.1'}]\n"), status: http.StatusConflict},
		{name: "cmdb-no-variable", files: with(seedFiles(), "vm.specs", "[('disk', 'vda', 'size', '40')]\n"), status: http.StatusServiceUnavailable},

		{name: "state-missing", files: without(seedFiles(), "state"), status: http.StatusServiceUnavailable},
		{name: "state-broken", files: with(seedFiles(), "state", "[('hp', 4),\n ('vm' '*'\n"), status: http.StatusServiceUnavailable},
		{name: "state-bad-count", files: with(seedFiles(), "state", "[('vm', 'many')]\n"), status: http.StatusServiceUnavailable},
		{name: "cmdb-broken", files: with(seedFiles(), "vm.cmdb", "[{'ip': '10.0.0.1'},\n {'ip': 10.0.0.2}]\n"), status: http.StatusServiceUnavailable},
		{name: "configure-missing", files: without(seedFiles(), "vm.configure"), status: http.StatusServiceUnavailable},

		{name: "no-file", files: seedFiles(), act: func(l *lab) answer { return l.post("section", "SERVER") }, status: http.StatusBadRequest},
		{name: "unknown-section", files: seedFiles(), act: func(l *lab) answer { return l.post("section", "../x", "file/hw.json", encode(vm(1))) }, status: http.StatusBadRequest},
		{name: "broken-json", files: seedFiles(), act: func(l *lab) answer { return l.post("file/hw.json", encode(vm(1))[:60]) }, status: http.StatusBadRequest},
		{name: "no-form", files: seedFiles(), act: func(l *lab) answer {
			return l.do("POST", "/cgi-bin/upload.py", "application/json", strings.NewReader("{}"))
		}, status: http.StatusBadRequest},
		{name: "no-post", files: seedFiles(), act: func(l *lab) answer { return l.do("GET", "/cgi-bin/upload.py", "", nil) }, status: http.StatusMethodNotAllowed},
		{name: "too-large", files: seedFiles(), act: func(l *lab) answer {
			return l.post("file/hw.json", strings.Repeat(" ", wire.MaxHardwareBytes+1))
		}, status: http.StatusRequestEntityTooLarge},
		{name: "nameless", files: seedFiles(), act: func(l *lab) answer { return l.upload(vm(1)[:2]) }, status: http.StatusUnprocessableEntity},
		{name: "ambiguous", files: seedFiles(), before: func(l *lab) {
			l.mustGet(append(vm(1), fact("network", "eth1", "serial", mac(11))))
			l.mustGet(append(vm(2), fact("network", "eth1", "serial", mac(12))))
		}, act: func(l *lab) answer {
			return l.upload(append(vm(1), fact("network", "eth1", "serial", mac(12))))
		}, status: http.StatusConflict},
		{name: "held", files: seedFiles(), before: func(l *lab) {
			l.mustGet(vm(1))
			l.boot(idOf(1), "hold", http.StatusOK)
		}, status: http.StatusConflict},
		{name: "too-many-machines", files: seedFiles(), before: func(l *lab) {
			for n := range 3 {
				l.mustGet(vm(10 + n))
			}
		}, status: http.StatusServiceUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, tt.files)
			l.limits = server.Limits{Machines: 3}
			l.start()
			if tt.before != nil {
				tt.before(l)
			}
			state, cmdb := l.text("state"), l.text("vm.cmdb")
			act := tt.act
			if act == nil {
				act = func(l *lab) answer { return l.upload(vm(1)) }
			}
			got := act(l)
			if got.status != tt.status || got.kind != "text/x-python" {
				t.Errorf("status %d %s, want %d", got.status, got.kind, tt.status)
			}
			golden(t, filepath.Join("testdata", "answers", tt.name), strings.ReplaceAll(got.body, l.config, "CONFIGDIR"))
			if tt.status == http.StatusOK {
				return
			}
			if !strings.HasPrefix(got.body, "#!/bin/sh\n") || wire.ParseRefusal(got.body) == "" {
				t.Errorf("the answer is no refusal: %q", got.body)
			}
			if l.text("state") != state || l.text("vm.cmdb") != cmdb {
				t.Errorf("a refusal changed state or CMDB:\n%s\n%s", l.text("state"), l.text("vm.cmdb"))
			}
		})
	}
}

// text is a file of the configuration directory, "absent" without one.
func (l *lab) text(name string) string {
	text, err := l.lookUp(name)
	if err != nil {
		return "absent"
	}
	return text
}

// golden compares with a file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("EDEPLOY_GOLDEN") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestNoMatchIsKept: why nothing fits is in the machine's history, too.
func TestNoMatchIsKept(t *testing.T) {
	l := startLab(t, seedFiles())
	l.upload(tiny(1))
	m := l.machine(idOf(1))
	if m.State != "failed" || m.Allocation != nil || !strings.Contains(m.LastError, "gt(4)") {
		t.Errorf("record: %+v", m)
	}
	last := m.History[len(m.History)-1]
	if last.Step != "match" || last.Status != "failed" || !strings.Contains(last.Message, "gt(4)") || !strings.Contains(last.Message, "1I:1:1") {
		t.Errorf("history: %+v", last)
	}
}

// TestEdits: the operator edits files while the server runs.
func TestEdits(t *testing.T) {
	l := startLab(t, seedFiles())
	l.mustGet(vm(1))
	problems := func() []api.Problem {
		var all []api.Problem
		l.get("/api/v1/problems", &all)
		return all
	}
	if got := problems(); len(got) != 0 {
		t.Errorf("problems before: %+v", got)
	}
	record := l.machine(idOf(1)).Allocation
	cmdb := l.read("vm.cmdb")
	for _, tt := range []struct {
		file, broken string
		line         int
		status       int // of the answer to machine 1 meanwhile
	}{
		{"state", "[('hp', 4),\n ('vm', '*'\n", 2, http.StatusServiceUnavailable},
		{"vm.cmdb", strings.Replace(cmdb, "}", "", 1), 0, http.StatusServiceUnavailable},
		{"hp.specs", "[('disk', '1I:1:1', 'size', ),,\n]\n", 1, http.StatusOK},
		{"vm.specs", "[('disk',\n", 1, http.StatusOK}, // the version before it goes on
	} {
		good := l.read(tt.file)
		l.write(tt.file, tt.broken)
		if a := l.upload(vm(1)); a.status != tt.status {
			t.Errorf("%s broken: status %d, want %d: %s", tt.file, a.status, tt.status, a.body)
		}
		got := problems()
		if len(got) == 0 || !strings.HasSuffix(got[0].File, tt.file) || got[0].Line == 0 || got[0].Column == 0 || tt.line != 0 && got[0].Line != tt.line {
			t.Errorf("%s broken: problems %+v", tt.file, got)
		}
		l.write(tt.file, good)
		l.mustGet(vm(1))
		after := l.machine(idOf(1)).Allocation
		after.Asked = record.Asked
		if diff := cmp.Diff(record, after); diff != "" {
			t.Errorf("%s mended (-before +after):\n%s", tt.file, diff)
		}
	}

	l.write("vm.specs", "[('disk',\n")
	l.restart() // there is no version before it any more
	if a := l.upload(vm(1)); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "vm.specs:1:") {
		t.Errorf("vm.specs broken from the start: status %d: %s", a.status, a.body)
	}
	l.write("vm.specs", vmSpecs)
	l.mustGet(vm(1))

	l.write("state", "[('vm', 1), ('hp', 4)]\n")
	l.mustGet(vm(2))
	l.stateIs("[('vm', 0), ('hp', 4)]\n")
	if a := l.upload(vm(3)); a.status != http.StatusNotFound && a.status != http.StatusConflict {
		t.Errorf("after the last count: status %d", a.status)
	}
	l.write("state", "[('vm', 5), ('hp', 4)]\n")
	l.mustGet(vm(3))
	l.stateIs("[('vm', 4), ('hp', 4)]\n")
}

// TestLogs: logs are rotated, and kept under clean names.
func TestLogs(t *testing.T) {
	l := newLab(t, seedFiles())
	l.limits = server.Limits{LogsPerMember: 2, LogBytes: 1000}
	l.start()
	for n := range 5 {
		if a := l.post("section", "SERVER", "file/../Acme-R7-1.log.gz", fmt.Sprint("log ", n)); a.status != http.StatusOK || a.body != "" {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
	}
	logs, err := filepath.Glob(filepath.Join(l.config, "*.log.gz"))
	if err != nil || len(logs) != 3 {
		t.Errorf("logs: %v, %v", logs, err)
	}
	if got := l.read("Acme-R7-1.log.gz"); got != "log 4" {
		t.Errorf("newest log: %q", got)
	}
	if a := l.post("file/big.log.gz", strings.Repeat("x", 1001)); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large log: status %d", a.status)
	}
	spooled, err := os.ReadDir(filepath.Join(l.state, "spool"))
	if err != nil || len(spooled) != 0 {
		t.Errorf("spool: %v, %v", spooled, err)
	}
}
