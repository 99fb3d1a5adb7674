package leftover_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/leftover"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, text string, names ...string) {
	t.Helper()
	file := filepath.Join(names...)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte(text), 0o755))
}

// fake is a /proc of files, and the machine's root directory.
type fake struct {
	proc, root string
	asked      int // for the manifest
}

func newFake(t *testing.T) *fake {
	f := &fake{proc: t.TempDir(), root: t.TempDir()}
	write(t, "daemon", f.root, "usr/sbin/daemon")
	must(t, os.Symlink("daemon", filepath.Join(f.root, "usr/sbin/link")))
	write(t, "22 1 8:1 / / rw - ext4 /dev/vda1 rw\n23 22 8:2 / "+f.root+" rw - ext4 /dev/vda1 rw\n24 23 8:2 / "+f.root+"/var rw - ext4 /dev/vda2 rw\n", f.proc, "self/mountinfo")
	f.sees(t, "self", "mnt:[1]", f.root)
	write(t, "1 text", f.proc, "filesystems")
	must(t, os.Mkdir(filepath.Join(f.proc, "irq"), 0o755))
	return f
}

// sees sets what a process sees of the file systems.
func (f *fake) sees(t *testing.T, process, namespace, root string) {
	t.Helper()
	dir := filepath.Join(f.proc, process)
	must(t, os.MkdirAll(filepath.Join(dir, "ns"), 0o755))
	must(t, os.Symlink(namespace, filepath.Join(dir, "ns/mnt")))
	must(t, os.Symlink(root, filepath.Join(dir, "root")))
}

// process adds one that maps a path as executable, "ROOT" in it replaced.
func (f *fake) process(t *testing.T, pid int, name, group, path string, inode uint64) {
	t.Helper()
	dir := filepath.Join(f.proc, fmt.Sprint(pid))
	maps := fmt.Sprintf("00400000-00401000 r-xp 00000000 08:01 77 /usr/lib/libc.so.6\n00500000-00501000 r-xp 00000000 08:01 %d   %s\n", inode, strings.ReplaceAll(path, "ROOT", f.root))
	write(t, maps, dir, "maps")
	write(t, name+"\n", dir, "comm")
	write(t, "0::"+group+"\n", dir, "cgroup")
	f.sees(t, fmt.Sprint(pid), "mnt:[1]", f.root)
}

func (f *fake) manifest(t *testing.T) func() (*manifest.Manifest, error) {
	return func() (*manifest.Manifest, error) {
		f.asked++
		return fstree.Walk(t.Context(), f.root, fstree.Options{})
	}
}

func (f *fake) find(t *testing.T) *leftover.Report {
	t.Helper()
	report, err := leftover.Finder{Proc: f.proc, Root: f.root, Self: 999, Manifest: f.manifest(t)}.Find(t.Context())
	must(t, err)
	return report
}

func (f *fake) inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(f.root, path), &st))
	return st.Ino
}

// TestReplaced: one process that maps one path.
func TestReplaced(t *testing.T) {
	for _, test := range []struct {
		path string
		want bool
	}{
		{"ROOT/.edeploy/3/17", true},
		{"ROOT/.edeploy/3/17.old", true},
		{"ROOT/.edeploy/3/17 (deleted)", true},
		{"ROOT/.edeploy/3/17/lib/modules/x y.so", true},
		{"ROOT/var/.edeploy/12/1 (deleted)", true},
		{"ROOT/home/me/.edeploy/3/17", false}, // no file system is mounted there
		{"ROOT/.edeploy/phase", false},
		{"ROOT/.edeploy/x/17", false},
		{"/", true}, // renamed out of a mount
		{"/ (deleted)", true},
		{"/.edeploy/3/17", false}, // that of another machine's root
		{"ROOT/usr/sbin/daemon", false},
		{"ROOT/usr/sbin/daemon (deleted)", true},
		{"ROOT/usr/sbin/gone (deleted)", false}, // was no part of the tree
		{"ROOT/usr/sbin (deleted)", false},
		{"ROOT/usr/sbin/link (deleted)", false},
		{"/usr/sbin/daemon (deleted)", false},
		{"ROOT/../usr/sbin/daemon (deleted)", false},
		{"ROOT/tmp/orcexec.Xy (deleted)", false},
		{"/memfd:pulse (deleted)", false},
		{"/dev/zero (deleted)", false},
		{"/SYSV00000000 (deleted)", false},
		{"/dev/shm/x (deleted)", false},
		{"[vdso]", false},
		{"", false},
	} {
		f := newFake(t)
		f.process(t, 10, "daemon", "/", test.path, 1)
		if got := !f.find(t).Empty(); got != test.want {
			t.Errorf("%q is replaced: %t, want %t", test.path, got, test.want)
		}
	}
}

// TestSameInode: the name was removed and made again for the same file.
func TestSameInode(t *testing.T) {
	f := newFake(t)
	f.process(t, 10, "daemon", "/", "ROOT/usr/sbin/daemon (deleted)", f.inode(t, "usr/sbin/daemon"))
	if r := f.find(t); !r.Empty() {
		t.Errorf("report = %+v, want none", r)
	}
	if f.asked != 1 {
		t.Errorf("the manifest was read %d times", f.asked)
	}
}

