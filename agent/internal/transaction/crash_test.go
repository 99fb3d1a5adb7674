package transaction_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"edeploy/agent/internal/transaction"
	"edeploy/images/manifest"
	"edeploy/integration/needs"
)

var errPower = errors.New("the power is gone")

// power is cut before the change after the limit: no change takes place any more.
type power struct {
	mu    sync.Mutex
	limit int // negative: never
	used  int
	dead  bool
}

func (p *power) step(string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead = p.dead || p.used == p.limit; p.dead {
		return errPower
	}
	p.used++
	return nil
}

func (p *power) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// plugged is a guard that does nothing either without power.
type plugged struct {
	*guard
	power *power
}

func (g plugged) Arm(ctx context.Context) error {
	if g.power.isDead() {
		return errPower
	}
	return g.guard.Arm(ctx)
}

func (g plugged) Disarm(ctx context.Context) error {
	if g.power.isDead() {
		return errPower
	}
	return g.guard.Disarm(ctx)
}

// story is an upgrade with every kind of operation.
type story struct {
	*lab
	old, new *manifest.Manifest
	u        transaction.Upgrade
	exchange bool
}

func newStory(t testing.TB, exchange bool) *story {
	t.Helper()
	l := newLabIn(t, inMemory(t), inMemory(t),
		[]string{".edeploy/;mode=700", "./;time=4", "bin/su=1;mode=4755", "lib/x=1", "lib/y=2", "usr/a=1;time=1", "usr/b&usr/a", "usr/c=3", "usr/d&usr/c",
			"etc/passwd=mine", "etc/conf=1;acl", "gone/a/b=1", "gone/l>x", "keep/mine=1", "keep/theirs=2", "var/lib/app/schema1=mine",
			"dev/null!1,3", "swap/a/b=1", "file=1", "state/conf=0;mode=600", "boot/grub/grub.cfg=menu 0", "n\n\xff=1"},
		[]string{"./;time=6", "bin/su=2;mode=4755", "lib>usr/lib", "usr/lib/x=1", "usr/lib/y=3;cap", "usr/a=1;time=2", "usr/b&usr/a", "usr/c=3;mode=600", "usr/d=4",
			"etc/passwd=theirs", "etc/conf=1", "etc/new/sub/f=1;big", "etc/new/g&etc/new/sub/f", "etc/new/p|", "var/lib/app/schema1=1", "var/lib/app/schema2=2", "var/lib/other/x=1",
			"dev/null!1,5", "swap=1", "file/a/b=1", "file/l>a", "state/", "boot/grub/", "n\n\xff=2"})
	s := &story{lab: l, old: describe(t, l.root), exchange: exchange}
	s.u = l.upgrade(t, "/etc/passwd,/keep/mine,/state/*,/var/lib/*,/boot/grub/*", "+ /var/,+ /var/**,- *")
	s.u.Own = map[string][]byte{"/state/conf": []byte("1"), "/state/manifest": []byte("of 1")}
	s.u.Preserve = []string{"boot/grub/grub.cfg", "/boot/grub/made"}
	return s
}

// with is the machine under a power supply. Post rewrites what is preserved.
func (s *story) with(p *power) transaction.Machine {
	m := s.machine.WithHooks(p.step, s.exchange)
	m.Guard = plugged{s.guard, p}
	s.u.Post = func(context.Context) error {
		for _, name := range []string{"boot/grub/grub.cfg", "boot/grub/made"} {
			if p.step(name) != nil {
				return errPower
			}
			// As update-grub does it.
			full := filepath.Join(s.root, name)
			if err := errors.Join(os.WriteFile(full+".new", []byte("menu 1"), 0o600), os.Rename(full+".new", full)); err != nil {
				return err
			}
		}
		return nil
	}
	return m
}

// complete is the story without an interruption: what the tree becomes, and in
// how many changes.
func complete(t testing.TB, exchange bool) (tree *manifest.Manifest, changes int) {
	t.Helper()
	full := newStory(t, exchange)
	p := &power{limit: -1}
	_, err := full.with(p).Upgrade(t.Context(), full.u)
	must(t, err)
	return describe(t, full.root), p.used
}

// wantTree checks that the tree is one of the versions. Own files and what
// scripts write have the present time.
func (s *story) wantTree(t *testing.T, want *manifest.Manifest) {
	t.Helper()
	got := describe(t, s.root)
	if want == s.new {
		for _, path := range []string{"state/conf", "state/manifest", "boot/grub/grub.cfg", "boot/grub/made"} {
			w, _ := want.Lookup(path)
			if g, ok := got.Lookup(path); ok && w != nil {
				g.ModTime = w.ModTime
			}
		}
	}
	wantSame(t, "the tree", want, got)
}

