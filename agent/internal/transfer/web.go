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
	"strings"
	"time"

	"edeploy/agent/internal/retry"
)

// ErrChanged says that a file of a web server was replaced by another while it
// was read: what was received of the old one is of no use.
var ErrChanged = errors.New("was replaced on the server meanwhile")

// Stream is a file of a web server that is read from its beginning to its end
// over as many connections as it takes. It goes on where a connection ended:
// by a range request (RFC 9110 section 14) from a server that has them, else by
// passing over what it had. It must be closed.
type Stream struct {
	t    Transfer
	ctx  context.Context
	wait *retry.Wait

	method string
	url    string
	host   string
	file   version // nothing before the first answer
	at     int64   // bytes answered so far
	err    error   // the end of it

	stall time.Duration
	timer *time.Timer // ends a connection that is silent
	body  io.ReadCloser
	close context.CancelCauseFunc
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
		s := &Stream{t: t, ctx: ctx, method: method, url: u, wait: t.patience().Start(), stall: cmp.Or(t.Stall, time.Minute)}
		err := s.ready()
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, ErrMissing) {
			return nil, err
		}
		missing = append(missing, err)
	}
	return nil, errors.Join(missing...)
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
func (s *Stream) Size() int64 { return s.file.size }

// Watch tells how many bytes were read, of Size, from then on; from the
// goroutine that reads.
func (s *Stream) Watch(progress func(bytes int64)) { s.t.Progress = progress }

// Err is why the stream ended before the end of the file, or nil.
func (s *Stream) Err() error { return s.err }

// Close lets go of the connection.
func (s *Stream) Close() error {
	s.drop(nil)
	return nil
}

// Read reads on, through any number of lost connections.
func (s *Stream) Read(p []byte) (int, error) {
	for s.err == nil {
		if err := s.ready(); err != nil {
			s.err = err
			break
		}
		n, err := s.receive(p)
		if n > 0 {
			s.at += int64(n)
			s.wait.Reset()
			if s.t.Progress != nil {
				s.t.Progress(s.at)
			}
			return n, nil
		}
		if err == io.EOF && (s.file.size < 0 || s.at == s.file.size) {
			return 0, io.EOF
		}
		if err != nil {
			s.err = s.lose(err)
		}
	}
	return 0, s.err
}

// ready connects until there is a connection that will answer byte s.at.
func (s *Stream) ready() error {
	for s.body == nil {
		err := s.connect()
		if err == nil {
			return nil
		}
		if !errors.Is(err, errLost) {
			s.drop(nil)
			return err
		}
		if err := s.lose(err); err != nil {
			return err
		}
	}
	return nil
}

// lose gives a connection up and pauses; an error is the end of all hope.
func (s *Stream) lose(cause error) error {
	s.drop(nil)
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if errors.Is(cause, errSilent) {
		s.stall = min(2*s.stall, maxStall)
	}
	return s.t.pause(s.ctx, s.wait, s.host, s.at, cause)
}

func (s *Stream) drop(why error) {
	if s.close != nil {
		s.timer.Stop()
		s.close(why)
	}
	if s.body != nil {
		s.body.Close()
	}
	s.body, s.close = nil, nil
}

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

// connect asks for the rest of the file, once.
func (s *Stream) connect() error {
	ctx, cancel := context.WithCancelCause(s.ctx)
	s.close = cancel
	silent := fmt.Errorf("%w for %s", errSilent, s.stall)
	s.timer = time.AfterFunc(s.stall, func() { cancel(silent) })
	req, err := http.NewRequestWithContext(ctx, s.method, s.url, nil)
	if err != nil {
		return err
	}
	s.host = req.URL.Host
	s.file.askFor(s.at, req.Header)
	resp, err := web.Do(req)
	if err != nil {
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err // without method and URL
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return lost{err}
	}
	s.timer.Stop()
	s.body = &patientBody{resp.Body, s.timer, s.stall, ctx}
	skip, err := s.file.judge(s.url, s.at, resp)
	if err == nil && skip > 0 {
		s.t.log().Warn(fmt.Sprintf("%s sends the file from its beginning again, passing over %d MB", s.host, skip/1e6))
		if _, err = io.CopyN(io.Discard, s.body, skip); err != nil {
			err = lost{err}
		}
	}
	if err != nil {
		s.body.Close()
		s.body = nil
	}
	return err
}

