package manifest

import (
	"io"

	"golang.org/x/sys/unix"
)

// ReadWithin is Read with other limits.
func ReadWithin(r io.Reader, entries int, memory, text int64) (*Manifest, error) {
	return readWithin(r, limits{entries, memory, text})
}

// TextBytes is how long the text is thought to be at most.
func (m *Manifest) TextBytes() int64 {
	all := size{most: standard}
	for i := range m.Entries {
		if err := all.add(&m.Entries[i]); err != nil {
			panic(err)
		}
	}
	return all.text + textHead
}

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
