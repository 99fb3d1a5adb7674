package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edeploy/server/internal/store"
	"edeploy/server/internal/store/storetest"

	"github.com/google/go-cmp/cmp"
)

func TestDir(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, newPlace(t)) })
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return store.NewMemory(store.Limits{}) })
}

func TestMemoryLikeEtcd(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return store.NewMemory(store.Etcd) })
}

// TestLimits: a commit that is larger than the store takes changes nothing.
func TestLimits(t *testing.T) {
	documents := func(n, bytes int) (all []store.Change) {
		for i := range n {
			all = append(all, store.Change{Name: fmt.Sprintf("a/%03d", i), Text: make([]byte, bytes)})
		}
		return all
	}
	for _, tt := range []struct {
		changes []store.Change
		err     error
	}{
		{documents(128, 1), nil}, {documents(129, 1), store.ErrTooLarge},
		{documents(2, 3<<18-5), nil}, {documents(2, 3<<18-4), store.ErrTooLarge},
	} {
		s := store.NewMemory(store.Etcd)
		err := s.Commit(tt.changes...)
		names, _ := s.List("a")
		if !errors.Is(err, tt.err) || (len(names) == 0) != (err != nil) {
			t.Errorf("%d documents of %d bytes: %v, want %v; %d are there", len(tt.changes), len(tt.changes[0].Text), err, tt.err, len(names))
		}
	}
}

// TestVersionFollowsEdits: an edit that went past the store is seen at once,
// however the file was changed.
func TestVersionFollowsEdits(t *testing.T) {
	p := newPlace(t)
	d := open(t, p)
	at := filepath.Join(p.a, "state")
	is := func(how, want string) {
		t.Helper()
		for range 2 { // the second time it may be known
			if got, err := d.Version("a/state"); got != store.VersionOf([]byte(want)) || err != nil {
				t.Errorf("%s: %.9s, %v, want that of %q", how, got, err, want)
			}
		}
	}
	p.write(t, "state", "one")
	is("new", "one")
	p.write(t, "state", "two")
	is("a moment later, in place", "two")
	time.Sleep(200 * time.Millisecond) // it is known by its mark now
	is("still", "two")
	info, err := os.Stat(at)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "state", "six")
	if err := os.Chtimes(at, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	is("in place, same size, with its old time", "six")
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Version("a/state"); got != store.Absent || err != nil {
		t.Errorf("removed: %.9s, %v", got, err)
	}
	elsewhere := filepath.Join(p.journal, "elsewhere")
	if err := os.WriteFile(elsewhere, []byte("linked"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, at); err != nil {
		t.Fatal(err)
	}
	is("a symbolic link of the operator", "linked")
}

// TestFilesStayInside: what reads by path stays inside, too.
func TestFilesStayInside(t *testing.T) {
	d := open(t, newPlace(t))
	for _, name := range []string{"a/..", "a/.", "a/../x", "a//etc/passwd", "a/sub/x"} {
		if _, err := d.Get(name); err == nil || errors.Is(err, store.ErrNotExist) {
			t.Errorf("get of %s: %v", name, err)
		}
		if _, err := d.Version(name); err == nil {
			t.Errorf("version of %s: no error", name)
		}
	}
}

// place is the directories of a store.
type place struct{ journal, a, b string }

func newPlace(t *testing.T) place {
	p := place{t.TempDir(), t.TempDir(), t.TempDir()}
	return p
}

func (p place) collections() map[string]string { return map[string]string{"a": p.a, "b": p.b} }

func open(t *testing.T, p place) *store.Dir {
	t.Helper()
	d, _, err := store.OpenDir(p.journal, p.collections())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

var errPower = errors.New("power cut")

// cutAfter lets n changes of the file system through and fails for ever after.
func cutAfter(n int) func(string) error {
	return func(string) error {
		if n == 0 {
			return errPower
		}
		n--
		return nil
	}
}

func (p place) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.a, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// contents is every file of the store by name, "journal" for the journal.
func (p place) contents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for prefix, dir := range map[string]string{"": p.journal, "a/": p.a, "b/": p.b} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all[prefix+e.Name()] = string(text)
		}
	}
	return all
}

