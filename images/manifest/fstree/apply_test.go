package fstree_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/images/manifest/internal/treetest"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// carry copies what a poor transport brings: directories, symbolic links and
// content, all with wrong owners and modes, hard links as copies, no devices.
func carry(t testing.TB, from, to string) {
	t.Helper()
	treetest.Must(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		switch d.Type() {
		case fs.ModeDir:
			return os.Mkdir(target, 0o777)
		case fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case 0:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(target, content, 0o600); err != nil {
				return err
			}
			return os.Chown(target, 99, 98)
		}
		return nil
	}))
}

func TestApplyMakesEqual(t *testing.T) {
	from := t.TempDir()
	treetest.Hostile(t, from)
	want := treetest.Walk(t, from)
	transports := map[string]func(t *testing.T, to string){
		"contents only": func(t *testing.T, to string) { carry(t, from, to) },
		"rsync -a":      func(t *testing.T, to string) { treetest.Run(t, "", needs.Program(t, "rsync"), "-a", from+"/", to) },
		"rsync -rl":     func(t *testing.T, to string) { treetest.Run(t, "", needs.Program(t, "rsync"), "-rl", from+"/", to) },
		"wrong things": func(t *testing.T, to string) {
			carry(t, from, to)
			treetest.Must(t, os.Remove(filepath.Join(to, "usr/bin/perl5.36")))
			treetest.Must(t, os.WriteFile(filepath.Join(to, "a-perl"), []byte("bad!"), 0o600))
			treetest.Must(t, os.Remove(filepath.Join(to, "bin")))
			treetest.Must(t, os.WriteFile(filepath.Join(to, "dev/null"), nil, 0o600))
			treetest.Must(t, unix.Setxattr(filepath.Join(to, "usr"), "user.extra", []byte("x"), 0))
			treetest.Must(t, unix.Setxattr(filepath.Join(to, "usr/bin/su"), "system.posix_acl_access", treetest.ACL, 0))
			treetest.Must(t, unix.Setxattr(filepath.Join(to, "usr/bin/ping"), "user.note", []byte("old"), 0))
		},
	}
	for name, transport := range transports {
		t.Run(name, func(t *testing.T) {
			to := t.TempDir()
			transport(t, to)
			treetest.Must(t, fstree.Apply(t.Context(), want, to, fstree.Options{}))
			treetest.Equal(t, want, treetest.Walk(t, to))
			treetest.Verified(t, want, to)
		})
	}
}

// TestFileSystems: a tree is the same on every file system that a role may be
// installed on, and stays so. XFS lists an ACL by two names.
func TestFileSystems(t *testing.T) {
	needs.Root(t)
	from := t.TempDir()
	treetest.Hostile(t, from)
	for _, large := range []string{"dev/disk", "dev/disk1"} { // XFS has no room for such a device's number
		treetest.Must(t, os.Remove(filepath.Join(from, large)))
	}
	want := treetest.Walk(t, from)
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			disk, to := filepath.Join(t.TempDir(), "disk"), t.TempDir()
			treetest.Must(t, os.WriteFile(disk, nil, 0o600))
			treetest.Must(t, os.Truncate(disk, 400<<20))
			treetest.Run(t, "", needs.Program(t, "mkfs."+kind), "-q", disk)
			treetest.Run(t, "", "mount", "-o", "loop", disk, to)
			t.Cleanup(func() { treetest.Run(t, "", "umount", to) })
			carry(t, from, to)
			for range 2 {
				treetest.Must(t, fstree.Apply(t.Context(), want, to, fstree.Options{}))
			}
			got := treetest.Walk(t, to)
			got.Entries = slices.DeleteFunc(got.Entries, func(e manifest.Entry) bool { return e.Path == "lost+found" })
			treetest.Equal(t, want, got)
		})
	}
}

func TestApplyTwiceOnlyReads(t *testing.T) {
	root := t.TempDir()
	treetest.Hostile(t, root)
	m := treetest.Walk(t, root)
	changed := func() (all []string) {
		treetest.Must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			var st unix.Stat_t
			treetest.Must(t, unix.Lstat(path, &st))
			all = append(all, fmt.Sprint(path, st.Ctim, st.Ino))
			return err
		}))
		return all
	}
	before := changed()
	treetest.Must(t, fstree.Apply(t.Context(), m, root, fstree.Options{}))
	if diff := cmp.Diff(before, changed()); diff != "" {
		t.Errorf("Apply wrote to a tree that was right (-before +after):\n%s", diff)
	}
}

