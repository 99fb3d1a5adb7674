package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// body is a file on its way.
type body struct {
	server *Server
	ctx    context.Context
	url    *url.URL
	size   int64     // of the whole file
	done   int64     // bytes read
	etag   string    // of the file as it is, not compressed
	alive  time.Time // when something came last
	closed bool
	plain  bool // compressed content went wrong once

	answer   io.ReadCloser // of the present attempt
	wire     *faithful     // its body
	content  io.Reader     // the same, decompressed
	decoder  *zstd.Decoder // when it is compressed
	cancel   context.CancelFunc
	watchdog *time.Timer // ends an attempt that stalls
}

// refused is an answer that asking again will not change.
type refused struct{ err error }

func (r *refused) Error() string { return r.err.Error() }
func (r *refused) Unwrap() error { return r.err }

// Read goes on with a new request when the connection breaks.
func (b *body) Read(p []byte) (int, error) {
	for {
		switch {
		case b.closed:
			return 0, fs.ErrClosed
		case b.done == b.size:
			return 0, io.EOF
		case b.answer == nil:
			return 0, named(b.url, io.ErrUnexpectedEOF) // after an error
		}
		n, err := b.content.Read(p[:min(int64(len(p)), b.size-b.done)])
		b.done += int64(n)
		if n > 0 {
			b.alive = time.Now()
			b.server.waits.over()
			return n, b.complete()
		}
		if err == nil {
			continue
		}
		if err == io.EOF && b.decoder != nil && b.wire.err == nil {
			err = &refused{b.otherSize(b.done)} // it came whole
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		b.plain = b.plain || b.decoder != nil
		b.drop()
		if err := b.server.persist(b.ctx, b.alive, err, b.ask); err != nil {
			return 0, named(b.url, err)
		}
	}
}

// complete reads the end of a compressed file behind its last byte, so that the
// connection can be used again, and refuses one that goes on.
func (b *body) complete() error {
	if b.done < b.size || b.decoder == nil {
		return nil
	}
	if n, _ := io.ReadFull(b.content, make([]byte, 1)); n > 0 {
		return named(b.url, fmt.Errorf("it is longer on the server than the %d bytes that the manifest says", b.size))
	}
	io.CopyN(io.Discard, b.wire, 1<<10)
	return nil
}

// Close ends the request.
func (b *body) Close() error {
	if b.closed {
		return fs.ErrClosed
	}
	b.closed = true
	b.drop()
	<-b.server.places
	return nil
}

func (b *body) drop() {
	if b.answer == nil {
		return
	}
	b.watchdog.Stop()
	if b.decoder != nil {
		release(b.decoder)
		b.decoder = nil
	}
	b.answer.Close()
	b.cancel()
	b.answer = nil
}

// start asks until there is an answer.
func (b *body) start() error {
	b.alive = time.Now()
	err := b.ask()
	if err != nil {
		err = b.server.persist(b.ctx, b.alive, err, b.ask)
	}
	return err
}

// ask sends one request for what is missing.
func (b *body) ask() error {
	ctx, cancel := context.WithCancel(b.ctx)
	watchdog := time.AfterFunc(b.server.config.Silence, cancel)
	fail := func(err error) error {
		watchdog.Stop()
		cancel()
		return err
	}
	req := (&http.Request{Method: http.MethodGet, URL: b.url, Header: http.Header{"User-Agent": {"edeploy"}}}).WithContext(ctx)
	if b.done == 0 && !b.plain {
		req.Header.Set("Accept-Encoding", "zstd")
	}
	if b.done > 0 { // of the file as it is: what is compressed anew cannot be gone on with
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.done))
		if b.etag != "" {
			req.Header.Set("If-Range", b.etag)
		}
	}
	answer, err := b.server.client.Do(req)
	if err != nil {
		return fail(err)
	}
	b.answer, b.cancel, b.watchdog = answer.Body, cancel, watchdog
	b.wire = &faithful{Reader: &alive{answer.Body, watchdog, b.server.config.Silence}}
	b.content = b.wire
	if err := b.accept(answer); err != nil {
		b.drop()
		return err
	}
	return nil
}

// accept looks at the head of an answer. A server without ranges sends the
// whole file again: what is there already is passed over.
func (b *body) accept(answer *http.Response) error {
	if err := judge(answer); err != nil {
		return err
	}
	etag := tagOfFile(answer)
	if answer.StatusCode == http.StatusPartialContent {
		if want := fmt.Sprintf("bytes %d-%d/%d", b.done, b.size-1, b.size); answer.Header.Get("Content-Range") != want {
			return &refused{fmt.Errorf("the server answers %q, asked for %q", answer.Header.Get("Content-Range"), want)}
		}
		return nil
	}
	if b.done > 0 && etag != b.etag {
		return &refused{errors.New("the file changed on the server meanwhile")}
	}
	b.etag = etag
	if err := b.decode(answer); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, b.content, b.done)
	return err
}

func (b *body) otherSize(n int64) error {
	return fmt.Errorf("it has %d bytes on the server, the manifest says %d", n, b.size)
}

// decode sees to the coding of a whole file, and to its size.
func (b *body) decode(answer *http.Response) (err error) {
	switch coding := answer.Header.Get("Content-Encoding"); coding {
	case "", "identity":
		if answer.ContentLength >= 0 && answer.ContentLength != b.size {
			return &refused{b.otherSize(answer.ContentLength)}
		}
	case "zstd":
		if b.decoder, err = decoder(b.content); err != nil {
			return err
		}
		b.content = b.decoder
	default:
		return &refused{fmt.Errorf("the server answers with the content coding %q", coding)}
	}
	return nil
}

// tagOfFile is the strong ETag of the file as it is. Our server's tag of the
// compressed file is that one with "-zstd"; those of others are not understood.
func tagOfFile(answer *http.Response) string {
	etag := answer.Header.Get("ETag")
	file, ours := strings.CutSuffix(etag, `-zstd"`)
	switch {
	case strings.HasPrefix(etag, "W/"): // a weak one does not promise the same bytes
		return ""
	case ours:
		return file + `"`
	case answer.Header.Get("Content-Encoding") != "":
		return ""
	}
	return etag
}

// judge turns a status that is no success into an error.
func judge(answer *http.Response) error {
	switch answer.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return nil
	case http.StatusNotFound:
		return &refused{errNoFile}
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fmt.Errorf("the server answers %s", answer.Status) // it, or a proxy before it, is starting
	}
	return &refused{fmt.Errorf("the server answers %s", answer.Status)}
}

// named says what was fetched.
func named(u *url.URL, err error) error { return fmt.Errorf("fetch %s: %w", u, err) }
