package admission

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Pace is how fast a client must send a body and take an answer. Only the time
// that the client is waited for counts.
type Pace struct {
	Greeting time.Duration // until the first byte of a body
	Window   time.Duration // the time in which Bytes must move, or the rest
	Bytes    int
}

// DefaultPace lets a client live that moves 2.2 KB a second: a machine behind a
// bad cable, with its pauses of several seconds between retransmissions.
var DefaultPace = Pace{Greeting: 10 * time.Second, Window: 30 * time.Second, Bytes: 64 << 10}

// Exchange is a request and its answer with the time limits of a pace. It is
// the ResponseWriter, and its Body replaces that of the request.
type Exchange struct {
	http.ResponseWriter
	pace Pace
	rc   *http.ResponseController
	body io.ReadCloser

	first   []byte        // of the body, read by Begin
	err     error         // that came with it
	over    bool          // the body
	spent   time.Duration // waiting in this window of the body
	got     int           // bytes of this window
	further time.Time     // deadline that a handler has set, too
}

// NewExchange makes the limits of one request.
func NewExchange(w http.ResponseWriter, r *http.Request, p Pace) *Exchange {
	e := &Exchange{ResponseWriter: w, pace: p, rc: http.NewResponseController(w), body: r.Body}
	e.over = r.Body == nil || r.Body == http.NoBody
	e.writeBy(time.Now().Add(p.Window))
	return e
}

// HasBody says whether a body comes with the request.
func (e *Exchange) HasBody() bool { return !e.over }

// Begin waits for the first byte of the body.
func (e *Exchange) Begin() error {
	e.readBy(time.Now().Add(e.pace.Greeting))
	e.first = make([]byte, 1)
	n, err := e.body.Read(e.first)
	e.first = e.first[:n]
	_ = e.ended(err)
	if n == 0 && err != nil && err != io.EOF {
		return fmt.Errorf("no byte of the body came within %v: %w", e.pace.Greeting, err)
	}
	return nil
}

// readBy and writeBy set a deadline. A transport without deadlines has no
// connection that could stall; one that is closed says so at the next read or
// write.
func (e *Exchange) readBy(t time.Time)  { _ = e.rc.SetReadDeadline(t) }
func (e *Exchange) writeBy(t time.Time) { _ = e.rc.SetWriteDeadline(t) }

// SetReadDeadline is for the ResponseController of a handler that has a limit
// of its own for the body: the earlier limit counts.
func (e *Exchange) SetReadDeadline(t time.Time) error {
	e.further = t
	return nil
}

// Read reads the body.
func (e *Exchange) Read(p []byte) (int, error) {
	if len(e.first) > 0 && len(p) > 0 {
		n := copy(p, e.first)
		e.first = e.first[n:]
		e.got += n
		return n, e.err
	}
	if e.err != nil {
		return 0, e.err
	}
	began := time.Now()
	limit := began.Add(e.pace.Window - e.spent)
	if !e.further.IsZero() && e.further.Before(limit) {
		limit = e.further
	}
	e.readBy(limit)
	n, err := e.body.Read(p)
	e.spent += time.Since(began)
	if e.got += n; e.got >= e.pace.Bytes {
		e.got, e.spent = 0, 0
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		e.err = fmt.Errorf("the body comes too slowly: less than %d bytes in %v: %w", e.pace.Bytes, e.pace.Window, err)
		return n, e.err
	}
	return n, e.ended(err)
}

// ended takes the time limit away when the body is over: the server goes on
// reading to notice that the client leaves, and must not take the time limit
// for that.
func (e *Exchange) ended(err error) error {
	if err != nil {
		e.err = err
	}
	if err == io.EOF {
		e.over = true
		e.readBy(time.Time{})
	}
	return err
}

// Close closes the body.
func (e *Exchange) Close() error { return e.body.Close() }

// End sets the limits of what is left to do when the handler is done: the last
// bytes of the answer, and a rest of the body that nobody has read. A body that
// was too slow gets no more time.
func (e *Exchange) End() {
	e.writeBy(time.Now().Add(e.pace.Window))
	if !e.over && e.err == nil {
		e.readBy(time.Now().Add(e.pace.Greeting))
	}
}

// Write sends a part of the answer.
func (e *Exchange) Write(p []byte) (written int, err error) {
	for {
		part := p[:min(len(p), e.pace.Bytes)]
		e.writeBy(time.Now().Add(e.pace.Window))
		n, err := e.ResponseWriter.Write(part)
		written += n
		if p = p[n:]; err != nil || len(p) == 0 {
			return written, err
		}
	}
}

// ReadFrom sends src. A file is handed to the kernel, a part at a time
// (sendfile).
func (e *Exchange) ReadFrom(src io.Reader) (written int64, err error) {
	rest, bounded := src.(*io.LimitedReader)
	if !bounded {
		rest = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	for rest.N > 0 {
		part := &io.LimitedReader{R: rest.R, N: min(rest.N, int64(e.pace.Bytes))}
		want := part.N
		e.writeBy(time.Now().Add(e.pace.Window))
		n, err := io.Copy(e.ResponseWriter, part)
		written += n
		rest.N -= n
		if err != nil || n < want {
			return written, err
		}
	}
	return written, nil
}

// WriteHeader starts the answer.
func (e *Exchange) WriteHeader(status int) {
	e.writeBy(time.Now().Add(e.pace.Window))
	e.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (e *Exchange) Unwrap() http.ResponseWriter { return e.ResponseWriter }
