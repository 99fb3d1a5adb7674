package catalog

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Space that imports leave free, for the state of the appliance, unless it is
// more than a sixteenth of the file system.
const (
	spareBytes  = 256 << 20
	spareInodes = 4096
)

// checkEvery is after how many bytes an import looks at the space again:
// others write, too.
const checkEvery = 16 << 20

// space is an amount of a file system.
type space struct{ bytes, inodes int64 }

// free is what imports may take.
func (c *Catalog) free() (space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(c.top, &s); err != nil {
		return space{}, fmt.Errorf("free space of %s: %w", c.top, err)
	}
	all := int64(s.Blocks) * s.Bsize
	left := space{int64(s.Bavail)*s.Bsize - min(spareBytes, all/16), 1 << 62}
	if s.Files > 0 { // some file systems have no fixed number
		left.inodes = int64(s.Ffree) - min(spareInodes, int64(s.Files)/16)
	}
	return left, nil
}

// promise is space that an import will take. What it has taken is promised no more.
type promise struct {
	catalog *Catalog
	left    space
	unseen  int64 // bytes taken since the space was looked at
}

// promise answers for space, beside what others were promised; the error
// wraps ErrNoSpace.
func (c *Catalog) promise(what fmt.Stringer, need space) (*promise, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	free, err := c.free()
	if err != nil {
		return nil, err
	}
	const mb = 1 << 20
	switch {
	case need.bytes > free.bytes-c.promised.bytes:
		return nil, fmt.Errorf("%w: %s needs %d MB, %d MB are free (%d MB of them promised to other imports)",
			ErrNoSpace, what, (need.bytes+mb-1)/mb, max(free.bytes, 0)/mb, c.promised.bytes/mb)
	case need.inodes > free.inodes-c.promised.inodes:
		return nil, fmt.Errorf("%w: %s needs %d inodes, %d are free (%d of them promised to other imports)",
			ErrNoSpace, what, need.inodes, max(free.inodes, 0), c.promised.inodes)
	}
	c.promised.bytes += need.bytes
	c.promised.inodes += need.inodes
	return &promise{catalog: c, left: need}, nil
}

// take counts bytes that were written, and says when the file system gets full.
func (p *promise) take(n int64) error {
	c := p.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := min(n, p.left.bytes)
	p.left.bytes -= taken
	c.promised.bytes -= taken
	if p.unseen += n; p.unseen < checkEvery {
		return nil
	}
	p.unseen = 0
	free, err := c.free()
	if err == nil && (free.bytes <= 0 || free.inodes <= 0) {
		err = fmt.Errorf("%w: the file system of %s got full meanwhile", ErrNoSpace, c.top)
	}
	return err
}

// end gives back what was not taken.
func (p *promise) end() {
	p.catalog.mu.Lock()
	defer p.catalog.mu.Unlock()
	p.catalog.promised.bytes -= p.left.bytes
	p.catalog.promised.inodes -= p.left.inodes
	p.left = space{}
}

// taking takes what is read through it.
type taking struct {
	io.Reader
	*promise
}

func (t taking) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if fullErr := t.take(int64(n)); fullErr != nil {
		return n, fullErr
	}
	return n, err
}

// isFull tells that an error comes from a file system without space.
func isFull(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// full wraps errors of a file system without space in ErrNoSpace.
func full(err error) error {
	if isFull(err) && !errors.Is(err, ErrNoSpace) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// isOurs tells that an error says something of this machine, not of what it
// was sent.
func isOurs(err error) bool {
	for _, errno := range []error{unix.EIO, unix.EROFS, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EPERM, unix.EACCES} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return isFull(err)
}
