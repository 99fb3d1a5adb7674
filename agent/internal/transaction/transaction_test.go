package transaction_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"edeploy/agent/internal/transaction"

	"github.com/google/go-cmp/cmp"
)

// pairs are a disk, the tree it is to become, and rules.
var pairs = map[string]struct {
	disk, target     []string
	exclude, addOnly string
	partly           bool     // the disk becomes what the plan says, not equal to the target
	want             []string // what it becomes; nil: the target
}{
	"nothing to do": {disk: []string{"a=1", "b/c=2"}, target: []string{"a=1", "b/c=2"}},
	"every type": {
		disk:   []string{"file=1", "old/file=1", "link>a", "fifo|", "sock$", "null!1,3", "gone!1,5"},
		target: []string{"file=2", "new/file=1", "link>b", "fifo|;mode=600", "sock$;uid=3", "null!1,7", "pipe|"}},
	"modes and owners": {
		disk:   []string{"bin/su=1;mode=755", "bin/wall=1;mode=2755", "tmp/;mode=755", "x=1;uid=5"},
		target: []string{"bin/su=1;mode=4755", "bin/wall=2;mode=2755", "tmp/;mode=1777", "x=1;uid=6;mode=4755"}},
	"times only": {
		disk:   []string{"a=1;time=1", "l>x;time=1", "d/;time=1", "d/f=1"},
		target: []string{"a=1;time=2", "l>x;time=2", "d/;time=2", "d/f=1"}},
	"attributes": {
		disk:   []string{"ping=1", "tcpdump=1;cap", "acl=1;acl", "d/;dacl", "u=1;user=1", "new=1"},
		target: []string{"ping=1;cap", "tcpdump=1", "acl=2", "d/;acl;dacl;mode=775", "u=1;user=2", "new=1;acl", "d/below=1"}},
	"new capability in a new file": {
		disk: []string{"a=1"}, target: []string{"a=1", "bin/ping=1;cap;mode=4755;uid=7", "bin/x=1;acl"}},
	"hard links": {
		disk:   []string{"a=1", "b&a", "c=1", "d=2", "e&d", "f=3", "g&f", "k=5;time=1", "l&k"},
		target: []string{"a=1", "b=1", "c=1", "d&c", "e=2", "f=4", "g&f", "h&f", "n/i=5", "n/j&n/i", "k=5;time=2", "l&k"}},
	"one of a group stays":     {disk: []string{"a=1", "b=2"}, target: []string{"a=1", "b&a", "c&a"}},
	"a group changes in place": {disk: []string{"a=1", "b=2"}, target: []string{"a=1;mode=4711", "b&a", "c&a"}},
	"link to what is excluded": {disk: []string{"a=1", "data/b&a"}, target: []string{"a=1;mode=600", "data/b=7"}, exclude: "/data/", partly: true},
	"some of a group excluded": {disk: []string{"a=1", "b=2"}, target: []string{"a=3", "b&a", "c=1", "d&c", "e=2", "f&e", "g&e"},
		exclude: "/a,/d,/g", want: []string{"a=1", "b=3", "c=1", "e=2", "f&e"}},
	"some of a group added": {disk: []string{"a=1"}, target: []string{"a=1", "b&a", "c=1", "d&c", "v/e=2", "f&v/e", "v/g&f"},
		exclude: "/v,/d", addOnly: "+ /v/,+ /v/**,- *", want: []string{"a=1", "b&a", "c=1", "v/e=2", "f&v/e", "v/g&f"}},
	"hard-linked symlinks":     {disk: []string{"a>x"}, target: []string{"a>x", "b&a", "c/d>y", "c/e&c/d"}},
	"directory becomes file":   {disk: []string{"a/b/c=1", "a/d=2"}, target: []string{"a=1"}},
	"file becomes directory":   {disk: []string{"a=1"}, target: []string{"a/b/c=1", "a/d=2", "a/e/;mode=700"}},
	"/usr merge":               {disk: []string{"lib/x=1", "lib/y=2", "usr/"}, target: []string{"lib>usr/lib", "usr/lib/x=1", "usr/lib/y=3"}},
	"/usr unmerge":             {disk: []string{"lib>usr/lib", "usr/lib/x=1"}, target: []string{"lib/x=1", "usr/lib>../lib"}},
	"link becomes file":        {disk: []string{"a>b", "b=1"}, target: []string{"a=1", "b>a"}},
	"device becomes directory": {disk: []string{"a!1,3"}, target: []string{"a/b|"}},
	"sparse and large":         {disk: []string{"s=1;sparse", "b=1;big"}, target: []string{"s=2;sparse", "t=x;sparse;big", "b=2;big", "c=1;big", "e=2;big"}},
	"empty":                    {disk: []string{"a=", "b=1", "d/"}, target: []string{"a=1", "b=", "c=", "e/"}},
	"odd names": {
		disk:   []string{"new\nline=1", "bad\xff\xfe=1", "sp ace/t\tab=1", "ü=1", "back\\slash=1", "gone\n/\x01\xff=1", "-rf=1", "*=1"},
		target: []string{"new\nline=2", "bad\xff\xfe=1;mode=600", "bad\xff\xfd/\n=2", "sp ace/t\tab=2", "ü>\xff\n", "back\\slash=2", "-rf=2", "*=2", "\"=1"}},
	"excluded stays": {
		disk:    []string{"etc/passwd=mine", "etc/conf=1", "var/log/app/today=mine", "old/sub/mine=1", "old/theirs=2", "old/d/e=1"},
		target:  []string{"etc/passwd=new", "etc/conf=2", "var/log/app/"},
		exclude: "/etc/passwd,/var/log/**,/old/sub/mine", partly: true},
	"add_only": {
		disk:    []string{"usr/app=1", "var/lib/app/schema1=mine", "var/lib/app/;mode=700"},
		target:  []string{"usr/app=2", "var/lib/app/schema1=1", "var/lib/app/schema2=2", "var/lib/new/a/b=1"},
		exclude: "/var/lib/*", addOnly: "+ /var/,+ /var/**,- *", partly: true},
	"excluded by kind, then added": {
		disk: []string{"b=1"}, target: []string{"b/c=1"}, exclude: "b/", addOnly: "+ /b/,+ /b/**,- *"},
	"the root's own attributes": {disk: []string{"./;mode=700;time=5", "a=1"}, target: []string{"./;mode=755;time=6", "b=1"}},
	"deep":                      {disk: []string{"1/2/3/4/5/6=1", "1/2/x=1"}, target: []string{"1/2/3/4/5/7=1", "1/2/3/y/z=1", "1/2/;time=44", "1/2/x=1"}},
}

