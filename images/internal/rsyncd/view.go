package rsyncd

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
)

// view is a module as one client sees it: everything below the module's root,
// but only regular files and directories can be opened. (A client names the
// file it wants by number, and may name a device node or a pipe of a tree; the
// library would open it.)
//
// It keeps the directory of the last file open, as files are asked for in the
// order of their paths, and gives the library, which opens every file twice at
// once to send and to sum it, one open file for both.
type view struct {
	root  *os.Root
	files rootFS
	guard *guard

	mu      sync.Mutex
	dir     *os.Root // the directory called dirName; nil: none yet
	dirName string
	file    *sharedFile // the last file opened, as long as it is open
}

type rootFS interface {
	fs.StatFS
	fs.ReadDirFS
	fs.ReadLinkFS
}

func newView(root *os.Root, g *guard) *view {
	return &view{root: root, files: root.FS().(rootFS), guard: g}
}

// Close gives the kept directory back.
func (v *view) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dir == nil {
		return nil
	}
	return v.dir.Close()
}

// Open opens a file or a directory.
func (v *view) Open(name string) (fs.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.file != nil && v.file.name == name {
		return v.file.reader(), nil
	}
	dir, err := v.enter(path.Dir(name))
	if err != nil {
		return nil, err
	}
	info, err := dir.Lstat(path.Base(name))
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return v.root.Open(name)
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("is %s, not a file", info.Mode().Type())}
	}
	f, err := dir.Open(path.Base(name))
	if err != nil {
		return nil, err
	}
	return v.share(name, f)
}

// enter answers an open directory, mostly the same as before.
func (v *view) enter(name string) (*os.Root, error) {
	if v.dir != nil && v.dirName == name {
		return v.dir, nil
	}
	dir, err := v.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if v.dir != nil {
		v.dir.Close()
	}
	v.dir, v.dirName = dir, name
	return dir, nil
}

// share answers the first reader of a file.
func (v *view) share(name string, f *os.File) (fs.File, error) {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	v.file = &sharedFile{view: v, name: name, file: f, info: info}
	return v.file.reader(), nil
}

// sharedFile is an open file with several readers, each at its own place.
type sharedFile struct {
	view    *view // whose lock guards readers
	name    string
	file    *os.File
	info    fs.FileInfo
	readers int
}

func (s *sharedFile) reader() *fileReader {
	s.readers++
	return &fileReader{io.NewSectionReader(s.file, 0, s.info.Size()), s}
}

// fileReader is one reader of a sharedFile. It must be closed once.
type fileReader struct {
	*io.SectionReader
	of *sharedFile
}

func (r *fileReader) Stat() (fs.FileInfo, error) { return r.of.info, nil }

func (r *fileReader) Close() error {
	v := r.of.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.of.readers--; r.of.readers > 0 {
		return nil
	}
	if v.file == r.of {
		v.file = nil
	}
	return r.of.file.Close()
}

func (v *view) ReadDir(name string) ([]fs.DirEntry, error) {
	if v.guard.flat && !v.requested(name) {
		return nil, nil
	}
	dir, err := v.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var all []fs.DirEntry
	for {
		entries, err := dir.ReadDir(1000)
		if listErr := v.guard.listed(len(entries)); listErr != nil {
			return nil, listErr
		}
		all = append(all, entries...)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

func (v *view) Stat(name string) (fs.FileInfo, error)  { return v.files.Stat(name) }
func (v *view) Lstat(name string) (fs.FileInfo, error) { return v.files.Lstat(name) }
func (v *view) ReadLink(name string) (string, error)   { return v.files.ReadLink(name) }

// requested says whether the client asked for what is in this directory: the
// module itself, or a path with a slash at its end.
func (v *view) requested(name string) bool {
	for _, p := range v.guard.paths {
		inside := strings.TrimPrefix(p, v.guard.module)
		if path.Clean("./"+inside) == name && (name == "." || strings.HasSuffix(inside, "/")) {
			return true
		}
	}
	return false
}
