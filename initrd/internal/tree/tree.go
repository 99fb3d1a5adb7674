// Package tree reads the tar archive of a Debian tree, as mmdebstrap and the
// role builder write it, and answers what a path in it leads to.
package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"edeploy/images/manifest/archive"
)

// Tree holds directories, regular files and symbolic links by their path
// without a leading slash; device nodes and the like are left out.
type Tree struct{ entries map[string]Entry }

// Entry is one file of a tree.
type Entry struct {
	Mode fs.FileMode // type and permissions
	Link string      // target of a symbolic link
	Data []byte      // content of a regular file
}

// maxLinks bounds the symbolic links on the way to one file, as Linux does.
const maxLinks = 40

// Read reads a tar archive that is plain, gzip or zstd. Regular files that keep
// does not want are left out.
func Read(r io.Reader, keep func(name string) bool) (*Tree, error) {
	plain, err := archive.Open(r)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	t := &Tree{map[string]Entry{}}
	for in := tar.NewReader(plain); ; {
		header, err := in.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read tree archive: %w", err)
		}
		if err := t.add(header, in, keep); err != nil {
			return nil, fmt.Errorf("read %s from tree archive: %w", header.Name, err)
		}
	}
}

func (t *Tree) add(h *tar.Header, content io.Reader, keep func(string) bool) error {
	name := clean(h.Name)
	permissions := h.FileInfo().Mode().Perm()
	t.addParents(name)
	switch h.Typeflag {
	case tar.TypeDir:
		t.entries[name] = Entry{Mode: fs.ModeDir | permissions}
	case tar.TypeSymlink:
		t.entries[name] = Entry{Mode: fs.ModeSymlink | 0o777, Link: h.Linkname}
	case tar.TypeLink:
		if first, ok := t.entries[clean(h.Linkname)]; ok && keep(name) {
			t.entries[name] = first
		}
	case tar.TypeReg:
		if !keep(name) {
			return nil
		}
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		t.entries[name] = Entry{Mode: permissions, Data: data}
	}
	return nil
}

// addParents makes the directories that an archive may leave out.
func (t *Tree) addParents(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := t.entries[dir]; !ok {
			t.entries[dir] = Entry{Mode: fs.ModeDir | 0o755}
		}
	}
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// Get is the entry at exactly this path; links are not followed.
func (t *Tree) Get(name string) (Entry, bool) {
	e, ok := t.entries[clean(name)]
	return e, ok
}

// Names are all paths, sorted.
func (t *Tree) Names() []string { return slices.Sorted(maps.Keys(t.entries)) }

// Resolve follows name through every symbolic link, also those in the middle:
// where it ends, and all links on the way. The file does not exist when the
// error is fs.ErrNotExist.
func (t *Tree) Resolve(name string) (file string, links []string, err error) {
	todo := strings.Split(clean(name), "/")
	at := ""
	for len(todo) > 0 {
		next := path.Join(at, todo[0])
		todo = todo[1:]
		e, ok := t.entries[next]
		if !ok {
			return "", links, fmt.Errorf("%s in the tree: %w", name, fs.ErrNotExist)
		}
		if e.Mode&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links = append(links, next); len(links) > maxLinks {
			return "", links, fmt.Errorf("%s in the tree: more than %d symbolic links", name, maxLinks)
		}
		target := e.Link
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(next), target)
		}
		todo = append(strings.Split(clean(target), "/"), todo...)
		at = ""
	}
	return at, links, nil
}

// Exists says whether name leads to something.
func (t *Tree) Exists(name string) bool {
	_, _, err := t.Resolve(name)
	return !errors.Is(err, fs.ErrNotExist)
}
