package bootloader

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// replace makes to a copy of from on a file system without a journal (FAT): at
// any instant, whatever part of its cache a disk loses, to is the old file or
// the new one, whole.
//
// The new content is on the disk, beside the old one, before the name changes.
// Then its first name goes, so that no two names lead to the same blocks, which
// fsck would take away from one of them; then the new name leads to it, by one
// write of a directory's sector. The old file stays open until that is on the
// disk, so that its blocks are not given up before.
//
// Each step ends with fsync: syncfs(2) writes, but on FAT it does not flush the
// disk's cache (Linux, fs/fat/inode.c has no sync_fs; fat_file_fsync flushes).
func replace(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	old, err := os.Open(to)
	switch {
	case err == nil:
		defer old.Close()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	part := filepath.Join(filepath.Dir(to), partName)
	out, err := os.Create(part)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err = io.Copy(out, in); err == nil {
		err = out.Sync()
	}
	if err == nil {
		err = os.Rename(part, to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := syncDir(filepath.Dir(to)); err != nil {
		return err
	}
	return out.Sync()
}

// partName is a file that is being written; one that a power cut left is
// overwritten.
const partName = "edeploy.new"

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