// receive reads from the connection.
func (s *Stream) receive(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err == io.EOF && s.file.size >= 0 && s.at+int64(n) < s.file.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// patientBody ends a read that waits for longer than stall. Only waiting for the
// server counts: while its data is unpacked to a slow disk, nothing is read.
type patientBody struct {
	io.ReadCloser
	timer *time.Timer
	stall time.Duration
	ctx   context.Context
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if cause := context.Cause(b.ctx); err != nil && cause != nil {
		err = cause
	}
	return n, err
}

// version is what tells one version of a file from another.
type version struct {
	known    bool
	etag     string
	modified string
	size     int64 // -1: not known
}

// askFor asks for the bytes from at on, of this version only (RFC 9110 section
// 13.1.5: no weak entity tags there).
func (v version) askFor(at int64, header http.Header) {
	if at == 0 {
		return
	}
	header.Set("Range", fmt.Sprintf("bytes=%d-", at))
	switch {
	case v.etag != "" && !strings.HasPrefix(v.etag, "W/"):
		header.Set("If-Range", v.etag)
	case v.modified != "":
		header.Set("If-Range", v.modified)
	}
}

// judge decides what an answer means when bytes up to at are there already:
// how many bytes of its body to pass over, or why there is none.
func (v *version) judge(url string, at int64, resp *http.Response) (skip int64, err error) {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return at, v.match(url, versionOf(resp, resp.ContentLength))
	case code == http.StatusPartialContent && at > 0:
		from, to, size := int64(-1), int64(0), int64(-1) // the size may be "*"
		_, _ = fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size)
		if from != at {
			return 0, fmt.Errorf("%s: asked for the bytes from %d on, the server answered with range %.80q", url, at, resp.Header.Get("Content-Range"))
		}
		return 0, v.match(url, versionOf(resp, size))
	case code == http.StatusNotFound || code == http.StatusGone:
		err := fmt.Errorf("%s %w", url, ErrMissing)
		if at > 0 {
			err = lost{err} // it was there before: the server is on its way up
		}
		return 0, err
	case code == http.StatusRequestedRangeNotSatisfiable && at > 0:
		return 0, fmt.Errorf("%s %w", url, ErrChanged)
	case code == http.StatusTooManyRequests || code >= 502 && code <= 504:
		return 0, lost{fmt.Errorf("HTTP status %s", resp.Status)}
	case resp.Request.Method == http.MethodHead && (code == http.StatusMethodNotAllowed || code == http.StatusNotImplemented):
		return 0, nil // only asked to learn early what the transfer will say
	case code >= 300 && code < 400:
		return 0, fmt.Errorf("%s: HTTP status %s to %.200q, which is not followed", url, resp.Status, resp.Header.Get("Location"))
	}
	return 0, fmt.Errorf("%s: HTTP status %s", url, resp.Status)
}

func versionOf(resp *http.Response, size int64) version {
	return version{true, resp.Header.Get("ETag"), resp.Header.Get("Last-Modified"), size}
}

// match takes over the first version seen, and tells whether a later answer is
// of another one.
func (v *version) match(url string, got version) error {
	if !v.known {
		*v = got
		return nil
	}
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	if differ(v.etag, got.etag) || differ(v.modified, got.modified) || v.size >= 0 && got.size >= 0 && v.size != got.size {
		return fmt.Errorf("%s %w", url, ErrChanged)
	}
	return nil
}
