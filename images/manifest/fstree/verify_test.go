package fstree_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/images/manifest/internal/treetest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// mutation changes one attribute of a path and puts the time back, so that
// exactly the wanted differences are there.
type mutation struct {
	name string
	fits func(e *manifest.Entry) bool
	do   func(path string, e *manifest.Entry) error
	want []string // attributes
}

func isType(types ...manifest.Type) func(*manifest.Entry) bool {
	return func(e *manifest.Entry) bool { return e.Path != "." && slices.Contains(types, e.Type) && e.Group == 0 }
}

// isPlainFile leaves out files with capabilities, which writing takes away.
func isPlainFile(e *manifest.Entry) bool {
	return isType(manifest.File)(e) && e.Xattrs["security.capability"] == nil
}

// hasNoACL leaves out files whose ACL holds the permissions of others, too.
func hasNoACL(e *manifest.Entry) bool {
	return isType(manifest.File, manifest.Dir, manifest.Fifo, manifest.Char)(e) && e.Xattrs["system.posix_acl_access"] == nil
}

var mutations = []mutation{
	{"mode", hasNoACL, func(p string, e *manifest.Entry) error {
		return unix.Chmod(p, e.Mode^0o002)
	}, []string{"mode"}},
	{"setuid", isType(manifest.File), func(p string, e *manifest.Entry) error { return unix.Chmod(p, e.Mode^0o4000) }, []string{"mode"}},
	{"owner", isType(manifest.Symlink, manifest.Dir, manifest.Block), func(p string, e *manifest.Entry) error { return os.Lchown(p, 5, -1) }, []string{"uid"}},
	{"group", isType(manifest.Symlink, manifest.Dir, manifest.Fifo), func(p string, e *manifest.Entry) error { return os.Lchown(p, -1, 77) }, []string{"gid"}},
	{"time", isType(manifest.Symlink, manifest.Dir, manifest.Fifo, manifest.File), func(p string, e *manifest.Entry) error {
		return treetest.SetTime(p, e.ModTime.Add(time.Nanosecond))
	}, []string{"time"}},
	{"content", func(e *manifest.Entry) bool { return isPlainFile(e) && e.Size > 0 }, func(p string, e *manifest.Entry) error {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, e.Size-1); err != nil {
			return err
		}
		last[0]++
		_, err = f.WriteAt(last, e.Size-1)
		return err
	}, []string{"content"}},
	{"size", isPlainFile, func(p string, e *manifest.Entry) error { return os.Truncate(p, e.Size+1) }, []string{"size"}},
	{"target", isType(manifest.Symlink), func(p string, e *manifest.Entry) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		if err := os.Symlink(e.Link+"x", p); err != nil {
			return err
		}
		return os.Lchown(p, int(e.UID), int(e.GID))
	}, []string{"link"}},
	{"device", isType(manifest.Char), func(p string, e *manifest.Entry) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		if err := unix.Mknod(p, unix.S_IFCHR, int(unix.Mkdev(e.Major, e.Minor+1))); err != nil {
			return err
		}
		return unix.Chmod(p, e.Mode)
	}, []string{"device"}},
	{"type", isType(manifest.Fifo, manifest.File), func(p string, e *manifest.Entry) error {
		if err := os.Remove(p); err != nil {
			return err
		}
		return os.Mkdir(p, 0o755)
	}, []string{"type"}},
	{"missing", isType(manifest.File, manifest.Symlink, manifest.Fifo), func(p string, e *manifest.Entry) error { return os.Remove(p) }, []string{"missing"}},
	{"xattr added", isType(manifest.File, manifest.Dir), func(p string, e *manifest.Entry) error {
		return unix.Setxattr(p, "user.added", []byte("1"), 0)
	}, []string{"xattr.user.added"}},
	{"xattr changed", func(e *manifest.Entry) bool { return e.Xattrs["user.note"] != nil }, func(p string, e *manifest.Entry) error {
		return unix.Setxattr(p, "user.note", []byte("1"), 0)
	}, []string{"xattr.user.note"}},
	{"capability lost", func(e *manifest.Entry) bool { return e.Xattrs["security.capability"] != nil }, func(p string, e *manifest.Entry) error {
		return unix.Removexattr(p, "security.capability")
	}, []string{"xattr.security.capability"}},
	{"default ACL lost", func(e *manifest.Entry) bool { return e.Xattrs["system.posix_acl_default"] != nil }, func(p string, e *manifest.Entry) error {
		return unix.Removexattr(p, "system.posix_acl_default")
	}, []string{"xattr.system.posix_acl_default"}},
	{"link broken", func(e *manifest.Entry) bool { return e.Path == "usr/bin/perl" || e.Path == "a-perl" }, func(p string, e *manifest.Entry) error {
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if err := os.Remove(p); err != nil {
			return err
		}
		if err := os.WriteFile(p, content, 0o600); err != nil {
			return err
		}
		return unix.Chmod(p, e.Mode)
	}, []string{"hardlink"}},
}

