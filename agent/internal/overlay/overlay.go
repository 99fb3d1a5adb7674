// Package overlay writes the files of one machine over its role tree: what the
// configuration script queued, the fstab, what the machine knows about itself.
// It keeps the list of everything it wrote (wire.LocalPath), so that a later
// comparison of the disk with the manifest can tell what is meant to differ.
//
// All writing goes through an os.Root: symbolic links of the tree cannot lead
// it out of the tree.
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
)

// Tree is a role tree on the disk of this machine.
type Tree struct {
	root  *os.Root
	local map[string]bool
}

// Open opens the tree at dir; Close it.
func Open(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{root: root, local: map[string]bool{}}, nil
}

// Close releases the tree.
func (t *Tree) Close() error { return t.root.Close() }

// Local lists what was written, sorted: absolute paths of the installed
// system. One that ends with a slash stands for everything below it.
func (t *Tree) Local() []string { return slices.Sorted(maps.Keys(t.local)) }

// Note adds paths that somebody else writes.
func (t *Tree) Note(names ...string) {
	for _, name := range names {
		t.local[name] = true
	}
}

// Exists says whether the tree has the path.
func (t *Tree) Exists(name string) bool {
	_, err := t.root.Lstat(rel(name))
	return err == nil
}

// rel is the path below the root of an absolute path of the installed system.
func rel(name string) string {
	if name = strings.Trim(path.Clean("/"+name), "/"); name != "" {
		return name
	}
	return "."
}

func absolute(name string) string { return "/" + rel(name) }

// Write writes a file, as root, and the directories it needs. What was there
// is replaced, not written to: it may be a link to something else.
func (t *Tree) Write(name string, content []byte, mode fs.FileMode) error {
	return t.create(name, strings.NewReader(string(content)), attributes{mode: mode, uid: os.Getuid(), gid: os.Getgid()})
}

// Append adds to a file, or makes it. A last line without its line feed gets it.
func (t *Tree) Append(name string, content []byte, mode fs.FileMode) error {
	before, err := t.root.ReadFile(rel(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t.Write(name, content, mode)
	case err != nil:
		return err
	}
	if n := len(before); n > 0 && before[n-1] != '\n' {
		before = append(before, '\n')
	}
	info, err := t.root.Stat(rel(name))
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

// Lay lays the content of dir over the tree: files and symbolic links with
// their mode, owner and time replace what is there; directories that the tree
// has keep their own (a script that queues /root/.profile does not mean to
// open /root to everybody).
func (t *Tree) Lay(dir string) error {
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil || name == "." {
			return err
		}
		return t.lay(p, name, d)
	})
	if errors.Is(err, fs.ErrNotExist) && !exists(dir) {
		return nil
	}
	return err
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

func (t *Tree) lay(p, name string, d fs.DirEntry) error {
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
	info, err := t.root.Stat(rel(name))
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		return fmt.Errorf("lay directory %s over the tree: the tree has a file there", absolute(name))
	}
	if err := t.root.MkdirAll(rel(name), 0o755); err != nil {
		return err
	}
	t.local[absolute(name)] = true
	return t.adorn(name, a)
}

func (t *Tree) symlink(name, target string, a attributes) error {
	if err := t.makeRoom(name); err != nil {
		return err
	}
	if err := t.root.Symlink(target, rel(name)); err != nil {
		return err
	}
	t.local[absolute(name)] = true
	return t.root.Lchown(rel(name), a.uid, a.gid)
}

func (t *Tree) create(name string, content io.Reader, a attributes) error {
	if err := t.makeRoom(name); err != nil {
		return err
	}
	f, err := t.root.OpenFile(rel(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", absolute(name), err)
	}
	t.local[absolute(name)] = true
	return t.adorn(name, a)
}

// makeRoom makes the directories of a file and removes what is in its place.
func (t *Tree) makeRoom(name string) error {
	if err := t.makeDirs(path.Dir(rel(name))); err != nil {
		return err
	}
	info, err := t.root.Lstat(rel(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("lay file %s over the tree: the tree has a directory there", absolute(name))
	}
	return t.root.Remove(rel(name))
}

// makeDirs makes a directory and notes what was missing.
func (t *Tree) makeDirs(dir string) error {
	for at := dir; at != "."; at = path.Dir(at) {
		if !t.Exists(at) {
			t.local[absolute(at)] = true
		}
	}
	return t.root.MkdirAll(dir, 0o755)
}

// adorn sets owner, mode and time. The owner first: changing it clears the
// setuid and setgid bits.
func (t *Tree) adorn(name string, a attributes) error {
	err := t.root.Chown(rel(name), a.uid, a.gid)
	err = errors.Join(err, t.root.Chmod(rel(name), a.mode))
	if !a.modified.IsZero() {
		err = errors.Join(err, t.root.Chtimes(rel(name), a.modified, a.modified))
	}
	return err
}
