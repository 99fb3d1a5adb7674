package fstree

import (
	"bytes"
	"fmt"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
)

// settle makes the attributes of one entry right. The order matters: a new
// owner clears setuid bits and file capabilities, an ACL changes the mode.
func (d *dir) settle(want *manifest.Entry) error {
	n, err := d.open(path.Base(want.Path))
	if err != nil {
		return err
	}
	defer n.close()
	if want.Type == manifest.Dir && want.Path != "." && isPseudo(n.fd) {
		return nil
	}
	got, err := DescribeStat(want.Path, &n.stat)
	if err != nil {
		return n.fail("describe", err)
	}
	changed := got.UID != want.UID || got.GID != want.GID
	if changed {
		if err := unix.Fchownat(n.fd, "", int(want.UID), int(want.GID), unix.AT_EMPTY_PATH); err != nil {
			return n.fail(fmt.Sprintf("give to owner %d:%d", want.UID, want.GID), err)
		}
	}
	rewritten, err := n.setXattrs(want)
	if err != nil {
		return err
	}
	if (changed || rewritten || got.Mode != want.Mode) && want.Type != manifest.Symlink {
		if err := unix.Chmod(n.proc(), want.Mode); err != nil {
			return n.fail(fmt.Sprintf("chmod %04o", want.Mode), err)
		}
	}
	if got.ModTime.Equal(want.ModTime) {
		return nil
	}
	return n.fail("set time "+want.ModTime.UTC().Format("2006-01-02T15:04:05.000000000Z")+" of", unix.UtimesNanoAt(unix.AT_FDCWD, n.proc(), timesOf(want.ModTime), 0))
}

// timesOf are the arguments of utimensat(2) that set the modification time and leave
// the access time.
func timesOf(modified time.Time) []unix.Timespec {
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: modified.Unix(), Nsec: int64(modified.Nanosecond())}}
}

// setXattrs makes the extended attributes right and tells whether it wrote.
func (n *node) setXattrs(want *manifest.Entry) (changed bool, err error) {
	got, err := n.xattrs()
	if err != nil {
		return false, err
	}
	for name := range got {
		if _, ok := want.Xattrs[name]; ok || manifest.SetBySystem(name) {
			continue
		}
		changed = true
		if err := unix.Removexattr(n.proc(), name); err != nil {
			return changed, n.fail("remove extended attribute "+manifest.Escape(name)+" of", err)
		}
	}
	for name, value := range want.Xattrs {
		if old, ok := got[name]; ok && bytes.Equal(old, value) {
			continue
		}
		changed = true
		if err := unix.Setxattr(n.proc(), name, value, 0); err != nil {
			return changed, n.fail("set extended attribute "+manifest.Escape(name)+" of", err)
		}
	}
	return changed, nil
}

// dress sets owner, mode and time. Errors come up again in Apply, which finds
// these attributes wrong.
func (f *newFile) dress() error {
	if err := unix.Fchown(f.fd, int(f.want.UID), int(f.want.GID)); err != nil {
		return err
	}
	if err := unix.Fchmod(f.fd, f.want.Mode); err != nil {
		return err
	}
	return unix.UtimesNanoAt(f.fd, "", timesOf(f.want.ModTime), unix.AT_EMPTY_PATH) // Linux 5.8
}

// dressLink sets owner and time of a symbolic link, which is all that it has.
func (d *dir) dressLink(name string, e *manifest.Entry) error {
	if err := unix.Fchownat(int(d.Fd()), name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(d.Fd()), name, timesOf(e.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}
