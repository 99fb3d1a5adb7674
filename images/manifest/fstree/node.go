package fstree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
)

// This file is the door to the kernel. A path from a manifest is
// walked from the open root, never through a symbolic link, so that nothing
// outside the root can be reached whatever the tree holds.

// tree is an open root directory.
type tree struct {
	*os.File
	root string
}

func openTree(root string) (*tree, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	if _, err := os.Lstat("/proc/self/fd"); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open tree %s: /proc must be mounted: %w", root, err)
	}
	return &tree{os.NewFile(uintptr(fd), root), root}, nil
}

// name is a manifest's path as the operator knows it.
func (t *tree) name(path string) string { return manifest.Escape(filepath.Join(t.root, path)) }

// openDir opens a directory of the tree. It fails with ENOENT, or with ENOTDIR
// or ELOOP when a name on the way is anything else or a symbolic link.
func (t *tree) openDir(path string) (*dir, error) {
	how := unix.OpenHow{Flags: dirFlags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(int(t.Fd()), path, &how)
	if err != nil && !isAbsent(err) { // Linux 5.6; elsewhere name by name
		fd, err = t.walkDir(path)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open directory", Path: t.name(path), Err: err}
	}
	return &dir{os.NewFile(uintptr(fd), t.name(path)), path, t}, nil
}

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// walkDir is openDir for kernels before Linux 5.6.
func (t *tree) walkDir(path string) (fd int, err error) {
	fd, err = unix.Openat(int(t.Fd()), ".", dirFlags, 0)
	for name := range strings.SplitSeq(path, "/") {
		if err != nil || path == "." {
			break
		}
		up := fd
		fd, err = unix.Openat(up, name, dirFlags, 0)
		unix.Close(up)
	}
	return fd, err
}

// isAbsent tells that an error of openDir or open means "not there".
func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// dir is an open directory of a tree. Names given to its methods have no slash.
type dir struct {
	*os.File
	path string
	tree *tree
}

func (d *dir) child(name string) string {
	switch {
	case name == ".":
		return d.path
	case d.path == ".":
		return name
	}
	return d.path + "/" + name
}

func (d *dir) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: d.tree.name(d.child(name)), Err: err}
}

