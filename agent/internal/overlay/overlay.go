// Package overlay writes the files of one machine over its role tree: what the
// configuration script queued, the fstab, what the machine knows about itself.
// It keeps the list of everything it wrote (wire.LocalPath), so that a later
// comparison of the disk with the manifest can tell what is meant to differ.
//
// Names may lead through symbolic links of the tree; they are followed inside of
// the tree, and the list has the paths as the manifest has them. All writing goes
// through an os.Root besides: nothing can lead it out of the tree.
package overlay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"edeploy/agent/internal/treepath"
	"edeploy/images/manifest"
)

// Tree is a role tree on the disk of this machine.
type Tree struct {
	root  *os.Root
	names treepath.Tree
	local map[string]bool
}

// Open opens the tree at dir; Close it.
func Open(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{root: root, names: treepath.OnDisk(dir), local: map[string]bool{}}, nil
}

// Close releases the tree.
func (t *Tree) Close() error { return t.root.Close() }

// Local lists what was written, sorted: absolute paths of the installed
// system. One that ends with a slash stands for everything below it.
func (t *Tree) Local() []string { return slices.Sorted(maps.Keys(t.local)) }

// Add adds paths that somebody else writes to Local.
func (t *Tree) Add(names ...string) error {
	for _, name := range names {
		find, end := t.names.NoFollow, ""
		if strings.HasSuffix(name, "/") {
			find, end = t.names.Target, "/"
		}
		at, err := find(name)
		if err != nil {
			return fmt.Errorf("note %s: %w", name, err)
		}
		t.local["/"+at+end] = true
	}
	return nil
}

// Exists says whether the tree has the path.
func (t *Tree) Exists(name string) bool {
	at, err := t.names.NoFollow(name)
	if err != nil {
		return false
	}
	_, _, ok := t.names(at)
	return ok
}

// Write writes a file, as root, and the directories it needs. What was there
// is replaced, not written to: it may be a link to something else.
func (t *Tree) Write(name string, content []byte, mode fs.FileMode) error {
	return t.create(name, strings.NewReader(string(content)), attributes{mode: mode, uid: os.Getuid(), gid: os.Getgid()})
}

// Append adds to a file, or makes it. A last line without its line feed gets it.
func (t *Tree) Append(name string, content []byte, mode fs.FileMode) error {
	at, err := t.names.Target(name)
	if err != nil {
		return err
	}
	before, err := t.root.ReadFile(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t.Write(name, content, mode)
	case err != nil:
		return err
	}
	if n := len(before); n > 0 && before[n-1] != '\n' {
		before = append(before, '\n')
	}
	info, err := t.root.Stat(at)
	if err != nil {
		return err
	}
	a := attributesOf(info)
	a.modified = time.Time{}
	return t.create(name, io.MultiReader(strings.NewReader(string(before)), strings.NewReader(string(content))), a)
}

// Copy brings a file of the ramdisk into the tree.
func (t *Tree) Copy(file, name string, mode fs.FileMode) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return t.create(name, f, attributes{mode: mode, uid: os.Getuid(), gid: os.Getgid()})
}

// CopyAll copies the content of dir over the tree: files and symbolic links with
// their mode, owner and time replace what is there; directories that the tree
// has keep their own (a script that queues /root/.profile does not mean to
// open /root to everybody).
func (t *Tree) CopyAll(dir string) error { return walk(dir, t.copy) }

// Check tells, before there is a tree, whether CopyAll can copy dir over the one that
// the manifest describes.
func Check(dir string, m *manifest.Manifest) error {
	names := treepath.Of(m)
	return walk(dir, func(_, name string, d fs.DirEntry) error {
		_, err := place(names, name, d.IsDir())
		return err
	})
}

// walk calls do for everything in a directory, if there is one.
func walk(dir string, do func(p, name string, d fs.DirEntry) error) error {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil || name == "." {
			return err
		}
		return do(p, name, d)
	})
	if errors.Is(err, fs.ErrNotExist) && !exists(dir) {
		return nil
	}
	return err
}

// place is where something of this name goes in the tree. A directory goes where
// a link of the tree leads, anything else takes the link's place.
func place(names treepath.Tree, name string, dir bool) (string, error) {
	what, is, find := "file", "directory", names.NoFollow
	if dir {
		what, is, find = "directory", "file", names.Target
	}
	at, err := find(name)
	if err == nil {
		if kind, _, ok := names(at); !ok || (kind == manifest.Dir) == dir {
			return at, nil
		}
		err = fmt.Errorf("the tree has a %s there", is)
		if clean := strings.Trim(path.Clean(name), "/"); at != clean {
			err = fmt.Errorf("the tree has a %s there, /%s", is, at)
		}
	}
	return "", fmt.Errorf("lay %s %s over the tree: %w: change the role, or write to another place", what, path.Clean("/"+name), err)
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func (t *Tree) copy(p, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.IsDir():
		return t.mkdir(name, attributesOf(info))
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(p)
		if err != nil {
			return err
		}
		return t.symlink(name, target, attributesOf(info))
	case info.Mode().IsRegular():
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		return t.create(name, f, attributesOf(info))
	}
	return fmt.Errorf("lay %s over the tree: only files, directories and symbolic links can be queued", p)
}

// attributes of a file; a zero time is now.
type attributes struct {
	mode     fs.FileMode
	uid, gid int
	modified time.Time
}

func attributesOf(info fs.FileInfo) attributes {
	a := attributes{mode: info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky), modified: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		a.uid, a.gid = int(sys.Uid), int(sys.Gid)
	}
	return a
}

func (t *Tree) mkdir(name string, a attributes) error {
	at, err := place(t.names, name, true)
	if err != nil || t.Exists(at) {
		return err
	}
	if err := t.makeDirs(at); err != nil {
		return err
	}
	return t.setAttributes(at, a)
}

func (t *Tree) symlink(name, target string, a attributes) error {
	at, err := t.makeRoom(name)
	if err != nil {
		return err
	}
	if err := t.root.Symlink(target, at); err != nil {
		return err
	}
	t.local["/"+at] = true
	return t.root.Lchown(at, a.uid, a.gid)
}

func (t *Tree) create(name string, content io.Reader, a attributes) error {
	at, err := t.makeRoom(name)
	if err != nil {
		return err
	}
	f, err := t.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write /%s: %w", at, err)
	}
	t.local["/"+at] = true
	return t.setAttributes(at, a)
}

// makeRoom finds a file's place, makes the directories that it needs, and
// removes what is there.
func (t *Tree) makeRoom(name string) (at string, err error) {
	if at, err = place(t.names, name, false); err != nil {
		return "", err
	}
	if err := t.makeDirs(path.Dir(at)); err != nil {
		return "", err
	}
	if err := t.root.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return at, nil
}

// makeDirs makes a directory, whose path leads through no link, and notes what
// was missing.
func (t *Tree) makeDirs(dir string) error {
	for at := dir; at != "."; at = path.Dir(at) {
		if !t.Exists(at) {
			t.local["/"+at] = true
		}
	}
	return t.root.MkdirAll(dir, 0o755)
}

// setAttributes sets owner, mode and time. The owner first: changing it clears the
// setuid and setgid bits.
func (t *Tree) setAttributes(at string, a attributes) error {
	err := t.root.Chown(at, a.uid, a.gid)
	err = errors.Join(err, t.root.Chmod(at, a.mode))
	if !a.modified.IsZero() {
		err = errors.Join(err, t.root.Chtimes(at, a.modified, a.modified))
	}
	return err
}
