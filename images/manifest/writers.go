package manifest

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Bounds of what was read from an archive and is not written yet.
const (
	pieceBytes = 256 << 10
	pieces     = 24
)

// writers write and hash files while the next ones are read from the archive.
// Only the pieces in free exist, so that memory is bounded.
type writers struct {
	group *errgroup.Group
	ctx   context.Context // ends with the first error
	jobs  chan *newFile
	free  chan []byte
}

// newFile is a file on its way to the disk.
type newFile struct {
	dir   *openDir
	name  string
	want  Entry
	first []byte      // content up to pieceBytes
	rest  chan []byte // the pieces after it; nil: none
	free  chan<- []byte
	sum   [sha256.Size]byte // valid after writers.wait
}

func newWriters(ctx context.Context, n int) *writers {
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	w := &writers{jobs: make(chan *newFile), free: make(chan []byte, pieces)}
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
	return w.group.Wait()
}

// add reads a file's content and hands it to a writer.
func (w *writers) add(d *openDir, name string, e *Entry, content io.Reader) (*newFile, error) {
	f := &newFile{dir: d.keep(), name: name, want: *e, free: w.free}
	var err error
	if f.first, err = w.piece(content, e.Size); err != nil {
		d.release()
		return nil, err
	}
	left := e.Size - int64(len(f.first))
	if left > 0 {
		f.rest = make(chan []byte, min(pieces, (left+pieceBytes-1)/pieceBytes))
		defer close(f.rest)
	}
	select {
	case w.jobs <- f:
	case <-w.ctx.Done():
		d.release()
		return nil, context.Cause(w.ctx)
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

// write makes the file.
func (f *newFile) write(ctx context.Context) error {
	defer f.dir.release()
	out, err := f.dir.create(f.name)
	if err != nil {
		return err
	}
	err = f.fill(ctx, out)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}

// fill writes and hashes the pieces, leaves holes for zeros, and sets what can
// be set of the attributes while the file is open; Apply sees to the rest.
func (f *newFile) fill(ctx context.Context, out *os.File) error {
	hash := sha256.New()
	var at int64
	for p := f.first; ; {
		hash.Write(p)
		if err := writePieces(out, p, at); err != nil {
			return err
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
		if !ok {
			return io.ErrUnexpectedEOF
		}
	}
	hash.Sum(f.sum[:0])
	if err := endHole(out, f.want.Size); err != nil {
		return err
	}
	f.dress(int(out.Fd()))
	return nil
}

// dress sets owner, mode and time. Errors come up again in Apply, which finds
// these attributes wrong.
func (f *newFile) dress(fd int) {
	if f.want.UID != 0 || f.want.GID != 0 {
		_ = unix.Fchown(fd, int(f.want.UID), int(f.want.GID))
	}
	_ = unix.Fchmod(fd, f.want.Mode)
	_ = unix.UtimesNanoAt(fd, "", timesOf(f.want.ModTime), unix.AT_EMPTY_PATH) // Linux 5.8
}

// openDir is a directory that is open as long as somebody uses it.
type openDir struct {
	*dir
	users atomic.Int32
}

func (d *openDir) keep() *openDir {
	d.users.Add(1)
	return d
}

func (d *openDir) release() {
	if d.users.Add(-1) == 0 {
		d.Close()
	}
}