// transaction changes one document, makes one and removes one.
func transaction() []store.Change {
	return []store.Change{
		{Name: "a/state", Was: store.VersionOf([]byte("old")), Text: []byte("new")},
		{Name: "b/made.json", Text: []byte("made")},
		{Name: "a/gone.json", Was: store.VersionOf([]byte("gone")), Delete: true},
	}
}

var (
	before = map[string]string{"a/state": "old", "a/gone.json": "gone"}
	after  = map[string]string{"a/state": "new", "b/made.json": "made"}
)

// TestPowerCut cuts the power before every single change of the file system
// during a commit, and again before every single one during the recovery.
func TestPowerCut(t *testing.T) {
	sawBefore, sawAfter := 0, 0
	for n := 0; ; n++ {
		p := newPlace(t)
		p.write(t, "state", "old")
		p.write(t, "gone.json", "gone")
		d, _, err := store.OpenDirSteps(p.journal, p.collections(), cutAfter(n))
		if err != nil {
			t.Fatal(err)
		}
		cut := d.Commit(transaction()...)
		d.Close()
		for m := 0; ; m++ { // the power also fails during the recovery
			d, _, err := store.OpenDirSteps(p.journal, p.collections(), cutAfter(m))
			if err == nil {
				d.Close()
				break
			}
			if !errors.Is(err, errPower) {
				t.Fatal(err)
			}
		}
		got := p.contents(t)
		switch {
		case cmp.Equal(got, before) && cut != nil:
			sawBefore++
		case cmp.Equal(got, after):
			sawAfter++
		default:
			t.Fatalf("power cut before change %d (%v): neither all nor nothing: %v", n, cut, got)
		}
		if cut == nil {
			break
		}
	}
	if sawBefore < 2 || sawAfter < 5 {
		t.Errorf("the power cuts were not spread: %d ended before, %d after", sawBefore, sawAfter)
	}
}

