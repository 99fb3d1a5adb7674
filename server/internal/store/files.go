package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Files reads the documents of one directory, by the names of its files. It is
// safe for concurrent use.
type Files struct {
	path string
	mu   sync.Mutex
	seen map[string]seen // by file
}

// seen is a file whose version is known.
type seen struct {
	mark
	version Version
}

// mark changes when a file changes: every write sets its change time.
type mark struct {
	inode   uint64
	size    int64
	changed syscall.Timespec
}

// granularity is the time within which two changes of a file may leave the same
// mark.
const granularity = 100 * time.Millisecond

// OpenFiles reads nothing yet.
func OpenFiles(path string) *Files { return &Files{path: path, seen: map[string]seen{}} }

// Get reads a file.
func (f *Files) Get(name string) (Document, error) {
	doc, _, err := f.get(name)
	return doc, err
}

func (f *Files) get(name string) (Document, fs.FileInfo, error) {
	if name == "." || name == ".." || strings.Contains(name, "/") {
		return Document{}, nil, fmt.Errorf("document %s: no name of a file", name)
	}
	text, info, err := readFile(os.OpenFile, filepath.Join(f.path, name), MaxDocumentBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Document{}, nil, fmt.Errorf("%s: %w", name, ErrNotExist)
	case err != nil:
		return Document{}, nil, fmt.Errorf("read %s: %w", name, err)
	}
	return Document{name, text, VersionOf(text), info.ModTime()}, info, nil
}

// Version is that of a file. One that is as it was is not read again.
func (f *Files) Version(name string) (Version, error) {
	if info, err := os.Stat(filepath.Join(f.path, name)); err == nil {
		f.mu.Lock()
		known, ok := f.seen[name]
		f.mu.Unlock()
		if ok && known.mark == markOf(info) {
			return known.version, nil
		}
	}
	doc, info, err := f.get(name)
	if errors.Is(err, ErrNotExist) {
		return Absent, nil
	}
	if err != nil {
		return Absent, err
	}
	m := markOf(info)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.seen, name)
	if time.Since(time.Unix(m.changed.Unix())) > granularity {
		f.seen[name] = seen{m, doc.Version}
	}
	return doc.Version, nil
}

func markOf(info fs.FileInfo) mark {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return mark{size: info.Size(), changed: syscall.NsecToTimespec(info.ModTime().UnixNano())}
	}
	return mark{st.Ino, st.Size, st.Ctim}
}

// readFile reads a regular file of at most so many bytes.
func readFile(open func(string, int, fs.FileMode) (*os.File, error), path string, most int64) ([]byte, fs.FileInfo, error) {
	// Without O_NONBLOCK a fifo in the directory would hold us for ever.
	f, err := open(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%w: %s is no regular file", errDamaged, filepath.Base(path))
	}
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%w: %s has more than %d bytes", errDamaged, filepath.Base(path), most)
	}
	return text, info, err
}
