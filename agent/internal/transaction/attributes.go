package transaction

import (
	"bytes"
	"strconv"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"

	"golang.org/x/sys/unix"
)

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// timestamp is a time as the kernel has it: seconds since 1970, nanoseconds.
type timestamp [2]int64

func timestampOf(t time.Time) timestamp     { return timestamp{t.Unix(), int64(t.Nanosecond())} }
func modified(st *unix.Stat_t) timestamp    { return timestamp{st.Mtim.Sec, st.Mtim.Nsec} }
func statusTime(st *unix.Stat_t) timestamp  { return timestamp{st.Ctim.Sec, st.Ctim.Nsec} }
func (m timestamp) timespec() unix.Timespec { return unix.Timespec{Sec: m[0], Nsec: m[1]} }

// attributes are what can be set on a node in its place.
type attributes struct {
	Mode   uint32            `json:"mode"`
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Time   timestamp         `json:"time"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

func attributesOf(e *manifest.Entry) *attributes {
	return &attributes{Mode: e.Mode, UID: e.UID, GID: e.GID, Time: timestampOf(e.ModTime), Xattrs: e.Xattrs}
}

// attributes are those of a path on the disk.
func (d *disk) attributes(path string) (*attributes, error) {
	n, err := d.openNode(path)
	if err != nil {
		return nil, err
	}
	defer n.close()
	st := &n.stat
	a := &attributes{Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Time: modified(st)}
	a.Xattrs, err = fstree.Xattrs(n.proc())
	return a, d.fail("read attributes of", path, err)
}

// node holds one object of the tree open, whatever its type.
type node struct {
	disk *disk
	path string
	fd   int
	stat unix.Stat_t
}

func (d *disk) openNode(path string) (*node, error) {
	fd, err := d.open(path, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	n := &node{disk: d, path: path, fd: fd}
	if err := unix.Fstat(fd, &n.stat); err != nil {
		n.close()
		return nil, d.fail("stat", path, err)
	}
	return n, nil
}

func (n *node) close() { unix.Close(n.fd) }

// proc names the object for system calls that take no descriptor of this kind.
func (n *node) proc() string { return "/proc/self/fd/" + strconv.Itoa(n.fd) }

// setAttributes gives a path the attributes that it does not have yet. The order
// matters: a new owner clears setuid bits and file capabilities, an ACL
// changes the mode, and all of it leaves the modification time alone.
func (d *disk) setAttributes(path string, want *attributes, withTime bool) error {
	n, err := d.openNode(path)
	if err != nil {
		return err
	}
	defer n.close()
	owner := n.stat.Uid != want.UID || n.stat.Gid != want.GID
	if owner {
		err := n.set("chown", func() error { return unix.Fchownat(n.fd, "", int(want.UID), int(want.GID), unix.AT_EMPTY_PATH) })
		if err != nil {
			return err
		}
	}
	rewritten, err := n.setXattrs(want.Xattrs)
	if err != nil {
		return err
	}
	if link := n.stat.Mode&unix.S_IFMT == unix.S_IFLNK; !link && (owner || rewritten || n.stat.Mode&0o7777 != want.Mode) {
		if err := n.set("chmod", func() error { return unix.Chmod(n.proc(), want.Mode) }); err != nil {
			return err
		}
	}
	if !withTime || modified(&n.stat) == want.Time {
		return nil
	}
	return n.setTime(want.Time)
}

func (d *disk) setTime(path string, want timestamp) error {
	n, err := d.openNode(path)
	if err != nil {
		return err
	}
	defer n.close()
	if modified(&n.stat) == want {
		return nil
	}
	return n.setTime(want)
}

func (n *node) set(op string, call func() error) error {
	if err := n.disk.changing(op, n.path); err != nil {
		return err
	}
	return n.disk.fail(op, n.path, call())
}

func (n *node) setTime(want timestamp) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, want.timespec()}
	return n.set("set time of", func() error { return unix.UtimesNanoAt(unix.AT_FDCWD, n.proc(), times, 0) })
}

// setXattrs makes the extended attributes right and tells whether it wrote.
func (n *node) setXattrs(want map[string][]byte) (wrote bool, err error) {
	got, err := fstree.Xattrs(n.proc())
	if err != nil {
		return false, n.disk.fail("read attributes of", n.path, err)
	}
	for name := range got {
		if _, ok := want[name]; ok || manifest.SetBySystem(name) {
			continue
		}
		wrote = true
		if err := n.set("remove attribute "+name+" of", func() error { return unix.Removexattr(n.proc(), name) }); err != nil {
			return wrote, err
		}
	}
	for name, value := range want {
		if old, ok := got[name]; ok && bytes.Equal(old, value) {
			continue
		}
		wrote = true
		if err := n.set("set attribute "+name+" of", func() error { return unix.Setxattr(n.proc(), name, value, 0) }); err != nil {
			return wrote, err
		}
	}
	return wrote, nil
}
