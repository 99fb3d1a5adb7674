package transaction_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/transaction"
)

func TestOneAtATime(t *testing.T) {
	l := newLab(t, []string{"a=1"}, []string{"a=2"})
	u := l.upgrade(t, "", "")
	u.Pre = func(ctx context.Context) error {
		pid := fmt.Sprintf("process %d", os.Getpid())
		_, err := l.machine.Upgrade(ctx, u)
		wantError(t, err, transaction.ErrBusy, pid)
		_, err = l.machine.Recover(ctx)
		wantError(t, err, transaction.ErrBusy, pid)
		_, err = l.machine.Rollback(ctx)
		wantError(t, err, transaction.ErrBusy, pid)
		if status, err := l.machine.Status(); err != nil || status.Running != os.Getpid() || status.Phase != transaction.PhaseStaged || status.To != after {
			t.Errorf("status %+v, %v", status, err)
		}
		return nil
	}
	_, err := l.machine.Upgrade(t.Context(), u)
	must(t, err)
	if status, err := l.machine.Status(); err != nil || status.Running != 0 {
		t.Errorf("status %+v, %v", status, err)
	}
}

// TestDamagedRecords spoils the journal and the phase in the middle of an
// upgrade, and after it.
func TestDamagedRecords(t *testing.T) {
	spoil := func(t *testing.T, name string) {
		text, err := os.ReadFile(name)
		must(t, err)
		text[len(text)/2] ^= 1
		must(t, os.WriteFile(name, text, 0o600))
	}
	truncate := func(t *testing.T, name string) { must(t, os.Truncate(name, 0)) }
	remove := func(t *testing.T, name string) { must(t, os.Remove(name)) }
	for name, damage := range map[string]func(*testing.T, string){
		".edeploy/1/journal spoilt": spoil, ".edeploy/1/journal empty": truncate, ".edeploy/1/journal gone": remove,
		".edeploy/phase spoilt": spoil, ".edeploy/phase empty": truncate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, _, _ := strings.Cut(name, " ")
			s := newStory(t, true)
			p := &power{limit: -1}
			m := s.with(p)
			s.u.Post = func(context.Context) error { p.dead = true; return errPower }
			_, err := m.Upgrade(t.Context(), s.u)
			wantError(t, err, errPower)
			damage(t, filepath.Join(s.root, file))
			between := describe(t, s.root)
			_, err = s.machine.Recover(t.Context())
			wantError(t, err, nil, file)
			_, err = s.machine.Rollback(t.Context())
			wantError(t, err, nil)
			_, err = s.machine.Upgrade(t.Context(), s.u)
			wantError(t, err, nil)
			wantSame(t, "the tree", between, describe(t, s.root))

			l := newLab(t, []string{"a=1"}, []string{"a=2"})
			_, err = l.machine.Upgrade(t.Context(), l.upgrade(t, "", ""))
			must(t, err)
			between = describe(t, l.root)
			damage(t, filepath.Join(l.root, file))
			_, err = l.machine.Rollback(t.Context())
			wantError(t, err, nil, file)
			wantSame(t, "the tree", between, describe(t, l.root))
		})
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte("edeploy transaction 1 sha256 x\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		again, err := transaction.DecodeJournal(text)
		if err != nil {
			return
		}
		if third, err := transaction.DecodeJournal(again); err != nil || !bytes.Equal(again, third) {
			t.Errorf("%q read again: %v", again, err)
		}
	})
}

func TestState(t *testing.T) {
	for text, good := range map[string]bool{"kept 3 0\n": true, "idle 0 0\n": true, "applying 4 3\n": true, "": false, "kept\n": false,
		"kept 3 0": false, "kept 3 0\n\n": false, "idle 3 0\n": false, "kept 0 0\n": false, "gone 1 0\n": false, "kept -1 0\n": false, "kept 03 0\n": false} {
		if got, err := transaction.ParseState(text); (err == nil) != good || good && got != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
