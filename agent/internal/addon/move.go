package addon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"edeploy/images/manifest"
)

// move moves the files of the tree in staging to their places below dir, when
// there is room for all of them. Links on the way are followed inside of dir only.
func move(dir string, m *manifest.Manifest) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	device, err := deviceOf(root, ".")
	if err != nil {
		return err
	}
	var files []string
	for i := range m.Entries {
		e := &m.Entries[i]
		there, err := makeRoom(root, e, device)
		if err != nil {
			return fmt.Errorf("/%s: %w", manifest.Escape(e.Path), err)
		}
		if !there {
			files = append(files, e.Path)
		}
	}
	for _, name := range files {
		if err := root.Rename(path.Join(staging, name), name); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom makes a directory, or sees to it that a file or a link can be moved
// to its place; there says that nothing is to be moved.
func makeRoom(root *os.Root, e *manifest.Entry, device uint64) (there bool, err error) {
	if e.Type == manifest.Dir {
		if err := root.Mkdir(e.Path, fs.FileMode(e.Mode&0o777)); err == nil || !errors.Is(err, fs.ErrExist) {
			return true, err
		}
		return true, isOurs(root, e.Path, device)
	}
	if link, err := root.Readlink(e.Path); err == nil && link == e.Link {
		return true, nil
	}
	info, err := root.Stat(e.Path)
	if err == nil && info.IsDir() {
		return false, fmt.Errorf("the ramdisk has a directory there, the add-on a %s", e.Type)
	}
	return false, nil // what is not a directory is replaced
}

// isOurs refuses what is not a directory of the ramdisk.
func isOurs(root *os.Root, name string, device uint64) error {
	info, err := root.Stat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("the ramdisk has a file there, the add-on a directory")
	}
	if is, err := deviceOf(root, name); err != nil || is != device {
		return errors.Join(err, errors.New("another file system is mounted there"))
	}
	return nil
}

func deviceOf(root *os.Root, name string) (uint64, error) {
	info, err := root.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Dev, nil
}
