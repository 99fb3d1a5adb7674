package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"syscall"
	"time"
)

// sumOf is the SHA-256 of a file.
func sumOf(tree fs.FS, name string, info fs.FileInfo) (string, error) {
	f, err := tree.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, io.LimitReader(f, info.Size()))
	return hex.EncodeToString(hash.Sum(nil)), err
}

// summed is the sum of a file as long as it does not change.
type summed struct {
	inode    uint64
	modified time.Time
	size     int64
	sum      string
}

// knownSum is sumOf that reads a published file once: lists name the sums of all.
func (c *Catalog) knownSum(tree fs.FS, name string, info fs.FileInfo) (string, error) {
	const most = 20_000
	now := summed{modified: info.ModTime(), size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		now.inode = st.Ino
	}
	c.summing.Lock()
	defer c.summing.Unlock()
	known := c.sums[name]
	if now.sum = known.sum; known == now && now.sum != "" {
		return now.sum, nil
	}
	var err error
	if now.sum, err = sumOf(tree, name, info); err == nil {
		if len(c.sums) >= most {
			clear(c.sums)
		}
		c.sums[name] = now
	}
	return now.sum, err
}
