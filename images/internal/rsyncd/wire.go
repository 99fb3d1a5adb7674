package rsyncd

import (
	"bufio"
	"net"
	"time"
)

// wire is the connection with a time limit on every read and write, a count
// of the bytes sent, and both directions buffered: the library writes four
// bytes at a time. What is buffered goes out before a read waits, as the
// protocol runs in one goroutine that reads only when it has said all it can.
type wire struct {
	conn    net.Conn
	idle    time.Duration
	in      *bufio.Reader
	out     *bufio.Writer
	written int64
}

func newWire(conn net.Conn, idle time.Duration) *wire {
	w := &wire{conn: conn, idle: idle}
	w.in = bufio.NewReaderSize(flushingReader{w}, 16<<10)
	w.out = bufio.NewWriterSize(limitedWriter{w}, 64<<10)
	return w
}

func (w *wire) Write(p []byte) (int, error) { return w.out.Write(p) }
func (w *wire) Flush() error                { return w.out.Flush() }
func (w *wire) Close() error                { return w.Flush() }

type flushingReader struct{ *wire }

func (r flushingReader) Read(p []byte) (int, error) {
	if err := r.Flush(); err != nil {
		return 0, err
	}
	r.conn.SetReadDeadline(time.Now().Add(r.idle))
	return r.conn.Read(p)
}

type limitedWriter struct{ *wire }

func (w limitedWriter) Write(p []byte) (int, error) {
	w.conn.SetWriteDeadline(time.Now().Add(w.idle))
	n, err := w.conn.Write(p)
	w.written += int64(n)
	return n, err
}