func TestReport(t *testing.T) {
	f := newFake(t)
	const slot = "ROOT/.edeploy/3/17"
	f.process(t, 1, "systemd", "/init.scope", slot, 1)
	f.process(t, 300, "mariadbd", "/system.slice/mariadb.service", slot, 1)
	f.process(t, 20, "sshd", "/system.slice/ssh.service", slot, 1)
	f.process(t, 19, "sshd", "/system.slice/ssh.service", slot, 1)
	f.process(t, 30, "dbus-daemon", "/system.slice/dbus.service", slot, 1)
	f.process(t, 41, "ba\x1b[31msh", "/user.slice/user-0.slice/session-3.scope", slot, 1)
	f.process(t, 40, "systemd", "/user.slice/user-0.slice/user@0.service/init.scope", slot, 1)
	f.process(t, 50, "cron", "/system.slice/cron.service", "ROOT/usr/sbin/daemon", 1)
	f.process(t, 999, "edeploy", "/user.slice/user-0.slice/session-3.scope", slot, 1) // who asks
	f.process(t, 60, "contained", "/system.slice/docker.service/x", slot, 1)
	must(t, os.RemoveAll(filepath.Join(f.proc, "60/ns")))
	must(t, os.Remove(filepath.Join(f.proc, "60/root")))
	f.sees(t, "60", "mnt:[2]", t.TempDir())
	f.process(t, 70, "private", "/system.slice/private.service", slot, 1)
	must(t, os.RemoveAll(filepath.Join(f.proc, "70/ns")))
	must(t, os.Remove(filepath.Join(f.proc, "70/root")))
	f.sees(t, "70", "mnt:[3]", f.root)
	must(t, os.Mkdir(filepath.Join(f.proc, "80"), 0o755)) // ends while it is looked at
	want := &leftover.Report{
		Services:  []leftover.Service{{"mariadb.service", []int{300}}, {"private.service", []int{70}}, {"ssh.service", []int{19, 20}}},
		Reboot:    []leftover.Service{{"dbus.service", []int{30}}},
		Systemd:   true,
		Processes: []leftover.Process{{40, "systemd"}, {41, "ba?[31msh"}},
	}
	if diff := cmp.Diff(want, f.find(t)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if f.asked != 0 {
		t.Error("the manifest was read for nothing")
	}
}

func TestOtherInit(t *testing.T) {
	f := newFake(t)
	f.process(t, 1, "init", "/", "ROOT/.edeploy/3/17", 1)
	want := &leftover.Report{Services: []leftover.Service{}, Reboot: []leftover.Service{}, Processes: []leftover.Process{{1, "init"}}}
	if diff := cmp.Diff(want, f.find(t)); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestCannotLook(t *testing.T) {
	broken := newFake(t)
	broken.process(t, 10, "x", "/", "ROOT/usr/sbin/daemon (deleted)", 1)
	unreadable := errors.New("manifest: unreadable")
	noManifest := func() (*manifest.Manifest, error) { return nil, unreadable }
	if r, err := (leftover.Finder{Proc: broken.proc, Root: broken.root, Manifest: noManifest}).Find(t.Context()); r != nil || !errors.Is(err, unreadable) {
		t.Errorf("without a manifest: %+v, %v", r, err)
	}
	if r, err := (leftover.Finder{Proc: t.TempDir()}).Find(t.Context()); r != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without /proc: %+v, %v", r, err)
	}
	stuck := newFake(t)
	must(t, os.Mkdir(filepath.Join(stuck.proc, "10"), 0o755))
	must(t, unix.Mkfifo(filepath.Join(stuck.proc, "10/maps"), 0o600))
	defer func() { // let the reader end
		if w, err := os.OpenFile(filepath.Join(stuck.proc, "10/maps"), os.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
			w.Close()
		}
	}()
	r, err := leftover.Finder{Proc: stuck.proc, Root: stuck.root, Patience: 50 * time.Millisecond}.Find(t.Context())
	if r != nil || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "look at the processes in "+stuck.proc+": ") {
		t.Errorf("with a process that is stuck: %+v, %v", r, err)
	}
}

// TestForbidden: one process may not be looked at, as a security module says.
func TestForbidden(t *testing.T) {
	const forbidden = "/sys/bus/platform/drivers_probe" // nobody may read it
	if _, err := os.ReadFile(forbidden); !errors.Is(err, os.ErrPermission) {
		t.Fatalf("%s: %v", forbidden, err)
	}
	f := newFake(t)
	f.process(t, 10, "x", "/", "ROOT/.edeploy/3/17", 1)
	f.process(t, 11, "y", "/", "ROOT/.edeploy/3/17", 1)
	must(t, os.Remove(filepath.Join(f.proc, "10/maps")))
	must(t, os.Symlink(forbidden, filepath.Join(f.proc, "10/maps")))
	if r := f.find(t); len(r.Processes) != 1 || r.Unknown != 1 {
		t.Errorf("report = %+v", r)
	}
}

// TestLongLine: a path that long is no reason to see nothing, and none to fail.
func TestLongLine(t *testing.T) {
	f := newFake(t)
	f.process(t, 10, "x", "/", "/"+strings.Repeat("x/", 1<<20), 1)
	f.process(t, 11, "y", "/", "ROOT/.edeploy/3/17", 1)
	if r := f.find(t); len(r.Processes) != 1 || r.Processes[0].PID != 11 {
		t.Errorf("report = %+v", r)
	}
}