// TestUpgradeAndRollback upgrades each disk to exactly its target and rolls it
// back to exactly what it was, with and without the exchange of names.
func TestUpgradeAndRollback(t *testing.T) {
	for name, p := range pairs {
		for _, exchange := range []bool{true, false} {
			t.Run(name+map[bool]string{true: "", false: " without exchange"}[exchange], func(t *testing.T) {
				t.Parallel()
				l := newLabIn(t, t.TempDir(), t.TempDir(), p.disk, p.target)
				l.machine = l.machine.WithHooks(nil, exchange)
				old := describe(t, l.root)
				u := l.upgrade(t, p.exclude, p.addOnly)
				want := u.Target
				if p.partly {
					want = expect(t, u.Plan, old)
				}
				if p.want != nil {
					dir := t.TempDir()
					build(t, dir, p.want...)
					want = describe(t, dir)
				}
				result, err := l.machine.Upgrade(t.Context(), u)
				must(t, err)
				wantSame(t, "after the upgrade", want, describe(t, l.root))
				l.wantPhase(t, transaction.PhaseKept)
				if result.From != before || result.To != after {
					t.Errorf("result %+v", result)
				}
				if outcome, err := l.machine.Recover(t.Context()); err != nil || outcome != transaction.Nothing {
					t.Errorf("Recover: %v, %v", outcome, err)
				}
				back, err := l.machine.Rollback(t.Context())
				must(t, err)
				if back.From != after || back.To != before || back.Created != result.Deleted || back.Deleted != result.Created {
					t.Errorf("result of the rollback %+v", back)
				}
				wantSame(t, "after the rollback", old, describe(t, l.root))
				l.wantPhase(t, transaction.PhaseIdle)
			})
		}
	}
}

// TestProgress has every step told, in order, to its end.
func TestProgress(t *testing.T) {
	l := newLab(t, []string{"a=1", "b=1;big", "c=1"}, []string{"a=2;big", "b=2;big", "d=2;big"})
	var told []string
	l.machine.Progress = func(step transaction.Step, done, total int64) {
		if done < 0 || done > total {
			t.Errorf("%s: %d of %d", step, done, total)
		}
		if done == total {
			told = append(told, fmt.Sprint(step, " ", total))
		}
	}
	u := l.upgrade(t, "", "")
	nothing := func(context.Context) error { return nil }
	u.Pre, u.Post = nothing, nothing
	result, err := l.machine.Upgrade(t.Context(), u)
	must(t, err)
	if result.FetchedFiles != 1 || result.FetchedBytes != 300_000 || result.CopiedFiles != 2 || result.CopiedBytes != 600_000 || result.Changing <= 0 || result.Total < result.Changing {
		t.Errorf("result %+v", result)
	}
	_, err = l.machine.Rollback(t.Context())
	must(t, err)
	want := []string{"stage 900000", "pre 1", "apply 4", "post 1", "undo 4"}
	if diff := cmp.Diff(want, slices.Compact(told)); diff != "" {
		t.Errorf("steps that were told to their end (-want +got):\n%s", diff)
	}
}