// A directory of the tree that became a symbolic link leads nowhere.
func TestApplyStaysInside(t *testing.T) {
	needs.Root(t)
	from, to, outside := t.TempDir(), t.TempDir(), t.TempDir()
	treetest.Must(t, os.MkdirAll(filepath.Join(from, "etc/sub"), 0o750))
	for _, name := range []string{"etc/passwd", "etc/sub/x"} {
		treetest.Must(t, os.WriteFile(filepath.Join(from, name), []byte("x"), 0o604))
	}
	treetest.Must(t, os.Symlink("target", filepath.Join(from, "etc/link")))
	treetest.Must(t, unix.Mkfifo(filepath.Join(from, "etc/fifo"), 0o604))
	m := treetest.Walk(t, from)

	treetest.Must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o700))
	for _, name := range []string{"passwd", "sub/x", "link"} {
		treetest.Must(t, os.WriteFile(filepath.Join(outside, name), []byte("x"), 0o600))
	}
	treetest.Age(t, outside)
	before := treetest.Walk(t, outside)
	treetest.Must(t, os.Symlink(outside, filepath.Join(to, "etc")))
	err := fstree.Apply(t.Context(), m, to, fstree.Options{})
	if err == nil || !strings.Contains(err.Error(), "/etc is a link, the manifest says dir") {
		t.Errorf("Apply = %v, want an error about etc", err)
	}
	treetest.Equal(t, before, treetest.Walk(t, outside))
	diffs, err := fstree.Verify(t.Context(), m, to, fstree.Options{})
	treetest.Must(t, err)
	if want := len(m.Entries) - 1; len(diffs) < want || diffs[0].String() == "" {
		t.Errorf("Verify saw %d differences through a symbolic link, want %d at least", len(diffs), want)
	}
}

func TestApplyReports(t *testing.T) {
	needs.Root(t)
	from := t.TempDir()
	for i := range 20 {
		treetest.Must(t, os.WriteFile(filepath.Join(from, fmt.Sprintf("f%02d", i)), []byte("x"), 0o644))
	}
	m := treetest.Walk(t, from)
	to := t.TempDir()
	treetest.Must(t, os.Mkdir(filepath.Join(to, "f00"), 0o755))
	err := fstree.Apply(t.Context(), m, to, fstree.Options{})
	for _, want := range []string{"apply manifest to " + to, "/f00 is a dir, the manifest says file", "/f01 is missing", "and 10 more"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply = %v, want it to say %q", err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := fstree.Apply(ctx, m, to, fstree.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply after cancel = %v", err)
	}
	if err := fstree.Apply(t.Context(), m, filepath.Join(to, "nowhere"), fstree.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Apply to a missing root = %v", err)
	}
}

// mountTmpfs mounts a file system of its own at dir.
func mountTmpfs(t testing.TB, dir string) {
	t.Helper()
	needs.Root(t)
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700")
	needs.That(t, err == nil, "the right to mount: %v", err)
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

func TestSeveralFileSystems(t *testing.T) {
	needs.Root(t)
	from, to := t.TempDir(), t.TempDir()
	treetest.Must(t, os.MkdirAll(filepath.Join(from, "var/lib"), 0o755))
	treetest.Must(t, os.MkdirAll(filepath.Join(from, "proc"), 0o555))
	for _, name := range []string{"a", "var/lib/d"} {
		treetest.Must(t, os.WriteFile(filepath.Join(from, name), []byte(name), 0o644))
	}
	for _, name := range []string{"b", "var/lib/c1", "var/lib/c2"} {
		treetest.Must(t, os.Link(filepath.Join(from, "a"), filepath.Join(from, name)))
	}
	treetest.Age(t, from)
	m := treetest.Walk(t, from)

	treetest.Must(t, os.Mkdir(filepath.Join(to, "var"), 0o700))
	mountTmpfs(t, filepath.Join(to, "var"))
	treetest.Must(t, os.Mkdir(filepath.Join(to, "proc"), 0o700))
	err := unix.Mount("proc", filepath.Join(to, "proc"), "proc", 0, "")
	needs.That(t, err == nil, "the right to mount proc: %v", err)
	t.Cleanup(func() { unix.Unmount(filepath.Join(to, "proc"), unix.MNT_DETACH) })
	treetest.Run(t, "", needs.Program(t, "rsync"), "-a", "--exclude=/proc", from+"/", to)

	err = fstree.Apply(t.Context(), m, to, fstree.Options{})
	if err == nil || !strings.Contains(err.Error(), "are hard links of one file in the manifest, but lie on different file systems here") {
		t.Errorf("Apply across mounts = %v", err)
	}
	diffs, err := fstree.Verify(t.Context(), m, to, fstree.Options{Extras: true})
	treetest.Must(t, err)
	if len(diffs) != 2 {
		t.Errorf("Verify across mounts = %v, want the two hard links on the other file system", diffs)
	}
	split := fstree.Options{SplitLinks: true, Extras: true}
	treetest.Must(t, fstree.Apply(t.Context(), m, to, split))
	diffs, err = fstree.Verify(t.Context(), m, to, split)
	treetest.Must(t, err)
	if len(diffs) != 0 {
		t.Errorf("Verify with SplitLinks = %v", diffs)
	}
	var one, two unix.Stat_t
	treetest.Must(t, unix.Stat(filepath.Join(to, "var/lib/c1"), &one))
	treetest.Must(t, unix.Stat(filepath.Join(to, "var/lib/c2"), &two))
	if one.Ino != two.Ino || one.Nlink != 2 {
		t.Errorf("the two links on one file system are not one file: %+v %+v", one, two)
	}
}
