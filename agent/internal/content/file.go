package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"sync"
	"time"

	"edeploy/agent/internal/fetch"
	"edeploy/agent/internal/retry"
)

// errNoFile is the server's 404.
var errNoFile = errors.New("the server has no such file")

// file is a file of a tree on its way; it holds one of the server's places.
type file struct {
	fetch.File
	server *Server
	closed bool
}

// Read goes on with a new request when the connection breaks.
func (f *file) Read(p []byte) (int, error) {
	if f.closed {
		return 0, fs.ErrClosed
	}
	n, err := f.File.Read(p)
	if err != nil && err != io.EOF {
		err = named(f.URL, err)
	}
	return n, err
}

// Close ends the request.
func (f *file) Close() error {
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	f.File.Close()
	<-f.server.places
	return nil
}

// file is how a file of the server is fetched.
func (s *Server) file(u *url.URL, size int64) fetch.File {
	return fetch.File{Client: s.client, Method: http.MethodGet, URL: u, Size: size, Known: size >= 0, Zstd: true,
		Silence: s.config.Silence, Describe: describe}
}

func describe(err error) error {
	var status *fetch.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return errNoFile
	}
	return err
}

// named says what was fetched.
func named(u *url.URL, err error) error { return fmt.Errorf("fetch %s: %w", u, err) }

// waiting is fetch.File.Wait with the server's patience, and what says that the
// server sends.
func (s *Server) waiting(ctx context.Context) (wait func(cause error) error, heard func(int64)) {
	w := retry.Policy{First: s.config.Pause, Limit: s.config.Patience}.Start()
	wait = func(cause error) error {
		cause = short(cause)
		pause, without, ok := w.Next()
		if !ok {
			return fmt.Errorf("no answer for %s: %w", without.Round(time.Second), cause)
		}
		s.waits.begin(s.base.Host, cause, s.config.Patience)
		return retry.Sleep(ctx, pause)
	}
	return wait, func(int64) { w.Reset(); s.waits.over() }
}

// short leaves out the method and the URL, which the caller names.
func short(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var silent *fetch.Silent
	if errors.As(err, &silent) {
		return errors.New("it sends nothing")
	}
	return err
}

// waits tells once, for all files at once, that the server is waited for.
type waits struct {
	say   func(string)
	mu    sync.Mutex
	since time.Time // zero: it answers
}

func (w *waits) begin(host string, cause error, patience time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		return
	}
	w.since = time.Now()
	if w.say != nil {
		w.say(fmt.Sprintf("waiting for the server %s (%v), up to %s", host, cause, patience))
	}
}

// over is called whenever content comes.
func (w *waits) over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return
	}
	if w.say != nil {
		w.say(fmt.Sprintf("the server is back after %s", time.Since(w.since).Round(100*time.Millisecond)))
	}
	w.since = time.Time{}
}