// TestDiskTrouble: the file system refuses once, the process lives on.
func TestDiskTrouble(t *testing.T) {
	for n := 0; ; n++ {
		p := newPlace(t)
		p.write(t, "state", "old")
		p.write(t, "gone.json", "gone")
		calls := -1
		d, _, err := store.OpenDirSteps(p.journal, p.collections(), func(string) error {
			calls++
			if calls == n {
				return errPower
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		trouble := d.Commit(transaction()...)
		state, err := d.Get("a/state")
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		want := map[string]map[string]string{"old": before, "new": after}[string(state.Text)]
		if diff := cmp.Diff(want, p.contents(t)); diff != "" {
			t.Fatalf("trouble at change %d (-want +got):\n%s", n, diff)
		}
		if trouble == nil {
			return
		}
	}
}

// TestEditedMeanwhile: between the power cut and the restart the operator
// edits a document of the interrupted commit. The edit stays.
func TestEditedMeanwhile(t *testing.T) {
	for n := range 20 {
		p := newPlace(t)
		p.write(t, "state", "old")
		p.write(t, "gone.json", "gone")
		d, _, err := store.OpenDirSteps(p.journal, p.collections(), cutAfter(n))
		if err != nil {
			t.Fatal(err)
		}
		cut := d.Commit(transaction()...)
		d.Close()
		if cut == nil {
			return
		}
		_, journalErr := os.Stat(filepath.Join(p.journal, "journal"))
		p.write(t, "state", "edited")
		d, recovery, err := store.OpenDir(p.journal, p.collections())
		if err != nil {
			t.Fatal(err)
		}
		d.Close()
		want := map[string]string{"a/state": "edited", "a/gone.json": "gone"}
		if _, err := os.Stat(filepath.Join(p.b, "made.json")); err == nil && journalErr != nil {
			want = map[string]string{"a/state": "edited", "b/made.json": "made"} // the commit was over
		}
		if diff := cmp.Diff(want, p.contents(t)); diff != "" {
			t.Errorf("cut at %d (-want +got):\n%s", n, diff)
		}
		if journalErr == nil && (recovery.Outcome != store.Undone || !cmp.Equal(recovery.Edited, []string{"a/state"})) {
			t.Errorf("cut at %d: recovery %+v does not say that a/state was edited", n, recovery)
		}
	}
	t.Error("no commit came to its end")
}

func TestDirRefusesNamesOutside(t *testing.T) {
	d := open(t, newPlace(t))
	for _, name := range []string{"a/../x", "a//etc/passwd", "c/x", "a/sub/x"} {
		if err := d.Commit(store.Change{Name: name, Text: []byte("x")}); err == nil {
			t.Errorf("commit of %s: no error", name)
		}
	}
}

func TestDamagedJournal(t *testing.T) {
	p := newPlace(t)
	if err := os.WriteFile(filepath.Join(p.journal, "journal"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"journal.broken", "journal.broken2"} {
		d, got, err := store.OpenDir(p.journal, p.collections())
		if err != nil || got.Outcome != store.Damaged || got.Aside != want || got.Damage == nil {
			t.Fatalf("got %+v, %v, want it to be put aside as %s", got, err, want)
		}
		d.Close()
		// A journal that names a collection which is gone can be finished by nobody.
		if err := os.WriteFile(filepath.Join(p.journal, "journal"), []byte(`[{"Name": "gone/state", "Text": "eA=="}]`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLargeJournal: a change that is larger than a document, with its old
// texts, can be finished by the next start.
func TestLargeJournal(t *testing.T) {
	p := newPlace(t)
	d := open(t, p)
	old, next := bytes.Repeat([]byte("a"), 12<<20), bytes.Repeat([]byte("b"), 12<<20)
	names := []string{"a/state", "a/vm.cmdb"}
	for _, name := range names {
		if err := d.Commit(store.Change{Name: name, Text: old}); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	var changes []store.Change
	for _, name := range names {
		changes = append(changes, store.Change{Name: name, Was: store.VersionOf(old), Text: next})
	}
	steps := 0
	cut, _, err := store.OpenDirSteps(p.journal, p.collections(), func(what string) error {
		if steps++; steps == 5 { // the journal is there, and nothing else
			return errors.New("power cut")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cut.Commit(changes...); err == nil {
		t.Fatal("the power was not cut")
	}
	cut.Close()
	d, got, err := store.OpenDir(p.journal, p.collections())
	if err != nil || got.Outcome != store.Finished {
		t.Fatalf("got %+v, %v", got, err)
	}
	d.Close()
}

func TestKeepsModeOfEditedFile(t *testing.T) {
	p := newPlace(t)
	p.write(t, "state", "old")
	if err := os.Chmod(filepath.Join(p.a, "state"), 0o664); err != nil {
		t.Fatal(err)
	}
	d := open(t, p)
	if err := d.Commit(store.Change{Name: "a/state", Was: store.VersionOf([]byte("old")), Text: []byte("new")}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(p.a, "state"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o664 {
		t.Errorf("mode is %v, want 0664", info.Mode().Perm())
	}
}

func TestSweepsLeftovers(t *testing.T) {
	p := newPlace(t)
	for _, torn := range []string{".state1234567890", ".vm.cmdb123456", ".vm.cmdb.orig123456", ".vm.specs1234567", ".vm.configure1234567"} {
		p.write(t, torn, "torn")
	}
	p.write(t, ".bashrc", "mine")
	open(t, p)
	if diff := cmp.Diff(map[string]string{"a/.bashrc": "mine"}, p.contents(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestInfos(t *testing.T) {
	p := newPlace(t)
	p.write(t, "state", "12345")
	p.write(t, ".hidden", "x")
	if err := os.Mkdir(filepath.Join(p.a, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	d := open(t, p)
	got, err := d.Infos("a")
	if err != nil || len(got) != 1 || got[0].Name != "a/state" || got[0].Bytes != 5 || got[0].Modified.IsZero() {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := d.Infos("none"); err == nil {
		t.Error("an unknown collection: no error")
	}
}
