package profile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/store"
)

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	temporary := filepath.Join(dir, ".new")
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestSpecsFollowEdits(t *testing.T) {
	dir := t.TempDir()
	d := profile.Open(dir+"/", store.OpenFiles(dir))
	if _, err := d.Specs("vm"); !errors.Is(err, fs.ErrNotExist) || err.Error() != "read "+dir+"/vm.specs: no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
	write(t, dir, "vm.specs", "[('a', 'b', 'c', 'd')]")
	first, err := d.Specs("vm")
	if err != nil || match.Match(nil, first).OK {
		t.Fatalf("%v, %v", first, err)
	}
	if again, _ := d.Specs("vm"); again != first {
		t.Errorf("an unchanged file was compiled twice")
	}
	write(t, dir, "vm.specs", "[('a', 'b', 'c', 'd'),\n ('a' 'b', 'c', 'd')]")
	last, err := d.Specs("vm")
	var place *literal.Error
	if !errors.As(err, &place) || place.Line != 2 || place.Column != 2 || place.File != "vm.specs" || last != first {
		t.Errorf("broken edit: %v, last good version kept: %v", err, last == first)
	}
	write(t, dir, "vm.specs", "[]")
	if now, err := d.Specs("vm"); err != nil || !match.Match(nil, now).OK {
		t.Errorf("mended edit: %v, %v", now, err)
	}
	if err := os.Remove(filepath.Join(dir, "vm.specs")); err != nil {
		t.Fatal(err)
	}
	if now, err := d.Specs("vm"); !errors.Is(err, fs.ErrNotExist) || now != nil {
		t.Errorf("removed file: %v, %v", now, err)
	}
}

// TestEditInPlace: an editor that writes into the file is noticed by its time.
func TestEditInPlace(t *testing.T) {
	dir := t.TempDir()
	d := profile.Open(dir, store.OpenFiles(dir))
	name := filepath.Join(dir, "vm.specs")
	for i, text := range []string{"[('a', 'b', 'c', '1')]", "[('a', 'b', 'c', '2')]"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, time.Time{}, time.Unix(int64(1000+i), 0)); err != nil {
			t.Fatal(err)
		}
		specs, err := d.Specs("vm")
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 && specs == nil {
			t.Error("no specs after the edit")
		}
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "secret.specs", "[]")
	d := profile.Open(filepath.Join(dir, "config"), store.OpenFiles(filepath.Join(dir, "config")))
	for _, name := range []string{"", ".", "..", "../secret", "/etc/passwd", "a/b", ".hidden", "a\x00b", "a\nb", strings.Repeat("x", 300)} {
		if err := profile.CheckName(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
		if _, err := d.Specs(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Specs(%q): %v", name, err)
		}
		if _, err := d.CMDB(name); err == nil {
			t.Errorf("CMDB(%q) is accepted", name)
		}
		if _, err := d.Configure(name); err == nil {
			t.Errorf("Configure(%q) is accepted", name)
		}
	}
	if err := profile.CheckName("vm-2.disks (old)"); err != nil {
		t.Error(err)
	}
}

func TestCMDB(t *testing.T) {
	dir := t.TempDir()
	d := profile.Open(dir, store.OpenFiles(dir))
	if f, err := d.CMDB("vm"); f != nil || err != nil {
		t.Errorf("no CMDB: %v, %v", f, err)
	}
	write(t, dir, "vm.cmdb", "[{'a': 'b'}]\n")
	f, err := d.CMDB("vm")
	if err != nil || f.Len() != 1 {
		t.Fatalf("%v, %v", f, err)
	}
	if again, _ := d.CMDB("vm"); again != f {
		t.Error("an unchanged file was parsed twice")
	}
	a, err := f.Allocate(literal.NewDict("mac", "m"), nil, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.KeepCMDB("vm", a.File)
	write(t, dir, "vm.cmdb", a.File.Text())
	if now, _ := d.CMDB("vm"); now != a.File {
		t.Error("the expected file was parsed again")
	}
	write(t, dir, "vm.cmdb", "[{'a': }]\n")
	if _, err := d.CMDB("vm"); err == nil || err.Error() != `vm.cmdb:1:8: want a value, got "}" (it was written a moment ago)` {
		t.Errorf("broken file: %v", err)
	}
	settle(t, dir, "vm.cmdb")
	last, err := d.CMDB("vm")
	if broken := new(profile.Broken); !errors.As(err, &broken) || broken.Text != "[{'a': }]\n" || last != a.File {
		t.Errorf("broken file: %v, %v, want the last good version and what the file holds", last, err)
	}
	if err := os.Remove(filepath.Join(dir, "vm.cmdb")); err != nil {
		t.Fatal(err)
	}
	if f, err := d.CMDB("vm"); f != nil || err != nil {
		t.Errorf("removed CMDB: %v, %v", f, err)
	}
}

// settle makes a file an old one.
func settle(t *testing.T, dir, name string) {
	t.Helper()
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
		t.Fatal(err)
	}
}

func TestStateAndConfigure(t *testing.T) {
	dir := t.TempDir()
	d := profile.Open(dir, store.OpenFiles(dir))
	if _, err := d.State(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no state: %v", err)
	}
	write(t, dir, "state", "[('vm', 2)]")
	s, err := d.State()
	if err != nil || s.Pairs()[0].Count != 2 {
		t.Errorf("%v, %v", s, err)
	}
	write(t, dir, "state", "[('vm', 2]")
	const mistake = `state:1:10: want a comma or ")", got "]"`
	if s, err := d.State(); s != nil || err == nil || err.Error() != mistake+" (it was written a moment ago)" {
		t.Errorf("state that is being written: %v, %v", s, err)
	}
	settle(t, dir, "state")
	last, err := d.State()
	if last != s || err == nil || err.Error() != mistake+"; the last good version stays in use" {
		t.Errorf("broken state: %v, %v", last, err)
	}
	if _, err := profile.Open(dir, store.OpenFiles(dir)).State(); err == nil || err.Error() != mistake {
		t.Errorf("broken state without a good version: %v", err)
	}
	write(t, dir, "vm.configure", "run('true')\n")
	if text, err := d.Configure("vm"); err != nil || text != "run('true')\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := d.Configure("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no configure: %v", err)
	}
}