// Every mutation of every kind of path is found, and nothing else.
func TestVerifyNamesExactlyTheMutated(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	original := t.TempDir()
	treetest.Hostile(t, original)
	m := treetest.Walk(t, original)
	for _, mut := range mutations {
		t.Run(mut.name, func(t *testing.T) {
			var candidates []*manifest.Entry
			for i := range m.Entries {
				if mut.fits(&m.Entries[i]) {
					candidates = append(candidates, &m.Entries[i])
				}
			}
			if len(candidates) == 0 {
				t.Fatal("the tree has no path for this mutation")
			}
			e := candidates[random.IntN(len(candidates))]
			root := t.TempDir()
			treetest.Run(t, "", "cp", "-a", original+"/.", root)
			mutate(t, m, root, e, mut)
			diffs, err := fstree.Verify(t.Context(), m, root, fstree.Options{Extras: true})
			treetest.Must(t, err)
			var want, got []string
			for _, attribute := range mut.want {
				want = append(want, e.Path+" "+attribute)
			}
			for _, d := range diffs {
				got = append(got, d.Path+" "+d.Attribute)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s of %q (-want +got):\n%s\n%v", mut.name, e.Path, diff, diffs)
			}
			if slices.Contains([]string{"size", "content", "missing", "type"}, mut.name) {
				return // content is not Apply's
			}
			treetest.Must(t, fstree.Apply(t.Context(), m, root, fstree.Options{}))
			treetest.Verified(t, m, root)
		})
	}
}

func mutate(t *testing.T, original *manifest.Manifest, root string, e *manifest.Entry, mut mutation) {
	t.Helper()
	path := filepath.Join(root, e.Path)
	treetest.Must(t, mut.do(path, e))
	if _, err := os.Lstat(path); err == nil && mut.name != "time" {
		treetest.Must(t, treetest.SetTime(path, e.ModTime))
	}
	parent := filepath.Dir(e.Path)
	if dir, ok := original.Lookup(parent); ok {
		treetest.Must(t, treetest.SetTime(filepath.Join(root, parent), dir.ModTime))
	} else {
		t.Fatalf("%q has no directory", e.Path)
	}
}

func TestVerifyLinks(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a", "b", "x"} {
		treetest.Must(t, os.WriteFile(filepath.Join(root, name), []byte("same"), 0o644))
		treetest.Must(t, treetest.SetTime(filepath.Join(root, name), time.Unix(1000, 0)))
	}
	treetest.Must(t, os.Link(filepath.Join(root, "x"), filepath.Join(root, "y")))
	treetest.Must(t, treetest.SetTime(root, time.Unix(1000, 0)))
	m := treetest.Walk(t, root)
	treetest.Must(t, os.Remove(filepath.Join(root, "b")))
	treetest.Must(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "b")))
	treetest.Must(t, os.Remove(filepath.Join(root, "a")))
	treetest.Must(t, os.Link(filepath.Join(root, "x"), filepath.Join(root, "a")))
	treetest.Must(t, treetest.SetTime(root, time.Unix(1000, 0)))
	diffs, err := fstree.Verify(t.Context(), m, root, fstree.Options{})
	treetest.Must(t, err)
	if got := fmt.Sprint(diffs); got != "[a: hardlink not the same file as x -> the same file]" {
		t.Errorf("Verify = %s", got)
	}
}

