package leftover_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/leftover"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"
)

// start copies sleep to a path and runs it until the test ends.
func start(t *testing.T, path string) (pid int) {
	t.Helper()
	copySleep(t, path)
	c := exec.CommandContext(t.Context(), path, "1000")
	must(t, c.Start())
	t.Cleanup(func() { c.Wait() }) // the context has ended
	return c.Process.Pid
}

func copySleep(t *testing.T, path string) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	program, err := os.ReadFile(sleep)
	must(t, err)
	write(t, string(program), path)
}

// sees tells whether a process is in a report on the real /proc.
func sees(t *testing.T, root string, tree *manifest.Manifest, pid int) bool {
	t.Helper()
	report, err := leftover.Finder{Root: root, Self: os.Getpid(), Manifest: func() (*manifest.Manifest, error) { return tree, nil }}.Find(t.Context())
	must(t, err)
	for _, s := range slices.Concat(report.Services, report.Reboot) {
		if slices.Contains(s.PIDs, pid) {
			return true
		}
	}
	return slices.ContainsFunc(report.Processes, func(p leftover.Process) bool { return p.PID == pid && p.Name == "daemon" })
}

// TestRealProcess: what the kernel shows of a program that is renamed away as
// an upgrade does, brought back as a rollback does, renamed away, and removed.
func TestRealProcess(t *testing.T) {
	root := t.TempDir()
	daemon, slot := filepath.Join(root, "usr/sbin/daemon"), filepath.Join(root, ".edeploy/3/17")
	pid := start(t, daemon)
	must(t, os.MkdirAll(filepath.Dir(slot), 0o700))
	for _, step := range []struct {
		name string
		do   func() error
		want bool
	}{
		{"started", func() error { return nil }, false},
		{"upgraded", func() error { return os.Rename(daemon, slot) }, true},
		{"rolled back", func() error { return os.Rename(slot, daemon) }, false},
		{"its directory upgraded", func() error { return os.Rename(filepath.Join(root, "usr"), slot) }, true},
		{"kept no more", func() error { return os.RemoveAll(filepath.Join(root, ".edeploy/3")) }, true},
	} {
		must(t, step.do())
		if got := sees(t, root, &manifest.Manifest{}, pid); got != step.want {
			t.Errorf("%s: left over = %t, want %t", step.name, got, step.want)
		}
	}
}

// TestRealMount: a service whose /usr is a mount of its own, by which systemd
// protects it, is renamed out of that mount by an upgrade of the machine.
func TestRealMount(t *testing.T) {
	needs.Root(t)
	root := t.TempDir()
	usr, daemon, slot := filepath.Join(root, "usr"), filepath.Join(root, "usr/sbin/daemon"), filepath.Join(root, ".edeploy/3/17")
	copySleep(t, daemon)
	must(t, os.MkdirAll(filepath.Dir(slot), 0o700))
	c := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", `mount --bind "$1" "$1" && echo && exec "$2" 1000`, "sh", usr, daemon)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	t.Cleanup(func() { c.Wait() })
	mapsDaemon := func() bool {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.Process.Pid))
		return err == nil && strings.HasSuffix(exe, "/daemon")
	}
	_, err = out.Read(make([]byte, 1)) // it is about to begin
	must(t, err)
	for deadline := time.Now().Add(20 * time.Second); !mapsDaemon(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("the program does not begin within 20 s")
		}
	}
	if sees(t, "/", &manifest.Manifest{}, c.Process.Pid) {
		t.Error("left over before it was upgraded")
	}
	must(t, os.Rename(daemon, slot))
	if !sees(t, "/", &manifest.Manifest{}, c.Process.Pid) {
		t.Error("not left over although it was upgraded")
	}
}

// TestRealReplacement: a program that something else than an upgrade replaced.
func TestRealReplacement(t *testing.T) {
	root := t.TempDir()
	daemon, temporary := filepath.Join(root, "usr/sbin/daemon"), filepath.Join(root, "tmp/daemon")
	pid, other := start(t, daemon), start(t, temporary)
	tree, err := fstree.Walk(t.Context(), filepath.Join(root), fstree.Options{Exclude: func(name string) bool { return name == "tmp" }})
	must(t, err)
	if sees(t, root, tree, pid) {
		t.Error("left over before it was replaced")
	}
	write(t, "new", root, "usr/sbin/daemon.new")
	must(t, os.Rename(daemon+".new", daemon))
	must(t, os.Remove(temporary))
	if !sees(t, root, tree, pid) {
		t.Error("not left over although it was replaced")
	}
	if sees(t, root, tree, other) {
		t.Error("a program that was no part of the tree is left over")
	}
}
