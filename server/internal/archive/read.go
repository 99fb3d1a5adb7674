package archive

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Kept is a file that is kept.
type Kept struct {
	Name     string
	Bytes    int64
	Modified time.Time
}

// Of lists the present file of a name, and the older ones of it, newest first.
// The name is cleaned as when it was saved.
func (a *Archive) Of(name string) ([]Kept, error) {
	stem := CleanName(strings.TrimSuffix(name, a.Suffix))
	a.mu.Lock()
	defer a.mu.Unlock()
	root, files, err := a.open()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", a.Dir, err)
	}
	defer root.Close()
	var all []Kept
	for _, f := range files {
		if f.name == stem+a.Suffix || isDated(f.name, stem, a.Suffix) {
			all = append(all, Kept{f.name, f.bytes, f.mtime})
		}
	}
	slices.SortFunc(all, func(x, y Kept) int { return y.Modified.Compare(x.Modified) })
	return all, nil
}

// Open opens a kept file by its name as it was told. The caller closes it.
func (a *Archive) Open(name string) (*os.File, error) {
	root, err := os.OpenRoot(a.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// Without O_NONBLOCK a fifo in the directory would hold us for ever.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("open %s: no regular file", name)
	}
	return f, nil
}
