package overlay_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/overlay"
	"edeploy/images/manifest/fstree"
)

// put makes files (and "x/" directories, "a -> b" links) below dir.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case strings.HasSuffix(name, "/"):
			err = errors.Join(err, os.MkdirAll(p, 0o755))
		case strings.HasPrefix(content, "-> "):
			err = errors.Join(err, os.Symlink(content[3:], p))
		default:
			err = errors.Join(err, os.WriteFile(p, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, dir string) *overlay.Tree {
	t.Helper()
	tree, err := overlay.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

func read(t *testing.T, p string) string {
	t.Helper()
	text, err := os.ReadFile(p)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

func TestLay(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	put(t, dst, map[string]string{
		"root/": "", "etc/hostname": "mysql\n", "etc/hosts": "shared\n", "etc/resolv.conf": "-> ../run/resolv.conf", "usr/lib/": "", "lib": "-> usr/lib",
	})
	err := errors.Join(os.Chmod(filepath.Join(dst, "root"), 0o700), os.Link(filepath.Join(dst, "etc/hosts"), filepath.Join(dst, "etc/hosts.orig")))
	if err != nil {
		t.Fatal(err)
	}
	put(t, src, map[string]string{
		"root/.profile": "profile\n", "etc/hostname": "host03\n", "etc/hosts": "new\n", "etc/resolv.conf": "nameserver 10.0.0.1\n",
		"etc/new/conf": "c", "etc/link": "-> new/conf", ".top": "dot", "lib/modules.conf": "through a link",
	})
	when := time.Date(2021, 2, 3, 4, 5, 6, 789, time.UTC)
	secret := filepath.Join(src, "etc/new/conf")
	if err := errors.Join(os.Chmod(secret, 0o600|fs.ModeSetgid), os.Chtimes(secret, when, when), os.Chmod(filepath.Join(src, "etc/new"), 0o750)); err != nil {
		t.Fatal(err)
	}
	tree := open(t, dst)
	if err := tree.CopyAll(src); err != nil {
		t.Fatal(err)
	}
	want := []string{"/.top", "/etc/hostname", "/etc/hosts", "/etc/link", "/etc/new", "/etc/new/conf", "/etc/resolv.conf", "/root/.profile", "/usr/lib/modules.conf"}
	if diff := cmp.Diff(want, tree.Local()); diff != "" {
		t.Errorf("local (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"etc/hostname": "host03\n", "etc/hosts": "new\n", "etc/hosts.orig": "shared\n", "etc/resolv.conf": "nameserver 10.0.0.1\n",
		"etc/link": "c", ".top": "dot", "usr/lib/modules.conf": "through a link",
	} {
		if got := read(t, filepath.Join(dst, name)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]fs.FileMode{"root": fs.ModeDir | 0o700, "etc/new": fs.ModeDir | 0o750, "etc/new/conf": 0o600 | fs.ModeSetgid} {
		info, err := os.Stat(filepath.Join(dst, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if info, _ := os.Stat(filepath.Join(dst, "etc/new/conf")); !info.ModTime().Equal(when) {
		t.Errorf("time %v, want %v", info.ModTime(), when)
	}
}

func TestLayNothing(t *testing.T) {
	if err := open(t, t.TempDir()).CopyAll(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
}

// TestThroughLinks: what a script writes through a linked directory lands where
// chroot would write it, and is listed as the manifest walks it.
func TestThroughLinks(t *testing.T) {
	outside := t.TempDir()
	src, dst := t.TempDir(), t.TempDir()
	put(t, dst, map[string]string{
		"usr/sbin/agent.key": "of the tree", "sbin": "-> usr/sbin", "usr/lib/systemd/system/": "", "lib": "-> usr/lib", "run/": "", "var/run": "-> /run",
		"etc/ssl/certs/": "", "usr/lib/ssl/certs": "-> /etc/ssl/certs", "srv/www": "-> /data/www", "up": "-> ../../..", "out": "-> " + outside,
		"etc/modules": "-> /etc/modules-load.d/modules.conf", "etc/modules-load.d/modules.conf": "loop\n", "boot/real/": "", "boot/grub": "-> /boot/real",
	})
	put(t, src, map[string]string{
		"sbin/agent.key": "secret", "lib/systemd/system/x.service": "unit", "var/run/x": "r", "usr/lib/ssl/certs/ca.pem": "pem", "srv/www/deep/index": "i",
		"up/top": "t", "out/y": "y", "etc/dir/": "",
	})
	if err := os.Chmod(filepath.Join(src, "sbin/agent.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := fstree.Walk(t.Context(), dst, fstree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tree := open(t, dst)
	err = errors.Join(overlay.Check(src, m), tree.CopyAll(src), tree.Append("/etc/modules", []byte("bonding\n"), 0o644), tree.Add("/boot/grub/", "/sbin/other"))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := strings.TrimPrefix(outside, "/")
	want := []string{"/boot/real/", "/data", "/data/www", "/data/www/deep", "/data/www/deep/index", "/etc/dir", "/etc/modules", "/etc/ssl/certs/ca.pem", "/run/x"}
	for at := elsewhere; at != "."; at = filepath.Dir(at) {
		want = append(want, "/"+at)
	}
	want = append(want, "/"+elsewhere+"/y", "/top", "/usr/lib/systemd/system/x.service", "/usr/sbin/agent.key", "/usr/sbin/other")
	slices.Sort(want)
	if diff := cmp.Diff(want, tree.Local()); diff != "" {
		t.Errorf("local (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"usr/sbin/agent.key": "secret", "run/x": "r", "etc/ssl/certs/ca.pem": "pem", "data/www/deep/index": "i", "top": "t",
		elsewhere + "/y": "y", "etc/modules": "loop\nbonding\n", "etc/modules-load.d/modules.conf": "loop\n"} {
		if got := read(t, filepath.Join(dst, name)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	if info, err := os.Lstat(filepath.Join(dst, "usr/sbin/agent.key")); err != nil || info.Mode() != 0o600 {
		t.Errorf("agent.key: %v %v, want 0600", info.Mode(), err)
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("written outside of the tree: %v", left)
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name      string
		tree, add map[string]string
		want      string
	}{
		{"directory over a file", map[string]string{"etc/a": "file"}, map[string]string{"etc/a/b": "x"},
			"lay directory /etc/a over the tree: the tree has a file there: change the role, or write to another place"},
		{"directory over a linked file", map[string]string{"usr/a": "file", "etc": "-> /usr"}, map[string]string{"etc/a/b": "x"},
			"lay directory /etc/a over the tree: the tree has a file there, /usr/a: change the role, or write to another place"},
		{"file over a directory", map[string]string{"etc/a/": ""}, map[string]string{"etc/a": "x"},
			"lay file /etc/a over the tree: the tree has a directory there: change the role, or write to another place"},
		{"circle", map[string]string{"srv/www": "-> /srv/www"}, map[string]string{"srv/www/x": "x"},
			"lay directory /srv/www over the tree: the symbolic link /srv/www -> /srv/www leads in a circle: change the role, or write to another place"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()
			put(t, dst, tt.tree)
			put(t, src, tt.add)
			m, err := fstree.Walk(t.Context(), dst, fstree.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{overlay.Check(src, m), open(t, dst).CopyAll(src)} {
				if err == nil || err.Error() != tt.want {
					t.Errorf("got %v, want %s", err, tt.want)
				}
			}
		})
	}
}

func TestQueuedPipeIsRefused(t *testing.T) {
	src := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(src, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := open(t, t.TempDir()).CopyAll(src)
	if err == nil || !strings.Contains(err.Error(), "only files, directories and symbolic links") {
		t.Errorf("got %v", err)
	}
}

func TestWriteAppendCopy(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"etc/modules": "loop"})
	tree := open(t, dir)
	file := filepath.Join(t.TempDir(), "log")
	put(t, filepath.Dir(file), map[string]string{"log": "lines\n"})
	err := errors.Join(
		tree.Append("/etc/modules", []byte("bonding\n"), 0o644),
		tree.Append("/etc/new", []byte("x\n"), 0o600),
		tree.Write("/var/lib/edeploy/conf", []byte("ROLE=a\n"), 0o644),
		tree.Write("/var/lib/edeploy/conf", []byte("ROLE=b\n"), 0o644),
		tree.Copy(file, "/var/log/edeploy/install.log", 0o640),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Add("/boot/grub/"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"etc/modules": "loop\nbonding\n", "etc/new": "x\n", "var/lib/edeploy/conf": "ROLE=b\n", "var/log/edeploy/install.log": "lines\n"} {
		if got := read(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	want := []string{"/boot/grub/", "/etc/modules", "/etc/new", "/var", "/var/lib", "/var/lib/edeploy", "/var/lib/edeploy/conf",
		"/var/log", "/var/log/edeploy", "/var/log/edeploy/install.log"}
	if diff := cmp.Diff(want, tree.Local()); diff != "" {
		t.Errorf("local (-want +got):\n%s", diff)
	}
}
