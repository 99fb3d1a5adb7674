package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// removeTree removes a path and all below it, however deep: a directory that is
// not empty is moved to the top instead of being entered, so that two
// directories are open at most.
func removeTree(path string) error {
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	r := remover{}
	if r.top, err = openFolder(unix.AT_FDCWD, path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	defer r.top.Close()
	for {
		before := r.removed
		left, err := r.pass()
		if err == nil && left == 0 {
			return os.Remove(path)
		}
		if err != nil && r.removed == before {
			return fmt.Errorf("remove %s: %w", path, err)
		}
	}
}

type remover struct {
	top     *os.File
	moved   int // names used so far
	removed int
}

// pass removes what is in the top but for what is not empty, whose content it
// brings to the top. It answers how much it found, and the first error.
func (r *remover) pass() (found int, err error) {
	return r.each(r.top, func(name string) error {
		child, err := openFolder(int(r.top.Fd()), name)
		if err != nil {
			return err
		}
		defer child.Close()
		if _, err = r.each(child, func(name string) error { return r.raise(child, name) }); err != nil {
			return err
		}
		return r.unlink(r.top, name)
	})
}

// each removes what is in a directory, and calls full for what is not empty.
func (r *remover) each(dir *os.File, full func(name string) error) (found int, err error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	if _, err := dir.Seek(0, 0); err != nil {
		return 0, err
	}
	for _, name := range names {
		removeErr := r.unlink(dir, name)
		if errors.Is(removeErr, unix.ENOTEMPTY) || errors.Is(removeErr, unix.EEXIST) {
			removeErr = full(name)
		}
		if err == nil {
			err = removeErr
		}
	}
	return len(names), err
}

func (r *remover) unlink(dir *os.File, name string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if err == unix.EISDIR || err == unix.EPERM {
		err = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	r.removed++
	return nil
}

// raise moves a directory to the top, under a name that is free there.
func (r *remover) raise(dir *os.File, name string) error {
	for {
		r.moved++
		err := unix.Renameat2(int(dir.Fd()), name, int(r.top.Fd()), fmt.Sprintf(".%d", r.moved), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			return err
		}
	}
}

// openFolder opens a directory whose owner may do all with it, as everybody
// but root must see to first.
func openFolder(at int, name string) (*os.File, error) {
	if os.Geteuid() != 0 {
		if err := unix.Fchmodat(at, name, 0o700, 0); err != nil {
			return nil, &fs.PathError{Op: "chmod", Path: name, Err: err}
		}
	}
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
