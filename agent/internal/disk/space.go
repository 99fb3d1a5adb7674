package disk

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
)

// Space is what a mounted file system has left.
type Space struct {
	FreeBytes  int64
	FreeFiles  int64 // -1: the file system makes inodes as it needs them
	BlockBytes int64
}

// Statfs asks the kernel.
func Statfs(dir string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	space := Space{FreeBytes: int64(s.Bfree) * s.Bsize, FreeFiles: int64(s.Ffree), BlockBytes: s.Bsize}
	if s.Files == 0 {
		space.FreeFiles = -1
	}
	return space, nil
}

// Need is what a tree takes on one mounted file system.
type Need struct {
	Mount Mount
	Bytes int64 // whole blocks
	Files int64
}

// Needs adds up what the tree takes on each of the mounts below root. What is
// there already (a file system that the script kept) is not counted again.
func Needs(m *manifest.Manifest, mounts []Mount, root string, blockBytes func(Mount) int64) []Need {
	needs := make([]Need, len(mounts))
	blocks := make([]int64, len(mounts))
	for i, mount := range mounts {
		needs[i].Mount = mount
		blocks[i] = max(blockBytes(mount), 1)
	}
	groups := map[int]bool{}
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Group != 0 && groups[e.Group] {
			continue
		}
		groups[e.Group] = true
		at := holder(mounts, filepath.Join(root, e.Path))
		if at < 0 {
			continue
		}
		size := e.Size
		if e.Type == manifest.Dir {
			size = blocks[at]
		}
		needs[at].Bytes += (size+blocks[at]-1)/blocks[at]*blocks[at] - present(filepath.Join(root, e.Path), size)
		needs[at].Files++
	}
	return needs
}

// holder is the index of the innermost mount that holds the path, else -1.
func holder(mounts []Mount, p string) int {
	at := -1
	for i, m := range mounts {
		if within(p, m.Point) && (at < 0 || len(m.Point) > len(mounts[at].Point)) {
			at = i
		}
	}
	return at
}

// present is how much of a file of that size is on the disk already.
func present(p string, size int64) int64 {
	info, err := os.Lstat(p)
	if err != nil || !info.Mode().IsRegular() && !info.IsDir() {
		return 0
	}
	return min(info.Size(), size)
}

// CheckSpace says whether the tree fits; what names it in the sentence.
func CheckSpace(what string, m *manifest.Manifest, mounts []Mount, root string, statfs func(dir string) (Space, error)) error {
	spaces := map[string]Space{}
	for _, mount := range mounts {
		space, err := statfs(mount.Point)
		if err != nil {
			return err
		}
		spaces[mount.Point] = space
	}
	var short []string
	for _, n := range Needs(m, mounts, root, func(m Mount) int64 { return spaces[m.Point].BlockBytes }) {
		space := spaces[n.Mount.Point]
		where := fmt.Sprintf("%s (%s, %s)", n.Mount.Point, n.Mount.Source, n.Mount.Type)
		if n.Bytes > space.FreeBytes {
			short = append(short, fmt.Sprintf("%s needs %d MB, %d MB are free", where, n.Bytes/1e6+1, space.FreeBytes/1e6))
		}
		if space.FreeFiles >= 0 && n.Files > space.FreeFiles {
			short = append(short, fmt.Sprintf("%s needs room for %d files, there is room for %d", where, n.Files, space.FreeFiles))
		}
	}
	if len(short) > 0 {
		return fmt.Errorf("%s does not fit on the disk: %s", what, strings.Join(short, "; "))
	}
	return nil
}

// Used is the number of bytes in use on the mounts together.
func Used(mounts []Mount) int64 {
	var used int64
	for _, m := range mounts {
		var s unix.Statfs_t
		if unix.Statfs(m.Point, &s) == nil {
			used += int64(s.Blocks-s.Bfree) * s.Bsize
		}
	}
	return used
}
