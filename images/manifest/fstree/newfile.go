package fstree

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
)

// Bounds of what was read and is not written yet.
const (
	pieceBytes = 256 << 10
	pieces     = 24
)

// writers write and hash files while the next ones are read from their source.
// Only the pieces in free exist, so that memory is bounded.
type writers struct {
	group *errgroup.Group
	ctx   context.Context // ends with the first error
	jobs  chan *newFile
	free  chan []byte
}

// newFile is a file on its way to the disk.
type newFile struct {
	dir   *sharedDir
	name  string
	fd    int
	want  manifest.Entry
	first []byte      // content up to pieceBytes
	rest  chan []byte // the pieces after it; nil: none
	free  chan<- []byte

	sum     [sha256.Size]byte // valid after writers.wait
	settled bool              // and nothing is left for Apply
}

func newWriters(ctx context.Context, n int) *writers {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	w := &writers{jobs: make(chan *newFile, pieces), free: make(chan []byte, pieces)}
	for range pieces {
		w.free <- nil // made when it is needed first
	}
	w.group, w.ctx = errgroup.WithContext(ctx)
	for range n {
		w.group.Go(func() error {
			for f := range w.jobs {
				if err := f.write(w.ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return w
}

// wait waits until all files are written. No add follows it.
func (w *writers) wait() error {
	close(w.jobs)
	err := w.group.Wait()
	for f := range w.jobs { // left by an error
		f.close()
	}
	return err
}

// add makes a file, reads its content and hands it to a writer. The files are
// made here because writers would only wait for each other: a directory is
// locked while one is made.
func (w *writers) add(d *sharedDir, name string, e *manifest.Entry, content io.Reader) (*newFile, error) {
	f := &newFile{dir: d, name: name, want: *e, free: w.free}
	var err error
	if f.first, err = w.piece(content, e.Size); err != nil {
		return nil, err
	}
	if f.fd, err = d.create(name); err != nil {
		return nil, err
	}
	d.keep()
	left := e.Size - int64(len(f.first))
	if left > 0 {
		f.rest = make(chan []byte, min(pieces, (left+pieceBytes-1)/pieceBytes))
		defer close(f.rest)
	}
	select {
	case w.jobs <- f:
	case <-w.ctx.Done():
		return nil, errors.Join(context.Cause(w.ctx), f.close())
	}
	for left > 0 {
		p, err := w.piece(content, left)
		if err != nil {
			return nil, err
		}
		select {
		case f.rest <- p:
		case <-w.ctx.Done():
			return nil, context.Cause(w.ctx)
		}
		left -= int64(len(p))
	}
	return f, nil
}

// piece reads the next piece of a file of which so many bytes are left.
func (w *writers) piece(content io.Reader, left int64) ([]byte, error) {
	if left == 0 {
		return nil, nil
	}
	var p []byte
	select {
	case p = <-w.free:
	case <-w.ctx.Done():
		return nil, context.Cause(w.ctx)
	}
	if p == nil {
		p = make([]byte, pieceBytes)
	}
	p = p[:min(left, pieceBytes)]
	_, err := io.ReadFull(content, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return p, err
}

// write fills and closes the file.
func (f *newFile) write(ctx context.Context) error {
	err := f.fill(ctx)
	if closeErr := f.close(); err == nil {
		err = closeErr
	}
	return err
}

func (f *newFile) close() error {
	defer f.dir.release()
	return f.dir.fail("close", f.name, unix.Close(f.fd))
}

// fill writes and hashes the pieces, leaves holes for zeros, and sets what can
// be set of the attributes while the file is open.
func (f *newFile) fill(ctx context.Context) error {
	hash := sha256.New()
	var at, end int64 // of what was read, of what was written
	for p := f.first; ; {
		hash.Write(p)
		n, err := writePieces(f.fd, p, at)
		if err != nil {
			return f.dir.fail("write", f.name, err)
		}
		if n > 0 {
			end = at + n
		}
		if at += int64(len(p)); p != nil {
			f.free <- p[:pieceBytes]
		}
		if at == f.want.Size {
			break
		}
		var ok bool
		select {
		case p, ok = <-f.rest:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !ok { // no more comes, for that reason if there is one
			return cmp.Or(context.Cause(ctx), io.ErrUnexpectedEOF)
		}
	}
	hash.Sum(f.sum[:0])
	if end < f.want.Size { // it ends with a hole
		if err := unix.Ftruncate(f.fd, f.want.Size); err != nil {
			return f.dir.fail("truncate", f.name, err)
		}
	}
	f.settled = f.dress() == nil && len(f.want.Xattrs) == 0 && f.dir.plain
	return nil
}

// sharedDir is a directory that is open as long as somebody uses it.
type sharedDir struct {
	*dir
	plain bool // what is made in it has no extended attributes from the beginning
	users atomic.Int32
}

func (d *sharedDir) keep() *sharedDir {
	d.users.Add(1)
	return d
}

func (d *sharedDir) release() {
	if d.users.Add(-1) == 0 {
		d.Close()
	}
}

// holeBytes is the piece of zeros that becomes a hole: sparse files come in full.
const holeBytes = 64 << 10

var zeros [holeBytes]byte

// writePieces writes a buffer at an offset but for pieces that are all zero, and
// answers where in the buffer the last piece that was written ends.
func writePieces(fd int, buffer []byte, at int64) (end int64, err error) {
	for done := 0; done < len(buffer); {
		data := done // bytes up to the next piece of zeros
		for data < len(buffer) && !isHole(buffer[data:]) {
			data = min(data+holeBytes, len(buffer))
		}
		if data == done {
			done += holeBytes
			continue
		}
		for done < data {
			n, err := unix.Pwrite(fd, buffer[done:data], at+int64(done))
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return end, err
			}
			done += n
		}
		end = int64(data)
	}
	return end, nil
}

func isHole(b []byte) bool { return len(b) >= holeBytes && bytes.Equal(b[:holeBytes], zeros[:]) }