// wantRest checks that nothing more happens.
func (s *story) wantRest(t *testing.T) {
	t.Helper()
	p := &power{limit: -1}
	if outcome, err := s.with(p).Recover(t.Context()); outcome != transaction.Nothing || err != nil || p.used != 0 {
		t.Errorf("another Recover: %v, %v, %d changes", outcome, err, p.used)
	}
	if status, err := s.machine.Status(); err != nil || status.Phase.Interrupted() || s.guard.armed {
		t.Errorf("status %+v, %v, guard armed: %v", status, err, s.guard.armed)
	}
}

// isNew tells whether the tree is the new version in a phase.
func isNew(p transaction.Phase) bool {
	return p == transaction.PhaseKept || p == transaction.PhaseCommitted || p == transaction.PhaseArming
}

// afterCut recovers, checks, and shows that the machine still works.
func (s *story) afterCut(t *testing.T) {
	t.Helper()
	status, err := s.machine.Status()
	must(t, err)
	_, err = s.with(&power{limit: -1}).Recover(t.Context())
	must(t, err)
	m := s.with(&power{limit: -1})
	if isNew(status.Phase) {
		s.wantTree(t, s.new)
		s.wantRest(t)
		_, err := m.Rollback(t.Context())
		must(t, err)
		s.wantTree(t, s.old)
		return
	}
	s.wantTree(t, s.old)
	s.wantRest(t)
	_, err = m.Upgrade(t.Context(), s.u)
	must(t, err)
	s.wantTree(t, s.new)
}

// each runs f for every number below n; for every third where names cannot be
// exchanged, unless TRANSACTION_CASES asks for more; for few in a short test.
func each(t *testing.T, n int, exchange bool, f func(t *testing.T, k int)) {
	step := 1
	switch {
	case testing.Short():
		step = 7
	case !exchange && os.Getenv("TRANSACTION_CASES") == "":
		step = 3
	}
	for k := 0; k < n; k += step {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			f(t, k)
		})
	}
}

// TestPowerCut cuts the power before every change that an upgrade makes.
func TestPowerCut(t *testing.T) {
	needs.Root(t)
	for _, exchange := range []bool{true, false} {
		t.Run(fmt.Sprintf("exchange %v", exchange), func(t *testing.T) {
			upgraded, changes := complete(t, exchange)
			t.Logf("%d changes", changes)
			each(t, changes, exchange, func(t *testing.T, k int) {
				s := newStory(t, exchange)
				s.new = upgraded
				_, err := s.with(&power{limit: k}).Upgrade(t.Context(), s.u)
				if err != nil && !errors.Is(err, errPower) {
					t.Errorf("Upgrade: %v", err)
				}
				s.afterCut(t)
			})
		})
	}
}

// TestPowerCutInRecovery cuts it in post, and then before every change that
// the recovery makes.
func TestPowerCutInRecovery(t *testing.T) {
	needs.Root(t)
	for _, exchange := range []bool{true, false} {
		t.Run(fmt.Sprintf("exchange %v", exchange), func(t *testing.T) {
			upgraded, _ := complete(t, exchange)
			interrupted := func(t *testing.T) *story {
				s := newStory(t, exchange)
				s.new = upgraded
				p := &power{limit: -1}
				m := s.with(p)
				post := s.u.Post
				s.u.Post = func(ctx context.Context) error {
					err := post(ctx)
					p.mu.Lock()
					p.dead = true
					p.mu.Unlock()
					return err
				}
				if _, err := m.Upgrade(t.Context(), s.u); !errors.Is(err, errPower) {
					t.Fatalf("Upgrade: %v", err)
				}
				return s
			}
			p := &power{limit: -1}
			_, err := interrupted(t).with(p).Recover(t.Context())
			must(t, err)
			t.Logf("%d changes", p.used)
			each(t, p.used, exchange, func(t *testing.T, k int) {
				s := interrupted(t)
				if _, err := s.with(&power{limit: k}).Recover(t.Context()); err != nil && !errors.Is(err, errPower) {
					t.Errorf("Recover: %v", err)
				}
				s.afterCut(t)
			})
		})
	}
}

// TestPowerCutInRollback cuts it before every change of a rollback.
func TestPowerCutInRollback(t *testing.T) {
	needs.Root(t)
	for _, exchange := range []bool{true, false} {
		t.Run(fmt.Sprintf("exchange %v", exchange), func(t *testing.T) {
			upgraded := func(t *testing.T) *story {
				s := newStory(t, exchange)
				_, err := s.with(&power{limit: -1}).Upgrade(t.Context(), s.u)
				must(t, err)
				s.new = describe(t, s.root)
				return s
			}
			p := &power{limit: -1}
			_, err := upgraded(t).with(p).Rollback(t.Context())
			must(t, err)
			t.Logf("%d changes", p.used)
			each(t, p.used, exchange, func(t *testing.T, k int) {
				s := upgraded(t)
				if _, err := s.with(&power{limit: k}).Rollback(t.Context()); err != nil && !errors.Is(err, errPower) {
					t.Errorf("Rollback: %v", err)
				}
				s.afterCut(t)
			})
		})
	}
}
