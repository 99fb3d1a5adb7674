package plan_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"edeploy/agent/internal/filter"
	"edeploy/agent/internal/plan"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// rsync runs it, and answers what it touched and what it said.
func rsync(ctx context.Context, args ...string) (itemized, string, error) {
	c := exec.CommandContext(ctx, "rsync", append([]string{"-a", "-8", "--numeric-ids", "--out-format=%i %n"}, args...)...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	// 23: something could not be transferred. Stderr says what.
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 23 {
		err = nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("%v: %w: %s", c.Args, err, stderr.String())
	}
	items := itemized{}
	for line := range strings.Lines(string(out)) {
		flags, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		name = strings.TrimSuffix(strings.TrimLeft(name, " "), "/")
		switch {
		case !ok || strings.HasPrefix(line, "cannot delete non-empty directory: "):
		case flags == "*deleting":
			items[name] = "delete"
		case strings.Contains(flags, "+"):
			items[name] = "new"
		default:
			items[name] = "touch"
		}
	}
	return items, stderr.String(), nil
}

// addUnsaid adds what rsync touched without a word: rsync 3.5.0 does not itemize
// a set-user-ID file that gets another owner, by which the kernel takes the bit
// away, when the mode is the wanted one then.
func (items itemized) addUnsaid(t testing.TB, before *manifest.Manifest, root string) {
	now, err := fstree.Walk(t.Context(), root, fstree.Options{})
	must(t, err)
	for _, d := range manifest.Diff(before, now) {
		there, same := now.Lookup(d.Path)
		if was, ok := before.Lookup(d.Path); items[d.Path] == "" && ok && same && was.Type == manifest.File && there.Type == manifest.File {
			items[d.Path] = "touch"
		}
	}
}

// planned is a pass of the plan in the same form.
func planned(p *plan.Plan, pass int) itemized {
	items := itemized{}
	for _, o := range p.Operations {
		switch {
		case o.Pass != pass:
		case o.Action == plan.Delete:
			items[o.Path] = "delete"
		case o.Differences[0].Attribute == manifest.AttrMissing || o.Differences[0].Attribute == manifest.AttrType:
			items[o.Path] = "new"
		default:
			items[o.Path] = "touch"
		}
	}
	return items
}

// after is the disk as the plan leaves it.
func after(t testing.TB, p *plan.Plan, disk *manifest.Manifest) *manifest.Manifest {
	there := map[string]manifest.Entry{}
	for _, e := range disk.Entries {
		there[e.Path] = e
	}
	for _, o := range p.Operations {
		if o.Action == plan.Delete {
			delete(there, o.Path)
		} else {
			there[o.Path] = *o.Entry
		}
	}
	m, err := manifest.New(slices.Collect(maps.Values(there)))
	must(t, err)
	return m
}

// TestLikeRsync upgrades generated trees with the real rsync, in both passes,
// and compares what it itemizes, and the tree it leaves, with the plan.
func TestLikeRsync(t *testing.T) {
	needs.Program(t, "rsync")
	seed := needs.Seed(t)
	var lock sync.Mutex
	var compared, operations, conflicts int
	t.Cleanup(func() {
		t.Logf("seed %d: %d upgrades with %d operations compared in both passes, %d more had conflicts", seed, compared, operations, conflicts)
	})
	for i := range cases() {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			n, clash := compareOne(t, rand.New(rand.NewPCG(seed, uint64(i))))
			lock.Lock()
			defer lock.Unlock()
			if operations += n; clash {
				conflicts++
			} else {
				compared++
			}
		})
	}
}

