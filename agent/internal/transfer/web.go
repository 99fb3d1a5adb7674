package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"edeploy/agent/internal/fetch"
)

// ErrChanged says that a file of a web server was replaced by another while it
// was read: what was received of the old one is of no use.
var ErrChanged = errors.New("was replaced on the server meanwhile")

// Stream is a file of a web server that is read from its beginning to its end
// over as many connections as it takes. It must be closed.
type Stream struct {
	*fetch.File
	url   string
	watch func(bytes int64)
}

// Open asks for the first of the URLs that the server has. When there is none,
// the error is ErrMissing and names all.
func (t Transfer) Open(ctx context.Context, urls ...string) (*Stream, error) {
	return t.open(ctx, http.MethodGet, urls)
}

// Exists is Open without the content: nil when the server has one of the URLs.
func (t Transfer) Exists(ctx context.Context, urls ...string) error {
	s, err := t.open(ctx, http.MethodHead, urls)
	if err != nil {
		return err
	}
	return s.Close()
}

func (t Transfer) open(ctx context.Context, method string, urls []string) (*Stream, error) {
	var missing []error
	for _, u := range urls {
		at, err := url.Parse(u)
		if err != nil {
			return nil, err
		}
		s := t.stream(ctx, method, u, at)
		err = s.File.Open(ctx)
		if err == nil {
			return s, nil
		}
		s.Close()
		if !errors.Is(err, ErrMissing) {
			return nil, err
		}
		missing = append(missing, err)
	}
	return nil, errors.Join(missing...)
}

func (t Transfer) stream(ctx context.Context, method, shown string, u *url.URL) *Stream {
	s := &Stream{url: shown, watch: t.Progress}
	wait, received := t.policy().Start(), int64(0)
	s.File = &fetch.File{Client: web, Method: method, URL: u, Size: -1, Silence: cmp.Or(t.Stall, time.Minute), Describe: s.describe}
	s.File.Wait = func(cause error) error {
		var silent *fetch.Silent
		if errors.As(cause, &silent) {
			s.File.Silence = min(2*s.File.Silence, maxStall)
		}
		return t.pause(ctx, wait, u.Host, received, cause)
	}
	s.File.Progress = func(at int64) {
		received = at
		wait.Reset()
		if s.watch != nil {
			s.watch(at)
		}
	}
	s.File.Passed = func(n int64) {
		t.log().Warn(fmt.Sprintf("%s sends the file from its beginning again, passing over %d MB", u.Host, n/1e6))
	}
	return s
}

// describe makes the sentence of an answer.
func (s *Stream) describe(err error) error {
	var status *fetch.StatusError
	var other *fetch.RangeError
	switch {
	case errors.Is(err, fetch.ErrChanged):
		return fmt.Errorf("%s %w", s.url, ErrChanged)
	case errors.As(err, &other):
		return fmt.Errorf("%s: asked for the bytes from %d on, the server answered with range %.80q", s.url, other.At, other.Got)
	case !errors.As(err, &status):
		return err
	case status.Missing():
		return fmt.Errorf("%s %w", s.url, ErrMissing)
	case status.Temporary():
		return fmt.Errorf("HTTP status %s", status.Status)
	case status.Code >= 300 && status.Code < 400:
		return fmt.Errorf("%s: HTTP status %s to %.200q, which is not followed", s.url, status.Status, status.Location)
	}
	return fmt.Errorf("%s: HTTP status %s", s.url, status.Status)
}

// Fetch copies a file of at most limit bytes from a web server to the path file.
func (t Transfer) Fetch(ctx context.Context, url, file string, limit int64) error {
	const tries = 3
	for try := 1; ; try++ {
		err := t.fetchOnce(ctx, url, file, limit)
		if !errors.Is(err, ErrChanged) || try == tries {
			return err
		}
		t.log().Warn(err.Error() + ", starting again")
	}
}

func (t Transfer) fetchOnce(ctx context.Context, url, file string, limit int64) error {
	t.Progress = nil
	s, err := t.Open(ctx, url)
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(s, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%s %w %d bytes", url, errTooMuch, limit)
	}
	return errors.Join(err, f.Close())
}

// URL is where the file was found.
func (s *Stream) URL() string { return s.url }

// Size is the file's size in bytes, -1 when the server does not say.
func (s *Stream) Size() int64 { return s.File.Size }

// Watch tells how many bytes were read, of Size, from then on; from the
// goroutine that reads.
func (s *Stream) Watch(progress func(bytes int64)) { s.watch = progress }

// web talks to web servers directly: proxies of the build machine are no
// business of ours, and a redirection is not followed, as in the original.
var web = &http.Client{
	Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) },
		DisableKeepAlives:  true, // the server may restart between two requests
		DisableCompression: true,
		ReadBufferSize:     256 << 10,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}
