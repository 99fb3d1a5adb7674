package transaction

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// holeBytes: a piece of so many zeros at a multiple of it becomes a hole.
const holeBytes = 64 << 10

var (
	zeros   [holeBytes]byte
	buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}
)

// copy writes all of a content to a new file, with holes for zeros, and
// answers its SHA-256. Where the file system can, and the content is one of
// its files, the two share their blocks.
func (d *disk) copy(ctx context.Context, to *os.File, from io.Reader, tell func(int)) (sum [32]byte, err error) {
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	hash, shared := sha256.New(), d.reflink(to, from)
	if shared {
		from = to
	}
	var at int64
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := io.ReadFull(from, *pooled)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return sum, err
		}
		piece := (*pooled)[:n]
		hash.Write(piece)
		if !shared && n > 0 {
			if err := d.changing("write", to.Name()); err != nil {
				return sum, err
			}
			if err := writePieces(to, piece, at); err != nil {
				return sum, err
			}
		}
		at += int64(n)
		tell(n)
		if err != nil {
			break
		}
	}
	hash.Sum(sum[:0])
	if shared {
		return sum, nil
	}
	return sum, to.Truncate(at)
}

// reflink shares the blocks of a whole file of the same file system.
func (d *disk) reflink(to *os.File, from io.Reader) bool {
	if limited, ok := from.(*io.LimitedReader); ok {
		f, ok := limited.R.(*os.File)
		if !ok {
			return false
		}
		if st, err := f.Stat(); err != nil || st.Size() >= limited.N {
			return false
		}
		from = f
	}
	f, ok := from.(*os.File)
	return ok && d.changing("reflink", to.Name()) == nil && unix.IoctlFileClone(int(to.Fd()), int(f.Fd())) == nil
}

// writePieces writes a buffer at an offset but for pieces that are all zero.
func writePieces(f *os.File, buffer []byte, at int64) error {
	for len(buffer) > 0 {
		n := min(holeBytes, len(buffer))
		if n < holeBytes || !bytes.Equal(buffer[:n], zeros[:]) {
			if _, err := f.WriteAt(buffer[:n], at); err != nil {
				return err
			}
		}
		buffer = buffer[n:]
		at += int64(n)
	}
	return nil
}

// isFull tells that there is no room, which another source does not change.
func (d *disk) isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// progress counts and tells, at most every 100 ms.
type progress struct {
	mu          sync.Mutex
	step        Step
	tell        func(step Step, done, total int64)
	done, total int64
	told        time.Time

	fetched, copied tally
}

type tally struct {
	files int
	bytes int64
}

func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if now := time.Now(); p.tell != nil && now.Sub(p.told) >= 100*time.Millisecond {
		p.told = now
		p.tell(p.step, p.done, p.total)
	}
}

// end tells the final count.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tell != nil {
		p.tell(p.step, p.done, p.total)
	}
}

// count adds a file to a tally. Bytes that were in vain count too.
func (p *progress) count(t *tally, n int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.bytes += n
	if err == nil {
		t.files++
	}
}