func compareOne(t *testing.T, r *rand.Rand) (operations int, conflict bool) {
	old := map[string]thing{}
	grow(r, old, ".", 0)
	next := vary(r, old)
	union := maps.Clone(old)
	maps.Copy(union, next)
	paths := slices.Sorted(maps.Keys(union))
	excludeText, addOnlyText := rules(r, paths, false), rules(r, paths, true)
	exclude, err := filter.Parse(excludeText, filter.Exclude)
	must(t, err)
	addOnly, err := filter.Parse(addOnlyText, filter.Include)
	must(t, err)

	src, dst, meta := t.TempDir(), t.TempDir(), t.TempDir()
	makeTree(t, src, next)
	makeTree(t, dst, old)
	must(t, os.Chmod(src, 0o755))
	must(t, os.Chmod(dst, 0o755))
	must(t, os.WriteFile(filepath.Join(meta, "exclude"), []byte(excludeText), 0o644))
	must(t, os.WriteFile(filepath.Join(meta, "add_only"), []byte(addOnlyText), 0o644))
	target, err := fstree.Walk(t.Context(), src, fstree.Options{})
	must(t, err)
	disk, err := fstree.Walk(t.Context(), dst, fstree.Options{})
	must(t, err)
	whole, err := plan.New(target, disk, exclude, addOnly)
	must(t, err)
	scanned, err := plan.Scan(t.Context(), dst, target, exclude, nil)
	must(t, err)
	again, err := plan.New(target, scanned, exclude, addOnly)
	must(t, err)
	if diff := cmp.Diff(whole, again); diff != "" {
		t.Errorf("plan of the whole disk and of what Scan reads (-whole +scanned):\n%s", diff)
	}
	defer func() {
		if t.Failed() {
			t.Logf("exclude:\n%sadd_only:\n%s", excludeText, addOnlyText)
		}
	}()

	pass1, said, err := rsync(t.Context(), "--delete-after", "--exclude-from="+filepath.Join(meta, "exclude"), src+"/", dst+"/")
	must(t, err)
	if len(whole.Conflicts) > 0 {
		checkConflicts(t, whole, pass1, said)
		return 0, true
	}
	if said != "" {
		t.Errorf("the plan has no conflict, rsync said:\n%s", said)
	}
	pass1.addUnsaid(t, disk, dst)
	if diff := cmp.Diff(pass1, planned(whole, plan.PassExclude), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("pass 1 (-rsync +plan):\n%s", diff)
	}
	pass2, _, err := rsync(t.Context(), "--ignore-existing", "--include-from="+filepath.Join(meta, "add_only"), src+"/", dst+"/")
	must(t, err)
	got, err := fstree.Walk(t.Context(), dst, fstree.Options{})
	must(t, err)
	maps.DeleteFunc(pass2, func(name, _ string) bool { return isImpossible(got, name) })
	if diff := cmp.Diff(pass2, planned(whole, plan.PassAddOnly), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("pass 2 (-rsync +plan):\n%s", diff)
	}
	for _, d := range manifest.Diff(after(t, whole, disk), got) {
		if d.Attribute == manifest.AttrTime && (slices.Contains(whole.Kept, d.Path) || isWrongDirectory(target, d)) {
			continue // something was deleted in it; rsync's accident
		}
		t.Errorf("afterwards, plan -> rsync: %v", d)
	}
	return len(whole.Operations), false
}

// isImpossible tells that a path lies in something that is no directory. In its
// second pass rsync leaves a file alone where the target has a directory, but
// still lists what it then cannot make there ("Not a directory").
func isImpossible(disk *manifest.Manifest, name string) bool {
	for up := path.Dir(name); up != "."; up = path.Dir(up) {
		if e, ok := disk.Lookup(up); ok && e.Type != manifest.Dir {
			return true
		}
	}
	return false
}

// isWrongDirectory tells that the path is a directory of the target only. In
// its second pass rsync leaves the file there alone, as it should, but in the
// end sets the directory's time on it. The plan does not.
func isWrongDirectory(target *manifest.Manifest, d manifest.Difference) bool {
	e, ok := target.Lookup(d.Path)
	return ok && e.Type == manifest.Dir && d.Type != manifest.Dir
}

// checkConflicts holds rsync to one of the two things that a conflict
// foretells: it fails there, or it removes what is protected.
func checkConflicts(t *testing.T, plan *plan.Plan, items itemized, said string) {
	for _, c := range plan.Conflicts {
		if c.Path == c.Protected {
			if items[c.Path] == "" && !strings.Contains(said, c.Path) {
				t.Errorf("%v: rsync left it alone and said %q", c, said)
			}
			continue
		}
		if !strings.Contains(said, refused) && items[c.Path] == "" {
			t.Errorf("%v: rsync said %q", c, said)
		}
	}
}
