package server_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"
)

// editedBefore writes a file as an operator who has done so a minute ago.
func (l *lab) editedBefore(name, text string) {
	l.t.Helper()
	l.write(name, text)
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(filepath.Join(l.config, name), old, old); err != nil {
		l.t.Fatal(err)
	}
}

// TestBrokenEdits: after a broken edit of state or CMDB machines go on getting
// their profiles from the last good version, the mistake is told with its
// place, and the edit is put aside when counts must be written.
func TestBrokenEdits(t *testing.T) {
	l := startLab(t, countedFiles(5))
	l.mustGet(vm(1))
	const state, cmdb = "[('vm', 40),\n ('hp' 3)]\n", "[{'ip': '10.1.0.9'},\n {'ip' 10}]\n"
	l.editedBefore("state", state)
	l.editedBefore("vm.cmdb", cmdb)
	l.problemAt("state", 2, 8)
	l.problemAt("vm.cmdb", 2, 8)
	l.mustGet(vm(1)) // as before: nothing is written
	if l.read("state") != state || l.read("vm.cmdb") != cmdb {
		t.Error("a file was written although nothing has changed")
	}
	l.mustGet(vm(2))
	if l.read("state.broken") != state || l.read("vm.cmdb.broken") != cmdb {
		t.Error("an edit was lost")
	}
	l.books(5, 1, 2)
	l.mustGet(vm(3))
	l.books(5, 1, 2, 3)
	l.problemAt("state.broken", 0, 0)
	l.editedBefore("state", "[")
	l.fail("vm", vm(3))
	if l.read("state.broken") != state || l.read("state.broken2") != "[" {
		t.Error("the second edit has taken the place of the first one")
	}
	l.books(5, 1, 2)
}

// problemAt expects a problem with a place.
func (l *lab) problemAt(file string, line, column int) {
	l.t.Helper()
	var all []api.Problem
	l.get("/api/v1/problems", &all)
	for _, p := range all {
		if filepath.Base(p.File) == file && p.Line == line && p.Column == column {
			return
		}
	}
	l.t.Errorf("no problem at %s:%d:%d in %+v", file, line, column, all)
}

// TestFreshEdit: a broken file that was written a moment ago may not be
// complete yet: the machine asks again, and nothing is touched.
func TestFreshEdit(t *testing.T) {
	l := startLab(t, countedFiles(5))
	l.mustGet(vm(1))
	l.write("state", "[('vm', ")
	a := l.upload(vm(2))
	if a.status != http.StatusServiceUnavailable || !strings.Contains(wire.ParseRefusal(a.body), "a moment ago") {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	if l.read("state") != "[('vm', " {
		t.Error("the file was touched")
	}
	l.write("state", "[('vm', 4)]\n")
	l.mustGet(vm(2))
	l.books(5, 1, 2)
}