func TestVerifyExtrasAndExclude(t *testing.T) {
	root := t.TempDir()
	treetest.Must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	treetest.Must(t, os.MkdirAll(filepath.Join(root, "empty"), 0o755))
	treetest.Must(t, os.WriteFile(filepath.Join(root, "etc/fstab"), []byte("x"), 0o644))
	m := treetest.Walk(t, root)
	treetest.Must(t, os.MkdirAll(filepath.Join(root, "extra/below"), 0o755))
	treetest.Must(t, os.WriteFile(filepath.Join(root, "empty/new"), nil, 0o644))
	treetest.Must(t, os.WriteFile(filepath.Join(root, "etc/fstab"), []byte("longer"), 0o644))
	treetest.Must(t, os.WriteFile(filepath.Join(root, "etc/excluded"), nil, 0o644))
	for name, test := range map[string]struct {
		o    fstree.Options
		want []string
	}{
		"no extras": {fstree.Options{}, []string{"etc/fstab size"}},
		"extras":    {fstree.Options{Extras: true}, []string{"empty/new extra", "etc/excluded extra", "etc/fstab size", "extra extra"}},
		"exclude": {fstree.Options{Extras: true, Exclude: func(p string) bool { return p == "etc" || p == "extra" }},
			[]string{"empty/new extra"}},
	} {
		t.Run(name, func(t *testing.T) {
			diffs, err := fstree.Verify(t.Context(), m, root, test.o)
			treetest.Must(t, err)
			var got []string
			for _, d := range diffs {
				if d.Attribute != manifest.AttrTime {
					got = append(got, d.Path+" "+d.Attribute)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Verify (-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerifyProgressIsExact(t *testing.T) {
	root := t.TempDir()
	treetest.Must(t, os.WriteFile(filepath.Join(root, "a"), []byte(strings.Repeat("x", 3_000_000)), 0o644))
	treetest.Must(t, os.WriteFile(filepath.Join(root, "gone"), []byte("12345"), 0o644))
	m := treetest.Walk(t, root)
	treetest.Must(t, os.Remove(filepath.Join(root, "gone")))
	var done, total int64
	_, err := fstree.Verify(t.Context(), m, root, fstree.Options{Progress: func(d, n int64) { done, total = d, n }})
	treetest.Must(t, err)
	if done != 3_000_005 || total != 3_000_005 {
		t.Errorf("last progress = %d of %d, want 3000005 of 3000005", done, total)
	}
}

func TestDiff(t *testing.T) {
	root := t.TempDir()
	treetest.Hostile(t, root)
	a := treetest.Walk(t, root)
	if diffs := manifest.Diff(a, a); len(diffs) != 0 {
		t.Errorf("Diff with itself = %v", diffs)
	}
	treetest.Must(t, os.Remove(filepath.Join(root, "etc/shadow")))
	treetest.Must(t, os.WriteFile(filepath.Join(root, "etc/new"), []byte("new"), 0o644))
	treetest.Must(t, treetest.SetTime(filepath.Join(root, "etc"), time.Unix(1000, 0)))
	b := treetest.Walk(t, root)
	want, err := fstree.Verify(t.Context(), a, root, fstree.Options{Extras: true})
	treetest.Must(t, err)
	if diff := cmp.Diff(want, manifest.Diff(a, b)); diff != "" {
		t.Errorf("Diff and Verify disagree (-verify +diff):\n%s", diff)
	}
	if len(want) != 3 {
		t.Errorf("differences %v, want etc's time, new and shadow", want)
	}
}
