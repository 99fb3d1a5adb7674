package rsyncd

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// view is a module as one client sees it: everything below the module's root,
// but only regular files and directories can be opened. (A client names the
// file it wants by number, and may name a device node or a pipe of a tree; the
// library would open it.)
type view struct {
	root  *os.Root
	files rootFS
	guard *guard
}

type rootFS interface {
	fs.StatFS
	fs.ReadDirFS
	fs.ReadLinkFS
}

func newView(root *os.Root, g *guard) *view {
	return &view{root, root.FS().(rootFS), g}
}

func (v *view) Open(name string) (fs.File, error) {
	info, err := v.files.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("is %s, not a file", info.Mode().Type())}
	}
	return v.root.Open(name)
}

func (v *view) ReadDir(name string) ([]fs.DirEntry, error) {
	if v.guard.flat && !v.requested(name) {
		return nil, nil
	}
	return v.files.ReadDir(name)
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
