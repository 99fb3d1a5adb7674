package catalog

import (
	"io/fs"
	"sync"
	"syscall"
)

// known keeps what was found out about files, each for as long as it does not change.
type known[T any] struct {
	mu    sync.Mutex // one file is read at a time
	files map[string]finding[T]
}

type finding[T any] struct {
	inode          uint64
	modified, size int64
	value          T
}

// maxKnown bounds the files that are kept.
const maxKnown = 20_000

// get answers what is known of a file, or else what find says. An error is not kept.
func (k *known[T]) get(path string, info fs.FileInfo, find func() (T, error)) (T, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := finding[T]{modified: info.ModTime().UnixNano(), size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		now.inode = st.Ino
	}
	if f, ok := k.files[path]; ok && f.inode == now.inode && f.modified == now.modified && f.size == now.size {
		return f.value, nil
	}
	var err error
	if now.value, err = find(); err != nil {
		return now.value, err
	}
	if k.files == nil || len(k.files) >= maxKnown {
		k.files = map[string]finding[T]{}
	}
	k.files[path] = now
	return now.value, nil
}
