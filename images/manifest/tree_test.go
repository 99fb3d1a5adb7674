package manifest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// capability is cap_net_raw=ep, as setcap writes it (struct vfs_cap_data, revision 2).
var capability = []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// acl is user::rwx, user:1000:r-x, group::r-x, mask::r-x, other::--- in the
// form of posix_acl_xattr.h.
var acl = []byte("\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\xe8\x03\x00\x00" +
	"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")

// oddNames are file names that texts and programs stumble over.
var oddNames = []string{"two words", "line\nbreak", "tab\there", "#comment", "star*", "[a-z]?", "\xff\xfe invalid", "ümlaut",
	`back\slash`, `\040`, "equals=sign", "/set"[1:], "...", "-rf", "\x01\x7f", "type=dir", "%2e", "nl=1 uid=3", "end\\"}

// hostileTree makes a tree with everything that transports lose.
func hostileTree(t testing.TB, root string) {
	t.Helper()
	needs.Root(t)
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(content), 0o600))
		must(t, os.Chmod(path, mode))
		return path
	}
	su := write("usr/bin/su", "su", 0o755)
	must(t, os.Lchown(su, 0, 12))
	must(t, os.Chmod(su, 0o755|os.ModeSetuid|os.ModeSetgid))
	write("etc/shadow", "secret", 0o640)
	must(t, os.Lchown(filepath.Join(root, "etc/shadow"), 0, 42))
	ping := write("usr/bin/ping", "ping", 0o755)
	must(t, unix.Setxattr(ping, "security.capability", capability, 0))
	must(t, unix.Setxattr(ping, "user.note", []byte("a\x00b=\n"), 0))
	must(t, unix.Setxattr(ping, "user.empty", nil, 0))
	secret := write("srv/acl", "acl", 0o750)
	must(t, unix.Setxattr(secret, "system.posix_acl_access", acl, 0))
	must(t, unix.Setxattr(filepath.Join(root, "srv"), "system.posix_acl_default", acl, 0))
	must(t, os.Mkdir(filepath.Join(root, "tmp"), 0o777))
	must(t, os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky))
	must(t, os.MkdirAll(filepath.Join(root, "var/mail"), 0o700))
	must(t, os.Chown(filepath.Join(root, "var/mail"), 4_000_000_000, 8))
	must(t, os.Chmod(filepath.Join(root, "var/mail"), 0o770|os.ModeSetgid))
	must(t, os.Symlink("usr/bin", filepath.Join(root, "bin")))
	must(t, os.Symlink("/outside of\nit", filepath.Join(root, "dangling")))
	must(t, unix.Setxattr(filepath.Join(root, "var"), "trusted.x", []byte{0, 255}, 0))

	perl := write("usr/bin/perl", "perl", 0o755)
	must(t, os.Link(perl, filepath.Join(root, "usr/bin/perl5.36")))
	must(t, os.Link(perl, filepath.Join(root, "a-perl")))
	must(t, os.Link(filepath.Join(root, "dangling"), filepath.Join(root, "var/dangling too")))

	dev := filepath.Join(root, "dev")
	must(t, os.Mkdir(dev, 0o755))
	must(t, unix.Mknod(filepath.Join(dev, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, os.Chmod(filepath.Join(dev, "null"), 0o666))
	must(t, unix.Mknod(filepath.Join(dev, "disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(4095, 1048575))))
	must(t, os.Link(filepath.Join(dev, "disk"), filepath.Join(dev, "disk1")))
	must(t, unix.Mkfifo(filepath.Join(dev, "initctl"), 0o600))
	must(t, unix.Setxattr(filepath.Join(dev, "initctl"), "security.x", []byte("fifo"), 0))
	must(t, os.Lchown(filepath.Join(root, "bin"), 7, 7))

	sparse, err := os.Create(filepath.Join(root, "var/sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("in the middle"), 5<<20)
	must(t, err)
	must(t, sparse.Truncate(8<<20))
	must(t, sparse.Close())
	write("var/empty file", "", 0o000)
	for i, name := range oddNames {
		write(filepath.Join("odd", name, fmt.Sprint(i)), name, 0o644)
		write(filepath.Join("odd2", name), name, 0o644)
	}
	age(t, root)
}

// age gives every path a time of its own, some before 1970, some far ahead: ext4
// knows 1901 to 2446.
func age(t testing.TB, root string) {
	t.Helper()
	n := 0
	must(t, filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		n++
		when := time.Date(1950+7*(n%60), 2, 3, 4, 5, 6, n*1_234_567%1_000_000_000, time.UTC)
		if err != nil {
			return err
		}
		return setTime(path, when)
	}))
}

// modern gives every path one time that every program can write; libarchive 3.6
// writes fractions of times before 1970 wrong.
func modern(t testing.TB, root string) {
	t.Helper()
	must(t, filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return setTime(path, time.Unix(1_700_000_000, 123_456_789))
	}))
}

func walk(t testing.TB, root string) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Walk(t.Context(), root, manifest.Options{})
	must(t, err)
	return m
}

// wantEqual compares two manifests entry by entry.
func wantEqual(t testing.TB, want, got *manifest.Manifest) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests differ (-want +got):\n%s", diff)
	}
}

func wantVerified(t testing.TB, m *manifest.Manifest, root string) {
	t.Helper()
	diffs, err := m.Verify(t.Context(), root, manifest.Options{Extras: true})
	must(t, err)
	for _, d := range diffs {
		t.Errorf("difference: %v", d)
	}
}
