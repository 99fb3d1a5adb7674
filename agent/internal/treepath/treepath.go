// Package treepath finds what a name means inside of a tree of files. People and
// scripts write names through the tree's symbolic links, such as /sbin/x where
// sbin is a link to usr/sbin; manifests have every path once, as a walk of the
// tree meets it. Links are followed as chroot(2) would: an absolute one begins
// at the top of the tree, and none leads out of it.
package treepath

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"edeploy/images/manifest"
)

// Tree tells what is at a path whose directories are not symbolic links: the
// type, the target of a link, or not ok when there is nothing.
type Tree func(path string) (t manifest.Type, link string, ok bool)

// OnDisk is the tree in a directory. Nobody else may change its links meanwhile.
func OnDisk(dir string) Tree {
	return func(name string) (manifest.Type, string, bool) {
		full := filepath.Join(dir, name)
		info, err := os.Lstat(full)
		switch {
		case err != nil:
			return "", "", false
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(full)
			return manifest.Symlink, link, err == nil
		case info.IsDir():
			return manifest.Dir, "", true
		}
		return manifest.File, "", true
	}
}

// Follow is the path, from outside of the tree in dir, of what a name leads to.
func Follow(dir, name string) (string, error) {
	at, err := OnDisk(dir).Target(name)
	if err != nil {
		return "", fmt.Errorf("%s in %s: %w", name, dir, err)
	}
	return filepath.Join(dir, at), nil
}

// Of is the tree that a manifest describes.
func Of(m *manifest.Manifest) Tree {
	return func(name string) (manifest.Type, string, bool) {
		e, ok := m.Lookup(name)
		if !ok {
			return "", "", false
		}
		return e.Type, e.Link, true
	}
}

// NoFollow is the path of what has the name: all links but a last one are followed.
// What is not there is taken as it is written. The top of the tree is ".".
func (t Tree) NoFollow(name string) (string, error) { return t.resolve(name, false) }

// Target is the path that the name leads to: a last link is followed, too.
func (t Tree) Target(name string) (string, error) { return t.resolve(name, true) }

// maxLinks is the kernel's bound for one name, path_resolution(7).
const maxLinks = 40

func (t Tree) resolve(name string, last bool) (string, error) {
	at, links := ".", 0
	for rest := names(name); len(rest) > 0; {
		next := path.Join(at, rest[0])
		if rest = rest[1:]; next == ".." {
			next = "."
		}
		kind, link, ok := t(next)
		switch {
		case ok && kind == manifest.Symlink && (last || len(rest) > 0):
			if links++; links > maxLinks {
				return "", fmt.Errorf("the symbolic link /%s -> %s leads in a circle", next, link)
			}
			rest = append(names(link), rest...)
			if strings.HasPrefix(link, "/") {
				at = "."
			}
			continue
		case ok && kind != manifest.Dir && len(rest) > 0:
			return "", fmt.Errorf("/%s is a %s, not a directory", next, kind)
		}
		at = next
	}
	return at, nil
}

func names(name string) []string {
	return strings.FieldsFunc(name, func(c rune) bool { return c == '/' })
}
