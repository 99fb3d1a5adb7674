package rsyncd

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// minPace is what a client may keep up the server for: each second of waiting
// costs so many bytes, which it has sent or taken. It begins with Config.Idle,
// and has at most twice that.
const minPace = 1 << 10

// wire is the connection with a time limit on every read and write, a count
// of the bytes sent, and both directions buffered: the library writes four
// bytes at a time. What is buffered goes out before a read waits, as the
// protocol runs in one goroutine that reads only when it has said all it can.
type wire struct {
	conn    net.Conn
	idle    time.Duration
	until   time.Time     // the end of the greeting; zero: it is over
	credit  time.Duration // for which the client may keep up the server
	in      *bufio.Reader
	out     *bufio.Writer
	written int64
	said    string // what the library is about to say was said already
	ended   error  // why nothing is sent any more
}

func newWire(conn net.Conn, idle time.Duration) *wire {
	w := &wire{conn: conn, idle: idle, credit: idle}
	w.in = bufio.NewReaderSize(flushingReader{w}, 16<<10)
	w.out = bufio.NewWriterSize(limitedWriter{w}, 64<<10)
	return w
}

func (w *wire) Write(p []byte) (int, error) {
	if w.ended != nil {
		return 0, w.ended
	}
	rest, found := bytes.CutPrefix(p, []byte(w.said))
	if !found {
		return 0, fmt.Errorf("BUG: the rsync library begins with %.40q, not with %q", p, w.said)
	}
	w.said = ""
	_, err := w.out.Write(rest)
	return len(p), err
}

func (w *wire) Flush() error { return w.out.Flush() }
func (w *wire) Close() error { return w.Flush() }

// timed makes one read or write with its time limit.
func (w *wire) timed(limit func(time.Time) error, work func([]byte) (int, error), p []byte) (int, error) {
	start := time.Now()
	deadline := start.Add(min(w.idle, w.credit))
	if !w.until.IsZero() && w.until.Before(deadline) {
		deadline = w.until
	}
	limit(deadline)
	n, err := work(p)
	w.credit += time.Duration(n)*time.Second/minPace - time.Since(start)
	w.credit = min(w.credit, 2*w.idle)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("the client was silent for too long, or slower than %d bytes a second: %w", minPace, err)
	}
	return n, err
}

type flushingReader struct{ *wire }

func (r flushingReader) Read(p []byte) (int, error) {
	if err := r.Flush(); err != nil {
		return 0, err
	}
	return r.timed(r.conn.SetReadDeadline, r.conn.Read, p)
}

type limitedWriter struct{ *wire }

func (w limitedWriter) Write(p []byte) (int, error) {
	n, err := w.timed(w.conn.SetWriteDeadline, w.conn.Write, p)
	w.written += int64(n)
	return n, err
}
