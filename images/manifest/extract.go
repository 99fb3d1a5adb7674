package manifest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Extract unpacks an uncompressed tar stream (see OpenArchive) below root, an
// existing directory, with all attributes, and answers the manifest of what
// the archive holds; Diff compares it with a published one, Verify proves the
// tree.
//
// Directories that exist are used, which may be mount points; other things in
// the way are replaced. Names are created one by one below root and never
// through a symbolic link; an archive that leads outside is refused. After an
// error the tree is incomplete.
func Extract(ctx context.Context, r io.Reader, root string, o Options) (*Manifest, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	x := extraction{tree: t, split: o.SplitLinks}
	defer x.leave()
	m, err := readTar(withContext(ctx, r), o, x.take)
	if err != nil {
		return nil, fmt.Errorf("extract to %s: %w", root, err)
	}
	if err := m.Apply(ctx, root, Options{Workers: o.Workers, SplitLinks: o.SplitLinks}); err != nil {
		return nil, err
	}
	return m, nil
}

type extraction struct {
	tree  *tree
	split bool
	at    *dir // directory of the last entry
}

// enter opens the directory of the next entry, mostly the same as before.
func (x *extraction) enter(path string) (*dir, error) {
	if x.at != nil && x.at.path == path {
		return x.at, nil
	}
	x.leave()
	var err error
	x.at, err = x.tree.openDir(path)
	return x.at, err
}

func (x *extraction) leave() {
	if x.at != nil {
		x.at.Close()
		x.at = nil
	}
}

// take makes one entry with its content. Attributes come later, by Apply.
func (x *extraction) take(e *Entry, target string, content io.Reader) error {
	if e.Path == "." {
		return nil
	}
	parent, name := split(e.Path)
	d, err := x.enter(parent)
	if err != nil {
		return err
	}
	switch {
	case e.Type == Dir:
		return d.ensureDir(name)
	case target != "":
		err := x.link(d, name, target)
		if x.split && errors.Is(err, unix.EXDEV) {
			return x.copy(d, name, e, target)
		}
		return err
	case e.Type == File:
		return d.write(name, e, content)
	}
	return d.make(name, e)
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

// link makes a hard link to a file extracted before.
func (x *extraction) link(d *dir, name, target string) error {
	parent, file := split(target)
	from, err := x.tree.openDir(parent)
	if err != nil {
		return err
	}
	defer from.Close()
	return d.link(name, from, file)
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
	return d.write(name, e, content)
}

// write makes a new file; what had the name before is gone.
func (d *dir) write(name string, e *Entry, content io.Reader) error {
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(int(d.Fd()), name, flags, 0o600)
	if err == unix.EEXIST {
		if err := unix.Unlinkat(int(d.Fd()), name, 0); err != nil {
			return d.fail("replace", name, err)
		}
		fd, err = unix.Openat(int(d.Fd()), name, flags, 0o600)
	}
	if err != nil {
		return d.fail("create", name, err)
	}
	f := os.NewFile(uintptr(fd), d.tree.name(d.child(name)))
	err = writeSparse(f, e, content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// holeBytes is the piece of zeros that becomes a hole. Archives hold sparse files
// in full, so that a tree's sparse files come back sparse only this way.
const holeBytes = 64 << 10

var zeros [holeBytes]byte

// writeSparse writes the content, leaves holes for zeros, and fills in the hash.
func writeSparse(f *os.File, e *Entry, content io.Reader) error {
	hash := sha256.New()
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buffer := *pooled
	var at int64
	for at < e.Size {
		n, err := io.ReadFull(content, buffer[:min(int64(len(buffer)), e.Size-at)])
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		hash.Write(buffer[:n])
		if err := writePieces(f, buffer[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	hash.Sum(e.SHA256[:0])
	if st, err := f.Stat(); err != nil || st.Size() == e.Size {
		return err
	}
	return f.Truncate(e.Size)
}

// writePieces writes a buffer at an offset but for pieces that are all zero.
func writePieces(f *os.File, buffer []byte, at int64) error {
	for len(buffer) > 0 {
		data := 0 // bytes up to the next piece of zeros
		for data < len(buffer) && !isHole(buffer[data:]) {
			data = min(data+holeBytes, len(buffer))
		}
		if data > 0 {
			if _, err := f.WriteAt(buffer[:data], at); err != nil {
				return err
			}
		} else {
			data = holeBytes
		}
		buffer = buffer[data:]
		at += int64(data)
	}
	return nil
}

func isHole(b []byte) bool { return len(b) >= holeBytes && bytes.Equal(b[:holeBytes], zeros[:]) }
