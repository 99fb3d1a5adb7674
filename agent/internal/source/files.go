package source

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"edeploy/agent/internal/retry"
	"edeploy/images/manifest"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// Defaults of Config.
const (
	defaultPatience = 5 * time.Minute
	defaultSilence  = 30 * time.Second
	connections     = 4
)

// Config says where Files are. Host must be set.
type Config struct {
	Host string // name or address
	Port int    // 0: 80

	// Patience is how long a server that does not answer is waited for,
	// counted anew whenever something came; 0: 5 min.
	Patience time.Duration

	// Silence is how long an open connection may bring nothing; 0: 30 s.
	Silence time.Duration

	// Pause is how long to wait before the second attempt; it doubles up to
	// 10 s. 0: 0.5 s.
	Pause time.Duration

	// Notify is told, in one sentence, that the server is waited for and that it
	// is back. Calls do not overlap. Nil: nobody is.
	Notify func(sentence string)
}

// Files are trees file by file, and their manifests, over HTTP:
//
//	http://SERV:HTTP_PORT/install/VERSION/ROLE/PATH
//	http://SERV:HTTP_PORT/install/VERSION/ROLE-VERSION.mtree
//
// What arrives is not checked here: the caller knows the SHA-256 of what it asked
// for. Several goroutines may use it; a fifth open file waits until another is
// closed.
type Files struct {
	config Config
	base   url.URL
	client *http.Client
	bytes  atomic.Int64
	waits  waits
	slots  chan struct{} // one for each open file
}

// NewFiles makes Files; it connects when the first file is asked for.
func NewFiles(c Config) *Files {
	c.Port = cmp.Or(c.Port, 80)
	c.Patience = cmp.Or(c.Patience, defaultPatience)
	c.Silence = cmp.Or(c.Silence, defaultSilence)
	c.Pause = cmp.Or(c.Pause, time.Second/2)
	s := &Files{config: c, base: url.URL{Scheme: "http", Host: c.Host}, slots: make(chan struct{}, connections)}
	if c.Port != 80 {
		s.base.Host = net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
	}
	s.waits.notify = c.Notify
	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 5 * time.Second}
	s.client = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dialer.DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &counted{conn, &s.bytes}, nil
			},
			MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute,
			DisableCompression: true, // the size of a file is checked, and ranges count its own bytes
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s
}

// Close ends idle connections.
func (s *Files) Close() { s.client.CloseIdleConnections() }

// Bytes is what has crossed the wire so far, in both directions: requests,
// headers and bodies.
func (s *Files) Bytes() int64 { return s.bytes.Load() }

type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}

// at is the URL of a path below /install/. The path's bytes are escaped one by
// one, whatever they are.
func (s *Files) at(name string) *url.URL {
	u := s.base
	u.Path = "/" + path.Join("install", name)
	return &u
}

// Manifest fetches the manifest of an image. It crosses the wire compressed
// when the server can do that.
func (s *Files) Manifest(ctx context.Context, image wire.ImageRef) (m *manifest.Manifest, err error) {
	u := s.at(image.Manifest())
	err = s.wait().Do(ctx, func() (final bool, err error) {
		var lost error // what another attempt may repair
		f := s.file(u, -1)
		f.wait = func(cause error) error { lost = plain(cause); return lost }
		defer f.Close()
		if err := f.open(ctx); err != nil {
			return lost == nil, err
		}
		if m, err = manifest.Read(&f); err != nil && f.raw.err != nil {
			return false, plain(f.raw.err)
		}
		return true, err // the text is to blame
	})
	if err != nil {
		return nil, named(u, err)
	}
	s.waits.over()
	return m, nil
}

// Tree is the tree of one image on the server.
func (s *Files) Tree(image wire.ImageRef) Tree { return Tree{s, image} }

// Tree opens the files of one image.
type Tree struct {
	files *Files
	image wire.ImageRef
}