func (d *dir) stat(name string) (*unix.Stat_t, error) {
	st := new(unix.Stat_t)
	err := unix.Fstatat(int(d.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
	return st, d.fail("stat", name, err)
}

func readlinkAt(fd int, name string) (string, error) {
	buffer := make([]byte, manifest.MaxPathBytes+1)
	n, err := unix.Readlinkat(fd, name, buffer)
	return string(buffer[:max(n, 0)]), err
}

// replace makes a new object under a temporary name and renames it over name.
func (d *dir) replace(op, name string, create func(temporary string) error) error {
	temporary := ".edeploy-" + strconv.FormatUint(rand.Uint64(), 36)
	if err := create(temporary); err != nil {
		return d.fail(op, name, err)
	}
	if err := unix.Renameat(int(d.Fd()), temporary, int(d.Fd()), name); err != nil {
		unix.Unlinkat(int(d.Fd()), temporary, 0)
		return d.fail(op, name, err)
	}
	return nil
}

// make creates what a manifest alone can create: everything but file content.
func (d *dir) make(name string, e *manifest.Entry) error {
	switch e.Type {
	case manifest.Dir:
		return d.fail("mkdir", name, unix.Mkdirat(int(d.Fd()), name, 0o700))
	case manifest.Symlink:
		if err := unix.Symlinkat(e.Link, int(d.Fd()), name); err != unix.EEXIST {
			return d.fail("symlink", name, err)
		}
		return d.replace("symlink", name, func(tmp string) error { return unix.Symlinkat(e.Link, int(d.Fd()), tmp) })
	}
	device := unix.Mkdev(e.Major, e.Minor)
	return d.replace("mknod", name, func(tmp string) error {
		return unix.Mknodat(int(d.Fd()), tmp, FormatOf(e.Type)|0o600, int(device))
	})
}

// link makes name a hard link of another file of the tree.
func (d *dir) link(name string, from *dir, target string) error {
	return d.replace("link to "+d.tree.name(from.child(target))+" from", name, func(tmp string) error {
		return unix.Linkat(int(from.Fd()), target, int(d.Fd()), tmp, 0)
	})
}

// node holds one object of a tree open, whatever its type (O_PATH), so that
// all that is asked and done is about that one object.
type node struct {
	fd   int
	stat unix.Stat_t
	path string // printable
}

func (d *dir) open(name string) (*node, error) {
	n := &node{path: d.tree.name(d.child(name))}
	var err error
	if n.fd, err = unix.Openat(int(d.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return nil, d.fail("open", name, err)
	}
	if err := unix.Fstat(n.fd, &n.stat); err != nil {
		n.close()
		return nil, d.fail("stat", name, err)
	}
	return n, nil
}

func (n *node) close() { unix.Close(n.fd) }

func (n *node) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: n.path, Err: err}
}

// proc names the object for system calls that take no descriptor of this
// kind. The kernel goes to the object itself and follows nothing further.
func (n *node) proc() string { return "/proc/self/fd/" + strconv.Itoa(n.fd) }

// describe fills an entry with all but content hash and hard-link group.
func (n *node) describe(path string) (manifest.Entry, error) {
	e, err := DescribeStat(path, &n.stat)
	if err != nil {
		return e, n.fail("describe", err)
	}
	if e.Type == manifest.Symlink {
		if e.Link, err = readlinkAt(n.fd, ""); err != nil {
			return e, n.fail("readlink", err)
		}
	}
	e.Xattrs, err = n.xattrs()
	return e, err
}

// DescribeStat fills an entry with what stat(2) shows.
func DescribeStat(path string, st *unix.Stat_t) (manifest.Entry, error) {
	e := manifest.Entry{Path: path, Type: typeOf(st), Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, ModTime: time.Unix(st.Mtim.Unix()).UTC()}
	switch e.Type {
	case "":
		return e, fmt.Errorf("unknown file type %#o", st.Mode&unix.S_IFMT)
	case manifest.File:
		e.Size = st.Size
	case manifest.Block, manifest.Char:
		e.Major, e.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return e, nil
}

var formats = map[uint32]manifest.Type{unix.S_IFDIR: manifest.Dir, unix.S_IFREG: manifest.File, unix.S_IFLNK: manifest.Symlink,
	unix.S_IFBLK: manifest.Block, unix.S_IFCHR: manifest.Char, unix.S_IFIFO: manifest.Fifo, unix.S_IFSOCK: manifest.Socket}

func typeOf(st *unix.Stat_t) manifest.Type { return formats[st.Mode&unix.S_IFMT] }

// FormatOf is the type in a file's mode, 0 for a type that is none.
func FormatOf(t manifest.Type) uint32 {
	for format, of := range formats {
		if of == t {
			return format
		}
	}
	return 0
}

func identityOf(st *unix.Stat_t) manifest.FileID { return manifest.FileID{Dev: st.Dev, Inode: st.Ino} }

func (n *node) xattrs() (map[string][]byte, error) {
	all, err := Xattrs(n.proc())
	return all, n.fail("read extended attributes of", err)
}

// Xattrs reads the extended attributes of a file that belong to a tree. A file
// system without any has none.
func Xattrs(file string) (map[string][]byte, error) {
	names, err := grow(256, func(b []byte) (int, error) { return unix.Listxattr(file, b) })
	if errors.Is(err, unix.ENOTSUP) || len(names) == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all map[string][]byte
	for raw := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		name := string(raw)
		if !manifest.InTree(name) {
			continue
		}
		value, err := grow(256, func(b []byte) (int, error) { return unix.Getxattr(file, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // it went away since the names were read
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", manifest.Escape(name), err)
		}
		if all == nil {
			all = map[string][]byte{}
		}
		all[name] = value
	}
	return all, nil
}

// grow calls a system call that fills a buffer, with larger ones while it
// answers ERANGE.
func grow(size int, call func([]byte) (int, error)) ([]byte, error) {
	for {
		buffer := make([]byte, size)
		n, err := call(buffer)
		if err == nil {
			return buffer[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) || size > 1<<20 {
			return nil, err
		}
		size *= 4
	}
}

// sum hashes the content of a regular file.
func (n *node) sum(buffer []byte, progress func(int)) (sum [32]byte, size int64, err error) {
	fd, err := unix.Open(n.proc(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sum, 0, n.fail("open", err)
	}
	defer unix.Close(fd)
	hash := sha256.New()
	for {
		count, err := unix.Read(fd, buffer)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return sum, size, n.fail("read", err)
		case count == 0:
			hash.Sum(sum[:0])
			return sum, size, nil
		default:
			hash.Write(buffer[:count])
			size += int64(count)
			progress(count)
		}
	}
}

// openFile opens the content of a regular file of the tree.
func (t *tree) openFile(name string) (*os.File, error) {
	d, err := t.openDir(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	n, err := d.open(path.Base(name))
	if err != nil {
		return nil, err
	}
	defer n.close()
	if typeOf(&n.stat) != manifest.File {
		return nil, fmt.Errorf("read %s: it changed meanwhile", n.path)
	}
	return os.Open(n.proc())
}

// pseudoFS are kernel interfaces that look like file systems; what a mount of
// one shows is not part of a tree. tmpfs is not among them: a tree may lie there.
var pseudoFS = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.DEVPTS_SUPER_MAGIC: true,
	unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true, unix.SECURITYFS_MAGIC: true,
	unix.DEBUGFS_MAGIC: true, unix.TRACEFS_MAGIC: true, unix.BPF_FS_MAGIC: true,
	unix.PSTOREFS_MAGIC: true, unix.EFIVARFS_MAGIC: true, unix.HUGETLBFS_MAGIC: true,
	unix.AUTOFS_SUPER_MAGIC: true, unix.BINFMTFS_MAGIC: true, unix.SELINUX_MAGIC: true,
	0x62656570: true /* configfs */, 0x65735543: true /* fusectl */, 0x19800202: true, /* mqueue */
}

func isPseudo(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && pseudoFS[int64(st.Type)]
}
