package fstree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
)

// A Writer makes a tree below a root, an existing directory, of entries that come
// in any order in which a path comes after its directory and a hard link after its
// file: Add for each, then Finish. Files are written and hashed by several
// goroutines while the next ones come.
//
// Directories that exist are used, which may be mount points; other things in
// the way are replaced. Names are created one by one below the root and never
// through a symbolic link.
type Writer struct {
	tree    *tree
	o       Options
	at      *sharedDir // directory of the last entry
	writers *writers
	files   map[string]*newFile // by path, hard links among them
	done    map[string]bool     // symbolic links that Apply need not look at
	links   []hardLink          // made when all files are written
}

// NewWriter begins a tree. It must be finished.
func NewWriter(ctx context.Context, root string, o Options) (*Writer, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	return &Writer{tree: t, o: o, writers: newWriters(ctx, o.Workers), files: map[string]*newFile{}, done: map[string]bool{}}, nil
}

// hardLink is another name of a file.
type hardLink struct{ path, target string }

// enter opens the directory of the next entry, mostly the same as before.
func (w *Writer) enter(path string) (*sharedDir, error) {
	if w.at != nil && w.at.path == path {
		return w.at, nil
	}
	w.leave()
	d, err := w.tree.openDir(path)
	if err != nil {
		return nil, err
	}
	w.at = (&sharedDir{dir: d, plain: !d.hasDefaultACL()}).keep()
	return w.at, nil
}

func (w *Writer) leave() {
	if w.at != nil {
		w.at.release()
		w.at = nil
	}
}

// Add makes one entry; of a File it reads the content. target is not "" for a hard
// link: the path of its file, added before. Attributes of directories and all that
// is rare come later, by Finish.
func (w *Writer) Add(e *manifest.Entry, target string, content io.Reader) error {
	if w.writers.ctx.Err() != nil {
		return context.Cause(w.writers.ctx)
	}
	if e.Path == "." {
		return nil
	}
	if target != "" {
		w.links = append(w.links, hardLink{e.Path, target})
		return nil
	}
	name := path.Base(e.Path)
	d, err := w.enter(path.Dir(e.Path))
	if err != nil {
		return err
	}
	switch e.Type {
	case manifest.Dir:
		return d.ensureDir(name)
	case manifest.File:
		w.files[e.Path], err = w.writers.add(d, name, e, content)
		return err
	}
	if err := d.make(name, e); err != nil {
		return err
	}
	w.done[e.Path] = e.Type == manifest.Symlink && len(e.Xattrs) == 0 && d.dressLink(name, e) == nil
	return nil
}

// settled tells that nothing is left for Apply to do at a path.
func (w *Writer) settled(path string) bool {
	f := w.files[path]
	return f != nil && f.settled || w.done[path]
}

// Finish completes the tree: it waits for the files, fills in their hashes, which
// are of the bytes that were written, makes the hard links and sets what is left of
// the attributes. m are the entries that were added; err is why no more of them
// come, nil when these are all. After an error the tree is incomplete.
func (w *Writer) Finish(ctx context.Context, m *manifest.Manifest, err error) error {
	defer w.tree.Close()
	w.leave()
	// A writer's error is why the entries ended, if both have one.
	if writeErr := w.writers.wait(); writeErr != nil {
		err = writeErr
	}
	if err == nil {
		err = w.linkAll(m)
	}
	if err != nil {
		return fmt.Errorf("extract to %s: %w", w.tree.root, err)
	}
	return Apply(ctx, m, w.tree.root, Options{Workers: w.o.Workers, SplitLinks: w.o.SplitLinks, Exclude: w.settled})
}

// linkAll makes the hard links and fills in the hashes.
func (w *Writer) linkAll(m *manifest.Manifest) error {
	for _, l := range w.links {
		if f := w.files[l.target]; f != nil {
			f.settled = false
			w.files[l.path] = f
		}
		delete(w.done, l.target)
		if err := w.link(m, l); err != nil {
			return err
		}
	}
	for path, f := range w.files {
		if e, ok := m.Lookup(path); ok {
			e.SHA256 = f.sum
		}
	}
	return nil
}

// link makes a hard link to a file made before, or where there can be none a copy.
func (w *Writer) link(m *manifest.Manifest, l hardLink) error {
	e, ok := m.Lookup(l.path)
	if !ok {
		return nil
	}
	name := path.Base(l.path)
	d, err := w.tree.openDir(path.Dir(l.path))
	if err != nil {
		return err
	}
	defer d.Close()
	from, err := w.tree.openDir(path.Dir(l.target))
	if err != nil {
		return err
	}
	defer from.Close()
	err = d.link(name, from, path.Base(l.target))
	if w.o.SplitLinks && errors.Is(err, unix.EXDEV) {
		return w.copy(d, name, e, l.target)
	}
	return err
}

// copy makes a copy of a file made before.
func (w *Writer) copy(d *dir, name string, e *manifest.Entry, target string) error {
	if e.Type != manifest.File {
		return d.make(name, e)
	}
	content, err := w.tree.openFile(target)
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
		if typeOf(st) == manifest.Dir {
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
