package bootloader

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// replace makes to a copy of from on a file system without a journal (FAT): at
// any instant to is the old file or the new one, whole.
//
// The new content is on the disk, beside the old one, before the name changes;
// the name's change is one write of a directory's block. The old file stays
// open until that is on the disk, so that its blocks are not given up before.
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
	_, err = io.Copy(out, in)
	if err == nil {
		err = unix.Syncfs(int(out.Fd()))
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(part, to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return syncfs(filepath.Dir(to))
}

// partName is a file that is being written; one that a power cut left is
// overwritten.
const partName = "edeploy.new"

// syncfs brings all that was written on a directory's file system to the disk.
func syncfs(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}
