package transaction_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"edeploy/agent/internal/transaction"
	"edeploy/images/manifest"
	"edeploy/integration/needs"

	"golang.org/x/sys/unix"
)

// source counts what is opened, and may change the content or fail.
type source struct {
	tree
	mu     sync.Mutex
	opened int
	open   func(n int, e *manifest.Entry) (io.ReadCloser, error) // nil answer: the tree's
}

func (s *source) Open(ctx context.Context, e *manifest.Entry) (io.ReadCloser, error) {
	s.mu.Lock()
	s.opened++
	n := s.opened
	s.mu.Unlock()
	if s.open != nil {
		if r, err := s.open(n, e); r != nil || err != nil {
			return r, err
		}
	}
	return s.tree.Open(ctx, e)
}

func text(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

// wantError checks that an error is one sentence with all of the words.
func wantError(t testing.TB, err error, is error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if is != nil && !errors.Is(err, is) {
		t.Errorf("error %q is not %q", err, is)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q has several lines", err)
	}
}

func TestBadSource(t *testing.T) {
	gone := errors.New("server gone")
	for name, c := range map[string]struct {
		open  func(n int, e *manifest.Entry) (io.ReadCloser, error)
		words []string
	}{
		"fails at once": {func(int, *manifest.Entry) (io.ReadCloser, error) { return nil, gone }, []string{"fetch", "server gone"}},
		"fails later": {func(n int, e *manifest.Entry) (io.ReadCloser, error) {
			if n < 3 {
				return nil, nil
			}
			return nil, gone
		}, []string{"fetch", "server gone"}},
		"fails in the middle": {func(int, *manifest.Entry) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("n"), errReader{gone})), nil
		}, []string{"fetch", "server gone"}},
		"wrong content": {func(n int, e *manifest.Entry) (io.ReadCloser, error) { return text("NEW" + e.Path), nil }, []string{"fetch", "SHA-256"}},
		"short":         {func(n int, e *manifest.Entry) (io.ReadCloser, error) { return text("n"), nil }, []string{"fetch", "1 bytes came, the manifest says 4"}},
		"endless":       {func(n int, e *manifest.Entry) (io.ReadCloser, error) { return io.NopCloser(zeroes{}), nil }, []string{"fetch", "5 bytes came"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, []string{"1=1", "2=2", "3=3", "4=4"}, []string{"1=new1", "2=new2", "3=new3", "4=new4", "d/l&1"})
			old, u := describe(t, l.root), l.upgrade(t, "", "")
			src := &source{tree: tree(l.source), open: c.open}
			u.Source = src
			_, err := l.machine.Upgrade(t.Context(), u)
			wantError(t, err, nil, c.words...)
			wantSame(t, "after the error", old, describe(t, l.root))
			l.wantPhase(t, transaction.PhaseStaging)

			src.open = nil
			first := src.opened
			_, err = l.machine.Upgrade(t.Context(), u)
			must(t, err)
			wantSame(t, "after the next attempt", u.Target, describe(t, l.root))
			if name == "fails later" && src.opened-first >= 4 {
				t.Errorf("the next attempt opened %d files, though 2 were staged", src.opened-first)
			}
			l.wantPhase(t, transaction.PhaseKept)
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { return len(b), nil }

func TestDiscard(t *testing.T) {
	l := newLab(t, []string{"a=1"}, []string{"a=2", "b=3"})
	old, u := describe(t, l.root), l.upgrade(t, "", "")
	u.Pre = func(context.Context) error { return errors.New("exit status 3") }
	_, err := l.machine.Upgrade(t.Context(), u)
	wantError(t, err, nil, "pre: exit status 3")
	l.wantPhase(t, transaction.PhaseStaged)
	outcome, err := l.machine.Recover(t.Context())
	if err != nil || outcome != transaction.Discarded {
		t.Errorf("Recover: %v, %v", outcome, err)
	}
	wantSame(t, "the tree", old, describe(t, l.root))
	l.wantPhase(t, transaction.PhaseIdle)
}

func TestPost(t *testing.T) {
	l := newLab(t, []string{"a=1", "x/y=1"}, []string{"a=2", "b/c=3"})
	old, u := describe(t, l.root), l.upgrade(t, "", "")
	u.Post = func(context.Context) error {
		must(t, os.WriteFile(filepath.Join(l.root, "b/generated"), nil, 0o644))
		return errors.New("exit status 1")
	}
	result, err := l.machine.Upgrade(t.Context(), u)
	wantError(t, err, transaction.ErrUndone, "post: exit status 1; everything was put back")
	wantSame(t, "after post failed", old, describe(t, l.root))
	l.wantPhase(t, transaction.PhaseIdle)
	if result.Reboot {
		t.Error("a failed post asks for a reboot")
	}

	u.Post = func(context.Context) error { return fmt.Errorf("post: %w", transaction.ErrReboot) }
	result, err = l.machine.Upgrade(t.Context(), u)
	if err != nil || !result.Reboot || result.Created != 2 || result.Replaced != 1 || result.Deleted != 2 || l.guard.arms != 2 {
		t.Errorf("result %+v, %v; armed %d times", result, err, l.guard.arms)
	}
}

func TestGuardFails(t *testing.T) {
	l := newLab(t, []string{"a=1"}, []string{"a=2"})
	old, u := describe(t, l.root), l.upgrade(t, "", "")
	l.guard.fails = errors.New("no kernel")
	_, err := l.machine.Upgrade(t.Context(), u)
	wantError(t, err, nil, "arm the boot guard: no kernel")
	wantSame(t, "the tree", old, describe(t, l.root))
	l.wantPhase(t, transaction.PhaseStaged)
}

// TestChangedUnderOurHands changes the tree after it was planned, and after it
// was staged. The change stays.
func TestChangedUnderOurHands(t *testing.T) {
	at := func(l *lab, name string) string { return filepath.Join(l.root, name) }
	for name, meddle := range map[string]func(l *lab) error{
		"content": func(l *lab) error { return os.WriteFile(at(l, "replaced"), []byte("X"), 0o600) },
		"gone":    func(l *lab) error { return os.Remove(at(l, "replaced")) },
		"another type": func(l *lab) error {
			return errors.Join(os.Remove(at(l, "replaced")), os.Mkdir(at(l, "replaced"), 0o755))
		},
		"created":           func(l *lab) error { return os.WriteFile(at(l, "created"), nil, 0o600) },
		"mode":              func(l *lab) error { return os.Chmod(at(l, "replaced"), 0o600) },
		"mode of a changed": func(l *lab) error { return os.Chmod(at(l, "changed"), 0o604) },
		"in a deleted":      func(l *lab) error { return os.WriteFile(at(l, "deleted/sub/mine"), nil, 0o600) },
		"of a deleted":      func(l *lab) error { return os.WriteFile(at(l, "deleted/sub/f"), []byte("mine"), 0o600) },
		"parent is a link": func(l *lab) error {
			return errors.Join(os.Rename(at(l, "dir"), at(l, "dir2")), os.Symlink("dir2", at(l, "dir")))
		},
		"parent is gone":     func(l *lab) error { return os.RemoveAll(at(l, "dir")) },
		"in a file's place":  func(l *lab) error { return os.WriteFile(at(l, "tofile/mine"), nil, 0o600) },
		"a link's target":    func(l *lab) error { return errors.Join(os.Remove(at(l, "link")), os.Symlink("mine", at(l, "link"))) },
		"what is linked to":  func(l *lab) error { return os.WriteFile(at(l, "stays"), []byte("mine"), 0o600) },
		"a swapped identity": func(l *lab) error { return os.Rename(at(l, "twin"), at(l, "replaced")) },
	} {
		for _, when := range []string{"planned", "staged"} {
			switch {
			case when == "staged" && name == "what is linked to":
				continue // the new names are names of it already
			case when == "planned" && name == "a swapped identity":
				continue // it is what the plan saw
			}
			t.Run(name+" when "+when, func(t *testing.T) {
				t.Parallel()
				l := newLab(t, []string{"replaced=1", "twin=1", "changed=1", "deleted/sub/f=1", "dir/f=1", "tofile/x=1", "link>a", "stays=1"},
					[]string{"replaced=2", "twin=1", "changed=1;mode=600", "created=1", "dir/f=2", "tofile=1", "link>b", "stays=1", "new&stays"})
				u := l.upgrade(t, "", "")
				if when == "planned" {
					must(t, meddle(l))
				} else {
					u.Pre = func(context.Context) error { return meddle(l) }
				}
				mine := describe(t, l.root)
				_, err := l.machine.Upgrade(t.Context(), u)
				if when == "staged" {
					twin := newLab(t, []string{"replaced=1", "twin=1", "changed=1", "deleted/sub/f=1", "dir/f=1", "tofile/x=1", "link>a", "stays=1"}, []string{"a=1"})
					must(t, meddle(twin))
					mine = describe(t, twin.root)
				}
				wantError(t, err, nil)
				got := describe(t, l.root)
				var lines []string
				for _, d := range manifest.Diff(mine, got) {
					if d.Attribute != manifest.AttrTime { // what was meddled with has the present time
						lines = append(lines, d.String())
					}
				}
				if len(lines) > 0 {
					t.Errorf("after %v:\n%s", err, strings.Join(lines, "\n"))
				}
				if status, err := l.machine.Status(); err != nil || status.Phase.Interrupted() && when == "staged" {
					t.Errorf("status %+v, %v", status, err)
				}
			})
		}
	}
}

// TestNewName gives a file that goes another name, as the boot guard does it
// with the running kernel: that is no change of the file.
func TestNewName(t *testing.T) {
	l := newLab(t, []string{"boot/vmlinuz=1", "boot/initrd=1"}, []string{"boot/initrd=2", "boot/vmlinuz2=2"})
	u := l.upgrade(t, "", "")
	u.Pre = func(context.Context) error {
		return errors.Join(os.Link(filepath.Join(l.root, "boot/vmlinuz"), filepath.Join(l.root, "kernel")),
			os.Link(filepath.Join(l.root, "boot/initrd"), filepath.Join(l.root, "initrd")))
	}
	_, err := l.machine.Upgrade(t.Context(), u)
	must(t, err)
}

// TestCancel cancels at every change.
func TestCancel(t *testing.T) {
	needs.Root(t)
	_, changes := complete(t, true)
	each(t, changes, true, func(t *testing.T, k int) {
		s := newStory(t, true)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := &power{limit: -1}
		m := s.with(p)
		m = m.WithHooks(func(op string) error {
			if err := p.step(op); err != nil {
				return err
			}
			if p.mu.Lock(); p.used == k {
				cancel()
			}
			p.mu.Unlock()
			return nil
		}, true)
		_, err := m.Upgrade(ctx, s.u)
		if err == nil {
			s.wantRest(t)
			return
		}
		wantError(t, err, context.Canceled)
		s.wantTree(t, s.old)
		if _, err := m.Recover(t.Context()); err != nil {
			t.Error(err)
		}
		s.wantTree(t, s.old)
		s.wantRest(t)
	})
}

// TestFullAtOnce: a disk that is full before anything is staged costs no version
// that can be rolled back.
func TestFullAtOnce(t *testing.T) {
	l := newLab(t, []string{"a=1"}, []string{"a=2"})
	old := describe(t, l.root)
	_, err := l.machine.Upgrade(t.Context(), l.upgrade(t, "", ""))
	must(t, err)
	failed := false
	full := l.machine.WithHooks(func(operation string) error {
		if !failed && strings.Contains(operation, "phase") {
			failed = true
			return unix.ENOSPC
		}
		return nil
	}, true)
	_, err = full.Upgrade(t.Context(), l.upgrade(t, "", ""))
	wantError(t, err, unix.ENOSPC)
	l.wantPhase(t, transaction.PhaseKept)
	_, err = l.machine.Rollback(t.Context())
	must(t, err)
	wantSame(t, "after the rollback", old, describe(t, l.root))
}
