package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Extract unpacks an uncompressed tar stream (see OpenArchive) below root, an
// existing directory, with all attributes, and answers the manifest of what
// the archive holds; Diff compares it with a published one, Verify proves the
// tree. The hashes in it are of the bytes that were written. Files are written
// by several goroutines while the next ones are read.
//
// Directories that exist are used, which may be mount points; other things in
// the way are replaced. Names are created one by one below root and never
// through a symbolic link; an archive that leads outside is refused. After an
// error the tree is incomplete, and the paths answered are those that were
// begun, if any.
func Extract(ctx context.Context, r io.Reader, root string, o Options) (*Manifest, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	x := extraction{tree: t, split: o.SplitLinks, writers: newWriters(ctx, o.Workers), files: map[string]*newFile{}, done: map[string]bool{}}
	m, err := readTar(withContext(x.writers.ctx, r), o, x.take)
	x.leave()
	// A writer's error is why the reader was stopped, if both have one.
	if writeErr := x.writers.wait(); writeErr != nil {
		err = writeErr
	}
	if err == nil {
		err = x.finish(m)
	}
	if err != nil {
		return m, fmt.Errorf("extract to %s: %w", root, err)
	}
	return m, m.Apply(ctx, root, Options{Workers: o.Workers, SplitLinks: o.SplitLinks, Exclude: x.settled})
}

type extraction struct {
	tree    *tree
	split   bool
	at      *openDir // directory of the last entry
	writers *writers
	files   map[string]*newFile // by path, hard links among them
	done    map[string]bool     // symbolic links that Apply need not look at
	links   []hardLink          // made when all files are written
}

// hardLink is another name of a file.
type hardLink struct{ path, target string }

// enter opens the directory of the next entry, mostly the same as before.
func (x *extraction) enter(path string) (*openDir, error) {
	if x.at != nil && x.at.path == path {
		return x.at, nil
	}
	x.leave()
	d, err := x.tree.openDir(path)
	if err != nil {
		return nil, err
	}
	x.at = (&openDir{dir: d, plain: !d.hasDefaultACL()}).keep()
	return x.at, nil
}

func (x *extraction) leave() {
	if x.at != nil {
		x.at.release()
		x.at = nil
	}
}

// take makes one entry with its content. Attributes of directories and all that
// is rare come later, by Apply.
func (x *extraction) take(e *Entry, target string, content io.Reader) error {
	if e.Path == "." {
		return nil
	}
	if target != "" {
		x.links = append(x.links, hardLink{e.Path, target})
		return nil
	}
	parent, name := split(e.Path)
	d, err := x.enter(parent)
	if err != nil {
		return err
	}
	switch e.Type {
	case Dir:
		return d.ensureDir(name)
	case File:
		x.files[e.Path], err = x.writers.add(d, name, e, content)
		return err
	}
	if err := d.make(name, e); err != nil {
		return err
	}
	x.done[e.Path] = e.Type == Symlink && len(e.Xattrs) == 0 && d.dressLink(name, e) == nil
	return nil
}

// dressLink sets owner and time of a symbolic link, which is all that it has.
func (d *dir) dressLink(name string, e *Entry) error {
	if err := unix.Fchownat(int(d.Fd()), name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(d.Fd()), name, timesOf(e.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

// settled tells that nothing is left for Apply to do at a path.
func (x *extraction) settled(path string) bool {
	f := x.files[path]
	return f != nil && f.settled || x.done[path]
}

// finish makes the hard links and fills in the hashes.
func (x *extraction) finish(m *Manifest) error {
	for _, l := range x.links {
		if f := x.files[l.target]; f != nil {
			f.settled = false
			x.files[l.path] = f
		}
		delete(x.done, l.target)
		if err := x.link(m, l); err != nil {
			return err
		}
	}
	for path, f := range x.files {
		if e, ok := m.Lookup(path); ok {
			e.SHA256 = f.sum
		}
	}
	return nil
}

// link makes a hard link to a file extracted before, or where there can be none a copy.
func (x *extraction) link(m *Manifest, l hardLink) error {
	e, ok := m.Lookup(l.path)
	if !ok {
		return nil
	}
	parent, name := split(l.path)
	d, err := x.tree.openDir(parent)
	if err != nil {
		return err
	}
	defer d.Close()
	fromDir, file := split(l.target)
	from, err := x.tree.openDir(fromDir)
	if err != nil {
		return err
	}
	defer from.Close()
	err = d.link(name, from, file)
	if x.split && errors.Is(err, unix.EXDEV) {
		return x.copy(d, name, e, l.target)
	}
	return err
}

// copy makes a copy of a file extracted before.
func (x *extraction) copy(d *dir, name string, e *Entry, target string) error {
	if e.Type != File {
		return d.make(name, e)
	}
	content, err := x.tree.openFile(&Entry{Path: target})
	if err != nil {
		return err
	}
	defer content.Close()
	fd, err := d.create(name)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), d.tree.name(d.child(name)))
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close())
}

// ensureDir makes a directory where there is none.
func (d *dir) ensureDir(name string) error {
	err := unix.Mkdirat(int(d.Fd()), name, 0o700)
	if err == unix.EEXIST {
		st, err := d.stat(name)
		if err != nil {
			return err
		}
		if typeOf(st) == Dir {
			return nil
		}
		return d.fail("mkdir", name, unix.EEXIST)
	}
	return d.fail("mkdir", name, err)
}

// create opens a new file for writing; what had the name before is gone.
func (d *dir) create(name string) (fd int, err error) {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err = unix.Openat(int(d.Fd()), name, flags, 0o600)
	if err == unix.EEXIST {
		if err := unix.Unlinkat(int(d.Fd()), name, 0); err != nil {
			return -1, d.fail("replace", name, err)
		}
		fd, err = unix.Openat(int(d.Fd()), name, flags, 0o600)
	}
	return fd, d.fail("create", name, err)
}

// hasDefaultACL tells that what is made in a directory gets an ACL by itself;
// in doubt it does.
func (d *dir) hasDefaultACL() bool {
	_, err := unix.Fgetxattr(int(d.Fd()), "system.posix_acl_default", nil)
	return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP)
}

// holeBytes is the piece of zeros that becomes a hole. Archives hold sparse files
// in full, so that a tree's sparse files come back sparse only this way.
const holeBytes = 64 << 10

var zeros [holeBytes]byte

// writePieces writes a buffer at an offset but for pieces that are all zero, and
// answers where in the buffer the last piece that was written ends.
func writePieces(fd int, buffer []byte, at int64) (end int64, err error) {
	for done := 0; done < len(buffer); {
		data := done // bytes up to the next piece of zeros
		for data < len(buffer) && !isHole(buffer[data:]) {
			data = min(data+holeBytes, len(buffer))
		}
		if data == done {
			done += holeBytes
			continue
		}
		for done < data {
			n, err := unix.Pwrite(fd, buffer[done:data], at+int64(done))
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return end, err
			}
			done += n
		}
		end = int64(data)
	}
	return end, nil
}

func isHole(b []byte) bool { return len(b) >= holeBytes && bytes.Equal(b[:holeBytes], zeros[:]) }
