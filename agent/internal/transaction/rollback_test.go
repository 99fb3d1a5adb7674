package transaction_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edeploy/agent/internal/transaction"
	"edeploy/images/manifest"
)

var when = time.Unix(1e9, 0)

// TestForeign keeps what came since into new directories.
func TestForeign(t *testing.T) {
	l := newLab(t, []string{"a=1"}, []string{"a=2", "new/sub/theirs=1", "new/other/theirs=1", "new/theirs=1", "data/theirs=1"})
	_, err := l.machine.Upgrade(t.Context(), l.upgrade(t, "", ""))
	must(t, err)
	for _, name := range []string{"new/sub/mine", "new/deep/er/mine", "data/mine"} {
		must(t, os.MkdirAll(filepath.Join(l.root, filepath.Dir(name)), 0o755))
		must(t, os.WriteFile(filepath.Join(l.root, name), []byte("mine"), 0o644))
	}
	_, err = l.machine.Rollback(t.Context())
	must(t, err)
	var got []string
	for _, e := range describe(t, l.root).Entries {
		if e.Type == manifest.File {
			got = append(got, e.Path)
		}
	}
	if want := "[a data/mine new/deep/er/mine new/sub/mine]"; want != str(got) {
		t.Errorf("files %s, want %s", got, want)
	}
	l.wantPhase(t, transaction.PhaseIdle)
}

func str(words []string) string {
	s := "["
	for i, w := range words {
		if i > 0 {
			s += " "
		}
		s += w
	}
	return s + "]"
}

func TestRollbackRefused(t *testing.T) {
	l := newLab(t, []string{"a=1", "keep=1"}, []string{"a/b=2", "keep=1"})
	_, err := l.machine.Rollback(t.Context())
	wantError(t, err, transaction.ErrNothingKept)
	_, err = l.machine.Upgrade(t.Context(), l.upgrade(t, "", ""))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(l.root, "a/mine"), nil, 0o644))
	mine := describe(t, l.root)
	_, err = l.machine.Rollback(t.Context())
	wantError(t, err, nil, "roll back to base D12-F.1.0.0", "a was no directory before", "a/mine came into it since")
	wantSame(t, "the tree", mine, describe(t, l.root))
	l.wantPhase(t, transaction.PhaseKept)

	must(t, os.Remove(filepath.Join(l.root, "a/mine")))
	must(t, os.Rename(filepath.Join(l.root, ".edeploy/1/0"), filepath.Join(l.root, ".edeploy/1/x")))
	_, err = l.machine.Rollback(t.Context())
	wantError(t, err, nil, "what was kept of", "is not there")
	l.wantPhase(t, transaction.PhaseKept)
}

// TestMeddledSince rolls back over what somebody did to the new version.
func TestMeddledSince(t *testing.T) {
	for _, exchange := range []bool{true, false} {
		l := newLab(t, []string{"a=1", "b=1", "c=1", "d/e=1", "f=1", "g=1;mode=600"}, []string{"a=2", "b=2", "c=2", "f/g=2", "g=1"})
		l.machine = l.machine.WithHooks(nil, exchange)
		old := describe(t, l.root)
		_, err := l.machine.Upgrade(t.Context(), l.upgrade(t, "", ""))
		must(t, err)
		at := func(name string) string { return filepath.Join(l.root, name) }
		must(t, errors.Join(os.WriteFile(at("a"), []byte("mine"), 0o600), os.Remove(at("b")), os.Remove(at("c")), os.Mkdir(at("c"), 0o700),
			os.WriteFile(at("d"), []byte("mine"), 0o600), os.WriteFile(at("f/g"), []byte("mine"), 0o600), os.Chmod(at("g"), 0o777)))
		_, err = l.machine.Rollback(t.Context())
		must(t, err)
		wantSame(t, "after the rollback", old, describe(t, l.root))
	}
}

// TestNext upgrades twice. A failed second upgrade leaves the first one's
// rollback, a good one replaces it, with content from what was kept.
func TestNext(t *testing.T) {
	l := newLab(t, []string{"a=1;big", "b=1"}, []string{"a=2", "c=1"})
	_, err := l.machine.Upgrade(t.Context(), l.upgrade(t, "", ""))
	must(t, err)
	first := describe(t, l.root)
	l.source = t.TempDir()
	build(t, l.source, "a=3", "d/e=4")
	u := l.upgrade(t, "", "")
	u.Post = func(context.Context) error { return errors.New("no") }
	_, err = l.machine.Upgrade(t.Context(), u)
	wantError(t, err, transaction.ErrUndone)
	wantSame(t, "after the failed upgrade", first, describe(t, l.root))
	status, err := l.machine.Status()
	if err != nil || status.Phase != transaction.PhaseKept || status.Rollback == nil || *status.Rollback != before || status.KeptBytes < 300_000 || time.Since(status.Committed) > time.Hour {
		t.Fatalf("status %+v, %v", status, err)
	}

	l.source = t.TempDir()
	build(t, l.source, "a=1;big", "x=1;big")
	u = l.upgrade(t, "", "")
	src := &source{tree: tree(l.source)}
	u.Source = src
	result, err := l.machine.Upgrade(t.Context(), u)
	must(t, err)
	if src.opened != 0 || result.CopiedFiles != 2 || result.CopiedBytes != 600_000 || result.FetchedBytes != 0 {
		t.Errorf("opened %d files; result %+v", src.opened, result)
	}
	wantSame(t, "after the second upgrade", u.Target, describe(t, l.root))
	_, err = l.machine.Rollback(t.Context())
	must(t, err)
	wantSame(t, "after its rollback", first, describe(t, l.root))
	_, err = l.machine.Rollback(t.Context())
	wantError(t, err, transaction.ErrNothingKept)
}
