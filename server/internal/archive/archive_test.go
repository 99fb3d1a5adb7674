package archive_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/archive"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func fact(category, id, field string, value any) wire.Fact {
	return wire.Fact{Category: category, ID: id, Field: field, Value: value}
}

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{
		"RackNodeR7-SN009-02-00-00-00-00-01": "RackNodeR7-SN009-02-00-00-00-00-01",
		"../../etc/passwd":                   "etcpasswd",
		"a;rm -rf $HOME\x00\n":               "arm-rfHOME",
		"...":                                "",
		"Größe":                              "Gre",
		strings.Repeat("x", 300):             strings.Repeat("x", 150),
	} {
		if got := archive.CleanName(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestSaveHardware(t *testing.T) {
	dir := t.TempDir()
	a := &archive.Archive{Dir: dir, Suffix: archive.HardwareSuffix, MaxBytes: 200, MaxFiles: 2}
	h := wire.Hardware{fact("disk", "vda", "size", "40"), fact("system", "product", "name", "Bob's \"R7\""), fact("cpu", "logical", "number", int64(16))}
	name, err := a.SaveHardware("../../R7-1", h)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "R7-1.hw"))
	if err != nil {
		t.Fatal(err)
	}
	want := "[('disk', 'vda', 'size', '40'),\n ('system', 'product', 'name', 'Bob\\'s \"R7\"'),\n ('cpu', 'logical', 'number', 16)]\n"
	if diff := cmp.Diff(want, string(text)); diff != "" || name != "R7-1.hw" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
	if _, err := a.SaveHardware("R7-1", h[:1]); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := a.SaveHardware("R7-2", h[:1]); err != nil {
		t.Errorf("a second one: %v", err)
	}
	if _, err := a.SaveHardware("R7-3", h[:1]); !errors.Is(err, archive.ErrFull) {
		t.Errorf("a third one: got %v, want ErrFull", err)
	}
	if _, err := a.SaveHardware("R7-2", slices.Repeat(h, 10)); !errors.Is(err, archive.ErrFull) {
		t.Errorf("a large one: got %v, want ErrFull", err)
	}
	if err := os.Remove(filepath.Join(dir, "R7-1.hw")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.SaveHardware("R7-1", h[:1]); err != nil {
		t.Errorf("after the operator has made room: %v", err)
	}
	if diff := cmp.Diff([]string{"R7-1.hw", "R7-2.hw"}, names(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// spool writes a temporary file.
func spool(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "upload-1")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLeftovers: temporary files of a killed process are removed when they are
// old; nobody else's are.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	for name, at := range map[string]time.Time{".R7-1.hw.00c0ffee": old, ".R7-2.hw.00c0ffee": time.Now(), ".profile": old, "R7-3.hw": old, ".hw": old} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	a := &archive.Archive{Dir: dir, Suffix: archive.HardwareSuffix, MaxBytes: 200, MaxFiles: 9}
	if _, err := a.SaveHardware("R7-4", wire.Hardware{fact("disk", "vda", "size", "40")}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".R7-2.hw.00c0ffee", ".hw", ".profile", "R7-3.hw", "R7-4.hw"}, names(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSaveLog(t *testing.T) {
	dir := t.TempDir()
	a := &archive.Archive{Dir: dir, Suffix: archive.LogSuffix, MaxBytes: 1000, MaxFiles: 10, KeepEach: 2}
	start := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for i := range 5 {
		name, err := a.SaveLog("Acme-R7-1.log.gz", spool(t, fmt.Sprint("log ", i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), start, start.Add(time.Duration(i/2)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"Acme-R7-1.20261122100100.log.gz", "Acme-R7-1.20261122100101.log.gz", "Acme-R7-1.log.gz"}
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("rotation (-want +got):\n%s", diff)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "Acme-R7-1.log.gz")); string(text) != "log 4" {
		t.Errorf("newest log: %q, %v", text, err)
	}
}

func TestLogsStayWithinBounds(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state"), []byte("[]"), 0o644); err != nil {
		t.Fatal(err)
	}
	a := &archive.Archive{Dir: dir, Suffix: archive.LogSuffix, MaxBytes: 35, MaxFiles: 4, KeepEach: 2}
	for i := range 20 {
		name, err := a.SaveLog(fmt.Sprintf("../m%02d.log.gz", i), spool(t, strings.Repeat("x", 10)))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1_000_000+i), 0)
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"m17.log.gz", "m18.log.gz", "m19.log.gz", "state"}, names(t, dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
