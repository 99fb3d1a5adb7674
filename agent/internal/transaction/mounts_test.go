package transaction_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/transaction"
	"edeploy/images/manifest"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mount puts a new ext4 on a directory.
func mount(t testing.TB, dir string, megabytes int64) {
	t.Helper()
	needs.Root(t)
	needs.Programs(t, "mkfs.ext4", "mount", "umount")
	image := filepath.Join(inMemory(t), "disk")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, megabytes<<20))
	run(t, "mkfs.ext4", "-q", "-F", "-m", "0", image)
	must(t, os.MkdirAll(dir, 0o755))
	run(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
}

func run(t testing.TB, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
}

var (
	twoDisk   = []string{"a=1", "usr/x=1", "var/lib/app/db=mine", "var/lib/app/schema1=1", "var/cache/gone/f=1", "var/log/today=mine", "var/h=1", "h&var/x", "var/x2=1"}
	twoTarget = []string{"a=2", "usr/x=1;time=4", "var/lib/app/schema2=2", "var/lib/new/f=1;big", "var/h=2", "h=2", "var/s>h", "new/d/e=1"}
)

// TestTwoFileSystems has the root and /var on ext4 of their own, as the seed's
// profile with two disks.
func TestTwoFileSystems(t *testing.T) {
	root := t.TempDir()
	mount(t, root, 32)
	mount(t, filepath.Join(root, "var"), 32)
	disk := strings.Split(strings.ReplaceAll(strings.Join(twoDisk, " "), "h&var/x ", ""), " ")
	l := newLabIn(t, root, t.TempDir(), disk, twoTarget)
	must(t, os.MkdirAll(filepath.Join(root, "etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "etc/fstab"), []byte("UUID=1-2 / ext4 x\n# no\nLABEL=var /var ext4 y 0 2\n"), 0o644))
	must(t, os.Chtimes(root, when, when))
	old := describe(t, root)
	u := l.upgrade(t, "/etc,/var/lib/app/db,/var/log/**", "")
	want := expect(t, u.Plan, old)
	for cut := -1; cut < 100; cut++ { // more than the changes there are
		p := &power{limit: cut}
		m := l.machine.WithHooks(p.step, true)
		if cut < 0 {
			m = l.machine // with syncs
		}
		m.Guard = plugged{l.guard, p}
		_, err := m.Upgrade(t.Context(), u)
		if cut < 0 {
			must(t, err)
			wantSame(t, "after the upgrade", want, describe(t, root))
			status, err := l.machine.Status()
			must(t, err)
			fs := []transaction.FileSystem{{Path: ".", Source: "UUID=1-2", Type: "ext4"}, {Path: "var", Source: "LABEL=var", Type: "ext4"}}
			if diff := cmp.Diff(fs, status.FileSystems); diff != "" || status.KeptBytes == 0 {
				t.Errorf("status %+v, file systems (-want +got):\n%s", status, diff)
			}
		}
		if cut == 99 && (err != nil || p.used > 99) {
			t.Errorf("an upgrade makes more than %d changes: %v", cut, err)
		}
		status, err := l.machine.Status()
		must(t, err)
		_, err = l.machine.Recover(t.Context())
		must(t, err)
		if isNew(status.Phase) {
			_, err := l.machine.Rollback(t.Context())
			must(t, err)
		}
		wantSame(t, "back", old, describe(t, root))
		l.wantPhase(t, transaction.PhaseIdle)
		for _, top := range []string{root, filepath.Join(root, "var")} {
			if left, err := filepath.Glob(filepath.Join(top, transaction.Dir, "[0-9]*")); err != nil || len(left) > 0 {
				t.Errorf("left over: %q, %v", left, err)
			}
		}
	}
}

// TestNotMounted recovers before the second file system is there.
func TestNotMounted(t *testing.T) {
	root := t.TempDir()
	mount(t, filepath.Join(root, "var"), 16)
	l := newLabIn(t, root, t.TempDir(), []string{"a=1", "var/b=1"}, []string{"a=2", "var/b=2"})
	old, u := describe(t, root), l.upgrade(t, "", "")
	p := &power{limit: -1}
	m := l.machine.WithHooks(p.step, true)
	m.Guard = plugged{l.guard, p}
	u.Post = func(context.Context) error { p.dead = true; return nil }
	_, err := m.Upgrade(t.Context(), u)
	wantError(t, err, errPower)
	image, err := exec.Command("findmnt", "-no", "SOURCE", filepath.Join(root, "var")).Output()
	must(t, err)
	run(t, "mount", "--bind", t.TempDir(), filepath.Join(root, "var")) // hides it
	_, err = l.machine.Recover(t.Context())
	wantError(t, err, nil, "var/.edeploy/1", "is "+strings.TrimSpace(string(image))+" mounted?")
	run(t, "umount", filepath.Join(root, "var"))
	_, err = l.machine.Recover(t.Context())
	must(t, err)
	wantSame(t, "the tree", old, describe(t, root))
}

func TestMountInTheWay(t *testing.T) {
	root := t.TempDir()
	mount(t, filepath.Join(root, "srv/data"), 16)
	must(t, os.Remove(filepath.Join(root, "srv/data/lost+found"))) // it is excluded, which protects what is above it
	for name, target := range map[string]string{"deleted": "a=1", "replaced": "srv=1"} {
		l := newLabIn(t, root, t.TempDir(), []string{"a=1"}, []string{target})
		old := describe(t, root)
		_, err := l.machine.Upgrade(t.Context(), l.upgrade(t, "", ""))
		wantError(t, err, nil, "srv is to be "+name+", but a file system is mounted on "+filepath.Join(root, "srv/data"))
		wantSame(t, "the tree", old, describe(t, root))
	}
}

// TestFullDisk is refused at once when the room is too little, and gives it
// back when it becomes too little later.
func TestFullDisk(t *testing.T) {
	root := t.TempDir()
	mount(t, root, 16)
	l := newLabIn(t, root, t.TempDir(), []string{"a=1", "b=2"}, []string{"a=2", "b=x;big", "c=y;big", "d=z;big"})
	old, u := describe(t, root), l.upgrade(t, "", "")
	filler := filepath.Join(root, "lost+found/filler")
	// fill leaves some room; others may write meanwhile.
	fill := func(leave int64) error {
		var st unix.Statfs_t
		if err := unix.Statfs(root, &st); err != nil {
			return err
		}
		f, err := os.Create(filler)
		if err != nil {
			return err
		}
		if _, err = io.CopyN(f, zeroes{}, int64(st.Bavail)*st.Bsize-leave); errors.Is(err, unix.ENOSPC) {
			err = nil
		}
		return errors.Join(err, f.Sync(), f.Close())
	}
	must(t, fill(600_000))
	_, err := l.machine.Upgrade(t.Context(), u)
	wantError(t, err, transaction.ErrSpace, "the upgrade needs 1.0 MB and 4 inodes, 0.", "inodes are free")
	wantSame(t, "after the refusal", old, describe(t, root))
	must(t, os.Remove(filler))

	src := &source{tree: tree(l.source), open: func(n int, _ *manifest.Entry) (io.ReadCloser, error) {
		if n == 1 {
			return nil, fill(0)
		}
		return nil, nil
	}}
	u.Source = src
	_, err = l.machine.Upgrade(t.Context(), u)
	wantError(t, err, unix.ENOSPC, "fetch", "no space left on device")
	wantSame(t, "after the disk became full", old, describe(t, root))
	l.wantPhase(t, transaction.PhaseIdle) // what was staged is removed: the machine needs the room
	must(t, os.Remove(filler))
	_, err = l.machine.Upgrade(t.Context(), u)
	must(t, err)
	wantSame(t, "after the upgrade", u.Target, describe(t, root))
}

func TestMounts(t *testing.T) {
	const text = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /dev rw - devtmpfs udev rw
24 22 8:2 / /mnt/two\040words rw master:1 - ext4 /dev/sda2 rw
25 24 8:3 / /mnt/two\040words/var rw - xfs /dev/sda3 rw
26 24 8:4 / /mnt/two\040words/var rw - btrfs /dev/sda4 rw
27 24 8:4 / /mnt/two\040wordsmore rw - btrfs /dev/sda4 rw
`
	all, err := mountinfo.GetMountsFromReader(strings.NewReader(text), nil)
	must(t, err)
	for root, want := range map[string][]string{
		"/":                  {". /dev/sda1 ext4", "dev udev devtmpfs", "mnt/two words /dev/sda2 ext4", "mnt/two words/var /dev/sda4 btrfs", "mnt/two wordsmore /dev/sda4 btrfs"},
		"/mnt/two words":     {". /dev/sda2 ext4", "var /dev/sda4 btrfs"},
		"/mnt/two words/lib": {". /dev/sda2 ext4"},
		"/home":              {". /dev/sda1 ext4"},
	} {
		if diff := cmp.Diff(want, transaction.Mounts(all, root)); diff != "" {
			t.Errorf("mounts below %s (-want +got):\n%s", root, diff)
		}
	}
}
