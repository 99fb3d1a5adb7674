package fstree

import "golang.org/x/sys/unix"

// OpenDir opens a directory of the tree at root, as kernels since Linux 5.6 can
// or as older ones must.
func OpenDir(root, path string, old bool) error {
	t, err := openTree(root)
	if err != nil {
		return err
	}
	defer t.Close()
	if old {
		fd, err := t.walkDir(path)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}
	d, err := t.openDir(path)
	if err == nil {
		err = d.Close()
	}
	return err
}
