// Package treetest makes trees with everything that transports lose, for the tests
// of manifests, and compares what became of them.
package treetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Run runs a program and answers what it prints.
func Run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Must ends a test that has an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Capability is cap_net_raw=ep, as setcap writes it (struct vfs_cap_data, revision 2).
var Capability = []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// ACL is user::rwx, user:1000:r-x, group::r-x, mask::r-x, other::--- in the
// form of posix_acl_xattr.h.
var ACL = []byte("\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\xe8\x03\x00\x00" +
	"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")

// oddNames are file names that texts and programs stumble over.
var oddNames = []string{"two words", "line\nbreak", "tab\there", "#comment", "star*", "[a-z]?", "\xff\xfe invalid", "ümlaut",
	`back\slash`, `\040`, "equals=sign", "/set"[1:], "...", "-rf", "\x01\x7f", "type=dir", "%2e", "nl=1 uid=3", "end\\"}

// Hostile makes a tree with everything that transports lose.
func Hostile(t testing.TB, root string) {
	t.Helper()
	needs.Root(t)
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(root, name)
		Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		Must(t, os.WriteFile(path, []byte(content), 0o600))
		Must(t, os.Chmod(path, mode))
		return path
	}
	su := write("usr/bin/su", "su", 0o755)
	Must(t, os.Lchown(su, 0, 12))
	Must(t, os.Chmod(su, 0o755|os.ModeSetuid|os.ModeSetgid))
	write("etc/shadow", "secret", 0o640)
	Must(t, os.Lchown(filepath.Join(root, "etc/shadow"), 0, 42))
	ping := write("usr/bin/ping", "ping", 0o755)
	Must(t, unix.Setxattr(ping, "security.capability", Capability, 0))
	Must(t, unix.Setxattr(ping, "user.note", []byte("a\x00b=\n"), 0))
	Must(t, unix.Setxattr(ping, "user.empty", nil, 0))
	secret := write("srv/acl", "acl", 0o750)
	Must(t, unix.Setxattr(secret, "system.posix_acl_access", ACL, 0))
	Must(t, unix.Setxattr(filepath.Join(root, "srv"), "system.posix_acl_default", ACL, 0))
	Must(t, os.Mkdir(filepath.Join(root, "tmp"), 0o777))
	Must(t, os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky))
	Must(t, os.MkdirAll(filepath.Join(root, "var/mail"), 0o700))
	Must(t, os.Chown(filepath.Join(root, "var/mail"), 4_000_000_000, 8))
	Must(t, os.Chmod(filepath.Join(root, "var/mail"), 0o770|os.ModeSetgid))
	Must(t, os.Symlink("usr/bin", filepath.Join(root, "bin")))
	Must(t, os.Symlink("/outside of\nit", filepath.Join(root, "dangling")))
	Must(t, unix.Setxattr(filepath.Join(root, "var"), "trusted.x", []byte{0, 255}, 0))

	perl := write("usr/bin/perl", "perl", 0o755)
	Must(t, os.Link(perl, filepath.Join(root, "usr/bin/perl5.36")))
	Must(t, os.Link(perl, filepath.Join(root, "a-perl")))
	Must(t, os.Link(filepath.Join(root, "dangling"), filepath.Join(root, "var/dangling too")))

	dev := filepath.Join(root, "dev")
	Must(t, os.Mkdir(dev, 0o755))
	Must(t, unix.Mknod(filepath.Join(dev, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	Must(t, os.Chmod(filepath.Join(dev, "null"), 0o666))
	Must(t, unix.Mknod(filepath.Join(dev, "disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(4095, 1048575))))
	Must(t, os.Link(filepath.Join(dev, "disk"), filepath.Join(dev, "disk1")))
	Must(t, unix.Mkfifo(filepath.Join(dev, "initctl"), 0o600))
	Must(t, unix.Setxattr(filepath.Join(dev, "initctl"), "security.x", []byte("fifo"), 0))
	Must(t, os.Lchown(filepath.Join(root, "bin"), 7, 7))

	sparse, err := os.Create(filepath.Join(root, "var/sparse"))
	Must(t, err)
	_, err = sparse.WriteAt([]byte("in the middle"), 5<<20)
	Must(t, err)
	Must(t, sparse.Truncate(8<<20))
	Must(t, sparse.Close())
	write("var/empty file", "", 0o000)
	for i, name := range oddNames {
		write(filepath.Join("odd", name, fmt.Sprint(i)), name, 0o644)
		write(filepath.Join("odd2", name), name, 0o644)
	}
	Age(t, root)
}

// Age gives every path a time of its own, some before 1970, some far ahead: ext4
// knows 1901 to 2446.
func Age(t testing.TB, root string) {
	t.Helper()
	n := 0
	Must(t, filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		n++
		when := time.Date(1950+7*(n%60), 2, 3, 4, 5, 6, n*1_234_567%1_000_000_000, time.UTC)
		if err != nil {
			return err
		}
		return SetTime(path, when)
	}))
}

// Modern gives every path one time that every program can write; libarchive 3.6
// writes fractions of times before 1970 wrong.
func Modern(t testing.TB, root string) {
	t.Helper()
	Must(t, filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return SetTime(path, time.Unix(1_700_000_000, 123_456_789))
	}))
}

// Walk describes a tree.
func Walk(t testing.TB, root string) *manifest.Manifest {
	t.Helper()
	m, err := fstree.Walk(t.Context(), root, fstree.Options{})
	Must(t, err)
	return m
}

// Equal compares two manifests entry by entry.
func Equal(t testing.TB, want, got *manifest.Manifest) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests differ (-want +got):\n%s", diff)
	}
}

// Verified proves a tree.
func Verified(t testing.TB, m *manifest.Manifest, root string) {
	t.Helper()
	diffs, err := fstree.Verify(t.Context(), m, root, fstree.Options{Extras: true})
	Must(t, err)
	for _, d := range diffs {
		t.Errorf("difference: %v", d)
	}
}

// SetTime sets the time of a path, also of a symbolic link.
func SetTime(path string, when time.Time) error {
	ts := unix.Timespec{Sec: when.Unix(), Nsec: int64(when.Nanosecond())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// WithoutXattrs is a copy without extended attributes.
func WithoutXattrs(m *manifest.Manifest) *manifest.Manifest {
	entries := slices.Clone(m.Entries)
	for i := range entries {
		entries[i].Xattrs = nil
	}
	return &manifest.Manifest{Entries: entries}
}

// Text is the text of a manifest.
func Text(t testing.TB, m *manifest.Manifest) string {
	t.Helper()
	var b bytes.Buffer
	n, err := m.WriteTo(&b)
	Must(t, err)
	if n != int64(b.Len()) {
		t.Errorf("WriteTo answered %d bytes and wrote %d", n, b.Len())
	}
	return b.String()
}

// Endless answers the same bytes again and again.
type Endless struct {
	Text  []byte
	at    int
	Taken int64 // bytes
}

func (f *Endless) Read(p []byte) (int, error) {
	for n := 0; n < len(p); {
		c := copy(p[n:], f.Text[f.at:])
		n += c
		f.at = (f.at + c) % len(f.Text)
	}
	f.Taken += int64(len(p))
	return len(p), nil
}
