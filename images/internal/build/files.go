package build

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// writeFiles writes files.tar: the role's files directory, its programs, and
// what says which role and version the tree is (reference section 9.1).
func (b Build) writeFiles(c recipe, work string) error {
	f, err := os.Create(filepath.Join(work, filesTar))
	if err != nil {
		return err
	}
	defer f.Close()
	w := &overlay{tar: tar.NewWriter(f), build: b, seen: map[string]bool{}}
	for _, dir := range c.files() {
		if err := w.directory(dir); err != nil {
			return fmt.Errorf("files of role %s: %w", c.role.Name, err)
		}
	}
	for i, p := range c.role.Programs {
		if err := w.copy(programFile(work, i), strings.TrimPrefix(p.Path, "/"), 0o755); err != nil {
			return err
		}
	}
	ref := b.Image
	for name, text := range map[string]string{
		"etc/hostname":         ref.Role + "\n",
		"etc/motd":             "Role " + ref.Role + "\nVersion " + ref.Version + "\n",
		"var/lib/edeploy/conf": "VERS=" + ref.Version + "\nROLE=" + ref.Role + "\n",
	} {
		if err := w.file(name, 0o644, strings.NewReader(text), int64(len(text))); err != nil {
			return err
		}
	}
	return w.tar.Close()
}

// overlay writes a tar of root's files, all of the build's time.
type overlay struct {
	tar   *tar.Writer
	build Build
	seen  map[string]bool
}

func (o *overlay) header(name string, mode int64, kind byte) *tar.Header {
	return &tar.Header{Name: name, Mode: mode, Typeflag: kind, ModTime: o.build.Epoch, Format: tar.FormatPAX}
}

// parents adds the directories above name. Those that the tree has already
// keep their attributes: tar is told nothing about them but that they exist,
// and 0755 root is what all directories get that role files live in.
func (o *overlay) parents(name string) error {
	dir := filepath.Dir(name)
	if dir == "." || o.seen[dir] {
		return nil
	}
	o.seen[dir] = true
	if err := o.parents(dir); err != nil {
		return err
	}
	return o.tar.WriteHeader(o.header(dir+"/", 0o755, tar.TypeDir))
}

func (o *overlay) file(name string, mode int64, content io.Reader, size int64) error {
	if err := o.parents(name); err != nil {
		return err
	}
	h := o.header(name, mode, tar.TypeReg)
	h.Size = size
	if err := o.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(o.tar, content)
	return err
}

func (o *overlay) copy(file, name string, mode int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return o.file(name, mode, f, info.Size())
}

// usrLinks are links into /usr in every tree.
var usrLinks = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// directory adds a role's files: 0755 when executable, else 0644. An empty
// file .keep stands for its directory.
func (o *overlay) directory(root string) error {
	return filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		// A directory laid over the link would take its place.
		if top, _, _ := strings.Cut(name, "/"); slices.Contains(usrLinks, top) {
			return fmt.Errorf("%s: /%s is a link in the tree, lay the file below /usr", file, top)
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.Name() == ".keep":
			return o.parents(name)
		case info.Mode().IsRegular():
			mode := int64(0o644)
			if info.Mode()&0o100 != 0 {
				mode = 0o755
			}
			return o.copy(file, name, mode)
		case info.Mode().Type() == fs.ModeSymlink:
			return o.symlink(file, name)
		}
		return fmt.Errorf("%s is neither a file nor a symbolic link", file)
	})
}

func (o *overlay) symlink(file, name string) error {
	target, err := os.Readlink(file)
	if err != nil {
		return err
	}
	if err := o.parents(name); err != nil {
		return err
	}
	h := o.header(name, 0o777, tar.TypeSymlink)
	h.Linkname = target
	return o.tar.WriteHeader(h)
}
