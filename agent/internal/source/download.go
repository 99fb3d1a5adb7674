package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"edeploy/agent/internal/retry"
)

// download is a file of a web server that is read from its beginning to its end,
// over as many connections as it takes: by range requests (RFC 9110 section 14)
// where the server has them, else by passing over what there was. It must be
// closed. The first fields are set before open.
type download struct {
	client *http.Client
	method string // GET or HEAD
	url    *url.URL

	size int64 // in bytes; -1: not known until an answer says it

	known   bool          // a manifest vouches for the file: that the server has another one, or none, is final
	zstd    bool          // take it compressed
	silence time.Duration // how long the server may say nothing

	describe func(error) error       // makes a sentence of an answer's error
	wait     func(cause error) error // pauses before another attempt, or answers why there is none
	progress func(at int64)          // is told when something came; nil: nobody
	skipped  func(n int64)           // is told that so many bytes come again; nil: nobody

	ctx     context.Context
	version version
	at      int64 // bytes answered so far
	err     error // the end of it
	plain   bool  // compressed content went wrong once

	body    io.ReadCloser // of the present connection
	raw     *errorReader  // the same
	content io.Reader     // the same, decompressed
	decoder *zstd.Decoder // when it is compressed
	cancel  context.CancelCauseFunc
}

// open asks until there is an answer.
func (f *download) open(ctx context.Context) error {
	f.ctx = ctx
	return f.ready()
}

// Close lets go of the connection. Its result is always nil.
func (f *download) Close() error {
	f.drop()
	return nil
}

// Read reads on, through any number of lost connections.
func (f *download) Read(p []byte) (int, error) {
	for f.err == nil {
		if f.at == f.size {
			return 0, io.EOF
		}
		if f.err = f.ready(); f.err != nil {
			break
		}
		if f.size >= 0 {
			p = p[:min(int64(len(p)), f.size-f.at)]
		}
		n, err := f.content.Read(p)
		f.at += int64(n)
		switch {
		case n > 0:
			if f.progress != nil {
				f.progress(f.at)
			}
			return n, f.complete()
		case err == io.EOF && f.size < 0:
			return 0, io.EOF
		case err == io.EOF && f.decoder != nil && f.raw.err == nil:
			err = &refused{f.describe(&sizeError{f.at, f.size})} // it came whole
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			f.plain = f.plain || f.decoder != nil
			f.err = f.retry(err)
		}
	}
	return 0, f.err
}

// complete reads the end of a compressed file behind its last byte, so that the
// connection can be used again, and refuses one that goes on.
func (f *download) complete() error {
	if f.at != f.size || f.decoder == nil {
		return nil
	}
	if n, _ := io.ReadFull(f.content, make([]byte, 1)); n > 0 {
		f.err = f.describe(&sizeError{-1, f.size})
		return f.err
	}
	io.CopyN(io.Discard, f.raw, 1<<10)
	return nil
}