// Open asks for a file of the tree. Reading it goes on after an interruption
// as long as the server comes back in time.
func (t Tree) Open(ctx context.Context, e *manifest.Entry) (io.ReadCloser, error) {
	select {
	case t.files.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	f := &file{download: t.files.file(t.files.at(t.image.Tree()+"/"+e.Path), e.Size), slots: t.files.slots}
	w := t.files.wait()
	f.wait = func(cause error) error { return w.Pause(ctx, plain(cause)) }
	f.progress = func(int64) { w.Reset(); t.files.waits.over() }
	err := f.open(ctx)
	if errors.Is(err, errNoFile) {
		err = fmt.Errorf("%w: the tree of %s is not the one its manifest describes", err, t.image)
	}
	if err != nil {
		f.Close()
		return nil, named(f.url, err)
	}
	return f, nil
}

var errNoFile = errors.New("the server has no such file")

// file is an open file of a tree; it holds one of the slots.
type file struct {
	download
	slots  chan struct{}
	closed bool
}

// Read goes on with a new request when the connection breaks.
func (f *file) Read(p []byte) (int, error) {
	if f.closed {
		return 0, fs.ErrClosed
	}
	n, err := f.download.Read(p)
	if err != nil && err != io.EOF {
		err = named(f.url, err)
	}
	return n, err
}

// Close ends the request.
func (f *file) Close() error {
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	f.drop()
	<-f.slots
	return nil
}

func (s *Files) file(u *url.URL, size int64) download {
	return download{client: s.client, method: http.MethodGet, url: u, size: size, known: size >= 0, zstd: true,
		silence: s.config.Silence, describe: describe}
}

func describe(err error) error {
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return errNoFile
	}
	return err
}

// plain is a cause for people who do not know how long Silence is.
func plain(cause error) error {
	var silent *silentError
	if errors.As(cause, &silent) {
		return errors.New("it sends nothing")
	}
	return cause
}

func named(u *url.URL, err error) error { return fmt.Errorf("fetch %s: %w", u, err) }

// wait waits for the server, and says so once for all files.
func (s *Files) wait() *retry.Wait {
	return retry.Policy{First: s.config.Pause, Limit: s.config.Patience,
		Tell: func(cause error, _, _ time.Duration) { s.waits.begin(s.base.Host, cause, s.config.Patience) }}.Start()
}

// waits tells once, for all files at once, that the server is waited for.
type waits struct {
	notify func(string)
	mu     sync.Mutex
	since  time.Time // zero: it answers
}

func (w *waits) begin(host string, cause error, patience time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		return
	}
	w.since = time.Now()
	if w.notify != nil {
		w.notify(fmt.Sprintf("waiting for the server %s (%v), up to %s", host, cause, patience))
	}
}

// over is called whenever content comes.
func (w *waits) over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return
	}
	if w.notify != nil {
		w.notify(fmt.Sprintf("the server is back after %s", time.Since(w.since).Round(100*time.Millisecond)))
	}
	w.since = time.Time{}
}

// maxListBytes bounds the list of images: some 200 bytes for each.
const maxListBytes = 16 << 20

// Images lists what the server has. It is asked once: this is for people to
// look at.
func (s *Files) Images(ctx context.Context) ([]api.Image, error) {
	u := s.base
	u.Path = "/api/v1/images"
	ctx, cancel := context.WithTimeout(ctx, s.config.Silence)
	defer cancel()
	req := (&http.Request{Method: http.MethodGet, URL: &u, Header: http.Header{"User-Agent": {"edeploy"}}}).WithContext(ctx)
	answer, err := s.client.Do(req)
	if err != nil {
		return nil, named(&u, retry.Cause(err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, named(&u, describe(&statusError{code: answer.StatusCode, status: answer.Status}))
	}
	var found []api.Image
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxListBytes)).Decode(&found); err != nil {
		return nil, named(&u, err)
	}
	return found, nil
}
