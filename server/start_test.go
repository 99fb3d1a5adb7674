package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"edeploy/server/wire"
)

// problemSays tells whether a problem has the text.
func (l *lab) problemSays(text string) bool {
	for _, p := range l.server.Problems() {
		if strings.Contains(p.Text, text) {
			return true
		}
	}
	return false
}

// TestDamagedState: whatever is broken in the state directory, the server
// starts, names it and serves the others; and a machine whose record is broken
// is not installed.
func TestDamagedState(t *testing.T) {
	record := filepath.Join("machines", idOf(1)+".json")
	for _, tt := range []struct {
		name, file, text string
		says             string // in a problem
		keeps            bool   // the record was broken
	}{
		{"journal", "journal", "{", "journal.broken was no journal", false},
		{"empty journal", "journal", "", "journal.broken was no journal", false},
		{"journal of a deployment that is gone", "journal", `[{"Name": "config.OLD/state", "Text": "eA=="}]`, "journal.broken was no journal", false},
		{"record", record, "{", "put aside as ", true},
		{"empty record", record, "", "edeployctl reinstall " + idOf(1), true},
		{"record cut off", record, `{"id": "` + idOf(1) + `", "macs": ["` + mac(1) + `", "` + mac(7) + `"], "uuid": "` + genuineUUID + `", "sta`, ".json.broken", true},
		{"another's record", record, `{"id": "x", "boot": "auto", "state": "failed"}`, ".json.broken", true},
		{"history", filepath.Join("history", idOf(1)+".log"), "\x00\xff\nnonsense", "", false},
		{"explanation", filepath.Join("history", idOf(1)+".why"), "{", "", false},
		{"forgotten machine", filepath.Join("forgotten", "x.json"), "{", "", false},
		{"spool", filepath.Join("spool", "upload-1", "x"), "x", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := startLab(t, seedFiles())
			l.mustGet(genuine(1))
			l.installed(genuine(1))
			l.stop()
			path := filepath.Join(l.state, tt.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			l.start()
			if tt.says != "" && !l.problemSays(tt.says) {
				t.Errorf("no problem says %q: %+v", tt.says, l.server.Problems())
			}
			l.restart()
			if got := l.server.BootAction(mac(1), ""); got != wire.BootLocal {
				t.Errorf("it boots %s", got)
			}
			if a := l.upload(genuine(1)); a.status != http.StatusConflict {
				t.Errorf("its upload: %d %s", a.status, a.body)
			}
			l.mustGet(vm(2))
			l.report(wire.Report{Machine: genuine(1).Identity(), Step: wire.StepUpgrade, Status: wire.StatusDone}, http.StatusOK)
			if !tt.keeps {
				return
			}
			if aside, err := os.ReadFile(path + ".broken"); err != nil || string(aside) != tt.text {
				t.Errorf("aside: %q, %v", aside, err)
			}
			l.boot(idOf(1), "reinstall", http.StatusOK)
			l.mustGet(genuine(1))
		})
	}
}

// TestMendWithoutSpace: a machine whose record is broken is not installed, also
// when nothing can be written.
func TestMendWithoutSpace(t *testing.T) {
	l := newLab(t, seedFiles())
	var full atomic.Bool
	l.step = func(string) error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return nil
	}
	l.start()
	l.mustGet(vm(1))
	l.installed(vm(1))
	l.stop()
	if err := os.WriteFile(filepath.Join(l.state, "machines", idOf(1)+".json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	l.start()
	if got := l.server.BootAction(mac(1), ""); got != wire.BootLocal || !l.problemSays("cannot be put aside") {
		t.Errorf("it boots %s; problems:\n%s", got, l.problemTexts())
	}
	full.Store(false)
	l.boot(idOf(1), "reinstall", http.StatusOK)
	l.restart()
	l.mustGet(vm(1))
}

// TestNoSpace: a full disk is told as such, and nothing is left of it when
// there is room again.
func TestNoSpace(t *testing.T) {
	l := newLab(t, countedFiles(3))
	var full atomic.Bool
	l.step = func(string) error {
		if full.Load() {
			return &os.PathError{Op: "write", Path: "state", Err: syscall.ENOSPC}
		}
		return nil
	}
	l.start()
	l.mustGet(vm(1))
	full.Store(true)
	if a := l.upload(vm(2)); a.status != http.StatusInsufficientStorage || !strings.Contains(a.body, "no space left") {
		t.Errorf("an upload: %d %s", a.status, a.body)
	}
	l.boot(idOf(1), "hold", http.StatusInsufficientStorage)
	full.Store(false)
	l.mustGet(vm(2))
	l.boot(idOf(1), "hold", http.StatusOK)
	l.books(3, 1, 2)
}