// ready connects until there is a connection that will answer byte f.at.
func (f *download) ready() error {
	for f.body == nil {
		if err := f.connect(); err != nil {
			if err := f.retry(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// retry gives a connection up and pauses; an error is the end of all hope.
func (f *download) retry(cause error) error {
	f.drop()
	var final *refused
	switch {
	case errors.As(cause, &final):
		return final.error
	case f.ctx.Err() != nil:
		return context.Cause(f.ctx)
	}
	return f.wait(cause)
}

func (f *download) drop() {
	if f.decoder != nil {
		release(f.decoder)
		f.decoder = nil
	}
	if f.body != nil {
		f.body.Close()
		f.body = nil
	}
	if f.cancel != nil {
		f.cancel(nil)
	}
}

func (f *download) connect() error {
	ctx, cancel := context.WithCancelCause(f.ctx)
	f.cancel = cancel
	silence := f.silence
	timer := time.AfterFunc(silence, func() { cancel(&silentError{silence}) })
	defer timer.Stop()
	req := (&http.Request{Method: f.method, URL: f.url, Header: http.Header{"User-Agent": {"edeploy"}}}).WithContext(ctx)
	if f.zstd && f.at == 0 && !f.plain {
		req.Header.Set("Accept-Encoding", "zstd")
	}
	f.version.askFor(f.at, req.Header)
	answer, err := f.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return retry.Cause(err)
	}
	f.body = &timeoutBody{answer.Body, timer, silence, ctx}
	f.raw = &errorReader{Reader: f.body}
	f.content = f.raw
	return f.accept(answer)
}

// accept decides what an answer means: bytes of it may have to be passed over.
func (f *download) accept(answer *http.Response) error {
	final := func(err error) error { return &refused{f.describe(err)} }
	switch code := answer.StatusCode; {
	case code == http.StatusPartialContent && (f.at > 0 || f.known):
		return f.acceptRange(answer)
	case code == http.StatusOK:
	case f.method == http.MethodHead && (code == http.StatusMethodNotAllowed || code == http.StatusNotImplemented):
		return nil // only asked to learn early what a GET will say
	case code == http.StatusRequestedRangeNotSatisfiable && f.at > 0 && !f.known:
		return final(errChanged)
	default:
		err := &statusError{code, answer.Status, answer.Header.Get("Location")}
		if err.temporary() || err.missing() && f.at > 0 && !f.known {
			return f.describe(err) // the server, or a proxy before it, is on its way up
		}
		return final(err)
	}
	if !f.version.match(versionOf(answer, answer.ContentLength, f.known)) {
		return final(errChanged)
	}
	if err := f.decode(answer); err != nil {
		return err
	}
	if f.at > 0 && f.skipped != nil {
		f.skipped(f.at)
	}
	_, err := io.CopyN(io.Discard, f.content, f.at)
	return err
}

// acceptRange looks at the head of the rest of a file.
func (f *download) acceptRange(answer *http.Response) error {
	got := answer.Header.Get("Content-Range")
	from, to, size := int64(-1), int64(0), int64(-1) // the size may be "*"
	_, _ = fmt.Sscanf(got, "bytes %d-%d/%d", &from, &to, &size)
	if from != f.at || f.known && (to != f.size-1 || size != f.size) {
		return &refused{f.describe(&rangeError{f.at, got, fmt.Sprintf("bytes %d-%d/%d", f.at, f.size-1, f.size)})}
	}
	if !f.known && !f.version.match(versionOf(answer, size, false)) {
		return &refused{f.describe(errChanged)}
	}
	return nil
}

// decode sees to the coding of a whole file, and to its size.
func (f *download) decode(answer *http.Response) (err error) {
	coding := answer.Header.Get("Content-Encoding")
	switch {
	case !f.zstd || coding == "" || coding == "identity":
		if f.known && answer.ContentLength >= 0 && answer.ContentLength != f.size {
			return &refused{f.describe(&sizeError{answer.ContentLength, f.size})}
		}
		if f.size < 0 {
			f.size = answer.ContentLength
		}
	case coding == "zstd":
		if f.decoder, err = decoder(f.content); err == nil {
			f.content = f.decoder
		}
	default:
		return &refused{fmt.Errorf("the server answers with the content coding %q", coding)}
	}
	return err
}

// timeoutBody ends a read that waits for longer than silence. Only waiting for
// the server counts: while its data goes to a slow disk, nothing is read.
type timeoutBody struct {
	io.ReadCloser
	timer   *time.Timer
	silence time.Duration
	ctx     context.Context
}

func (b *timeoutBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.silence)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if cause := context.Cause(b.ctx); err != nil && cause != nil {
		err = cause
	}
	return n, err
}

// errorReader remembers how the connection failed.
type errorReader struct {
	io.Reader
	err error
}

func (f *errorReader) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// zstdWindow bounds the memory that compressed content can ask for (RFC 8878
// section 3.1.1.1.2 recommends that decoders take windows of 8 MB).
const zstdWindow = 8 << 20

// decoders are used again: most files are small.
var decoders sync.Pool

func decoder(r io.Reader) (*zstd.Decoder, error) {
	if d, ok := decoders.Get().(*zstd.Decoder); ok {
		return d, d.Reset(r)
	}
	return zstd.NewReader(r, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderConcurrency(1))
}

// release must come before what the decoder reads from is closed.
func release(d *zstd.Decoder) {
	if d.Reset(nil) == nil {
		decoders.Put(d)
	}
}
