package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

// TestFullDisk has room for the machine, but not for the new version.
func TestFullDisk(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	mountDisk(t, root, 24<<20)
	s := newSiteAt(t, root)
	write(t, strings.Repeat("big ", 8<<20), s.tree, "usr/share/big")
	s.publish(t)
	was := s.state(t)
	status, _, errs := s.call(t, "upgrade", after)
	if status != 1 || !strings.Contains(errs, "too little room") || strings.Count(errs, "\n") != 1 {
		t.Errorf("upgrade = %d, stderr %q", status, errs)
	}
	t.Log(errs)
	s.unchanged(t, was)
	must(t, os.Remove(filepath.Join(s.tree, "usr/share/big")))
	s.publish(t)
	if status, _, errs := s.call(t, "upgrade", after); status != 0 {
		t.Errorf("upgrade without the big file = %d, stderr %q", status, errs)
	}
	if status, out, _ := s.call(t, "verify"); status != 0 {
		t.Errorf("verify = %d\n%s", status, out)
	}
}

func mountDisk(t *testing.T, at string, size int64) (device string) {
	t.Helper()
	needs.Root(t)
	image := filepath.Join(t.TempDir(), "disk.img")
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, size))
	run := func(argv ...string) string {
		t.Helper()
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("mkfs.ext4", "-q", "-F", image)
	device = run("losetup", "-f", "--show", image)
	t.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })
	must(t, os.MkdirAll(at, 0o755))
	must(t, unix.Mount(device, at, "ext4", 0, ""))
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	return device
}

// unmountIdle waits for the last process to leave a file system.
func unmountIdle(t *testing.T, at string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Unmount(at, 0)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("unmount %s: %v", at, err)
		}
	}
}

// TestTwoFileSystems: the transaction's directory on /var is no part of the
// tree either, however the root is named.
func TestTwoFileSystems(t *testing.T) {
	for kind, named := range map[string]func(t *testing.T, root string) string{
		"absolute": func(_ *testing.T, root string) string { return root },
		"a link": func(t *testing.T, root string) string {
			link := filepath.Join(t.TempDir(), "link")
			must(t, os.Symlink(root, link))
			return link
		},
		"relative": func(t *testing.T, root string) string {
			t.Chdir(filepath.Dir(root))
			return filepath.Base(root) + "/../" + filepath.Base(root) + "/"
		},
	} {
		t.Run(kind, func(t *testing.T) {
			root := t.TempDir()
			mountDisk(t, filepath.Join(root, "var"), 16<<20)
			s := newSiteAt(t, root)
			must(t, os.Remove(filepath.Join(root, "var/lost+found")))
			s.root = named(t, root)
			play := func(args ...string) (out string) {
				t.Helper()
				status, out, errs := s.call(t, args...)
				if status != 0 {
					t.Fatalf("%q = %d\n%s%s", args, status, out, errs)
				}
				return out
			}
			play("upgrade", after)
			if _, err := os.Lstat(filepath.Join(root, "var/.edeploy")); err != nil {
				t.Error(err)
			}
			play("verify")
			play("rollback")
			play("verify")
			if out := play("test-upgrade", after); strings.Contains(out, ".edeploy") || !strings.Contains(out, " 4 deleted; ") {
				t.Errorf("a second upgrade would do\n%s", out)
			}
			play("upgrade", after)
		})
	}
}

// TestLinkedDirectories: names that were written through links of the tree, also
// absolute ones, count as the paths that they lead to.
func TestLinkedDirectories(t *testing.T) {
	s := newSite(t)
	for _, dir := range []string{s.root, s.tree} {
		write(t, "of "+dir, dir, "usr/sbin/agent.key")
		must(t, os.Symlink("usr/sbin", filepath.Join(dir, "sbin")))
		must(t, os.Mkdir(filepath.Join(dir, "data"), 0o755))
		must(t, os.Rename(filepath.Join(dir, "var/log"), filepath.Join(dir, "data/log")))
		must(t, os.Symlink("/data/log", filepath.Join(dir, "var/log")))
	}
	s.publish(t)
	must(t, os.Chmod(filepath.Join(s.root, "usr/sbin/agent.key"), 0o600))
	m, err := fstree.Walk(t.Context(), s.root, fstree.Options{Exclude: func(name string) bool {
		return name == "home/me" || strings.HasPrefix(name, "var/lib/edeploy/")
	}})
	must(t, err)
	writeManifest(t, m, filepath.Join(s.root, wire.ManifestPath))
	write(t, "shell", s.root, "usr/sbin/agent.key")
	write(t, "/etc/network/interfaces\n/boot/grub/\n/sbin/agent.key\n", s.root, wire.LocalPath)
	write(t, text(t, s.upgrade, "exclude")+"/sbin/*.key\n", s.upgrade, "exclude")
	for _, args := range [][]string{{"upgrade", after}, {"verify"}} {
		status, out, errs := s.call(t, args...)
		if status != 0 {
			t.Errorf("%q = %d\n%s%s", args, status, out, errs)
		}
		if want := "edeploy: warning: exclude: /sbin/*.key names nothing, because /sbin leads through a link: write /usr/sbin/*.key\n"; args[0] == "upgrade" && errs != want {
			t.Errorf("upgrade warns %q, want %q", errs, want)
		}
	}
	info, err := os.Stat(filepath.Join(s.root, "usr/sbin/agent.key"))
	if err != nil || info.Mode() != 0o600 || text(t, s.root, "usr/sbin/agent.key") != "shell" {
		t.Errorf("agent.key after the upgrade: %v, %v", info.Mode(), err)
	}
	if log := text(t, s.root, "data/log/edeploy/upgrade-"+before+"-"+after+".log"); !strings.Contains(log, "Upgraded to ") {
		t.Errorf("the log is %q", log)
	}
}
