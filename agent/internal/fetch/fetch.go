// Package fetch reads files of web servers over as many connections as it
// takes. A file goes on where a connection ended: by a range request (RFC 9110
// section 14) from a server that has them, else by passing over what it had.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/klauspost/compress/zstd"
)

// File is a file that is read from its beginning to its end. It must be closed.
// The exported fields are set before Open.
type File struct {
	Client *http.Client
	Method string // GET or HEAD
	URL    *url.URL

	// Size is that of the file in bytes, -1 when the caller does not know it;
	// then an answer may say it.
	Size int64

	// Known tells that something vouches for the file and its Size: that the
	// server has another one, or none, is final.
	Known bool

	Zstd    bool          // take it compressed
	Silence time.Duration // how long the server may say nothing

	// Describe makes a sentence of StatusError, RangeError, SizeError and
	// ErrChanged. Others come as they are.
	Describe func(error) error

	// Wait pauses before another attempt, or answers why there is none.
	Wait func(cause error) error

	Progress func(at int64) // is told when something came; nil: nobody
	Passed   func(n int64)  // is told that so many bytes come again; nil: nobody

	ctx     context.Context
	version version
	at      int64 // bytes answered so far
	err     error // the end of it
	plain   bool  // compressed content went wrong once

	body    io.ReadCloser // of the present connection
	wire    *faithful     // the same
	content io.Reader     // the same, decompressed
	decoder *zstd.Decoder // when it is compressed
	cancel  context.CancelCauseFunc
}

// Open asks until there is an answer.
func (f *File) Open(ctx context.Context) error {
	f.ctx = ctx
	return f.ready()
}

// Err is why reading ended before the end of the file, or nil.
func (f *File) Err() error { return f.err }

// WireErr is how the present connection failed, or nil.
func (f *File) WireErr() error {
	if f.wire == nil {
		return nil
	}
	return f.wire.err
}

// Close lets go of the connection. Its result is always nil.
func (f *File) Close() error {
	f.drop()
	return nil
}

// Read reads on, through any number of lost connections.
func (f *File) Read(p []byte) (int, error) {
	for f.err == nil {
		if f.at == f.Size {
			return 0, io.EOF
		}
		if f.err = f.ready(); f.err != nil {
			break
		}
		if f.Size >= 0 {
			p = p[:min(int64(len(p)), f.Size-f.at)]
		}
		n, err := f.content.Read(p)
		f.at += int64(n)
		switch {
		case n > 0:
			if f.Progress != nil {
				f.Progress(f.at)
			}
			return n, f.complete()
		case err == io.EOF && f.Size < 0:
			return 0, io.EOF
		case err == io.EOF && f.decoder != nil && f.wire.err == nil:
			err = &refused{f.Describe(&SizeError{f.at, f.Size})} // it came whole
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			f.plain = f.plain || f.decoder != nil
			f.err = f.lose(err)
		}
	}
	return 0, f.err
}

// complete reads the end of a compressed file behind its last byte, so that the
// connection can be used again, and refuses one that goes on.
func (f *File) complete() error {
	if f.at != f.Size || f.decoder == nil {
		return nil
	}
	if n, _ := io.ReadFull(f.content, make([]byte, 1)); n > 0 {
		f.err = f.Describe(&SizeError{-1, f.Size})
		return f.err
	}
	io.CopyN(io.Discard, f.wire, 1<<10)
	return nil
}

// ready connects until there is a connection that will answer byte f.at.
func (f *File) ready() error {
	for f.body == nil {
		if err := f.connect(); err != nil {
			if err := f.lose(err); err != nil {
				return err
			}
		}
	}
	return nil
}

// lose gives a connection up and pauses; an error is the end of all hope.
func (f *File) lose(cause error) error {
	f.drop()
	var final *refused
	switch {
	case errors.As(cause, &final):
		return final.error
	case f.ctx.Err() != nil:
		return context.Cause(f.ctx)
	}
	return f.Wait(cause)
}

func (f *File) drop() {
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

// connect asks for the rest of the file, once.
func (f *File) connect() error {
	ctx, cancel := context.WithCancelCause(f.ctx)
	f.cancel = cancel
	silence := f.Silence
	timer := time.AfterFunc(silence, func() { cancel(&Silent{silence}) })
	defer timer.Stop()
	req := (&http.Request{Method: f.Method, URL: f.URL, Header: http.Header{"User-Agent": {"edeploy"}}}).WithContext(ctx)
	if f.Zstd && f.at == 0 && !f.plain {
		req.Header.Set("Accept-Encoding", "zstd")
	}
	f.version.askFor(f.at, req.Header)
	answer, err := f.Client.Do(req)
	if err != nil {
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err // without method and URL
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return err
	}
	f.body = &patientBody{answer.Body, timer, silence, ctx}
	f.wire = &faithful{Reader: f.body}
	f.content = f.wire
	return f.accept(answer)
}

// accept decides what an answer means: bytes of it may have to be passed over.
func (f *File) accept(answer *http.Response) error {
	final := func(err error) error { return &refused{f.Describe(err)} }
	switch code := answer.StatusCode; {
	case code == http.StatusPartialContent && (f.at > 0 || f.Known):
		return f.acceptRange(answer)
	case code == http.StatusOK:
	case f.Method == http.MethodHead && (code == http.StatusMethodNotAllowed || code == http.StatusNotImplemented):
		return nil // only asked to learn early what a GET will say
	case code == http.StatusRequestedRangeNotSatisfiable && f.at > 0 && !f.Known:
		return final(ErrChanged)
	default:
		err := &StatusError{code, answer.Status, answer.Header.Get("Location")}
		if err.Temporary() || err.Missing() && f.at > 0 && !f.Known {
			return f.Describe(err) // the server, or a proxy before it, is on its way up
		}
		return final(err)
	}
	if !f.version.match(versionOf(answer, answer.ContentLength, f.Known)) {
		return final(ErrChanged)
	}
	if err := f.decode(answer); err != nil {
		return err
	}
	if f.at > 0 && f.Passed != nil {
		f.Passed(f.at)
	}
	_, err := io.CopyN(io.Discard, f.content, f.at)
	return err
}

// acceptRange looks at the head of the rest of a file.
func (f *File) acceptRange(answer *http.Response) error {
	got := answer.Header.Get("Content-Range")
	from, to, size := int64(-1), int64(0), int64(-1) // the size may be "*"
	_, _ = fmt.Sscanf(got, "bytes %d-%d/%d", &from, &to, &size)
	if from != f.at || f.Known && (to != f.Size-1 || size != f.Size) {
		return &refused{f.Describe(&RangeError{f.at, got, fmt.Sprintf("bytes %d-%d/%d", f.at, f.Size-1, f.Size)})}
	}
	if !f.Known && !f.version.match(versionOf(answer, size, false)) {
		return &refused{f.Describe(ErrChanged)}
	}
	return nil
}

// decode sees to the coding of a whole file, and to its size.
func (f *File) decode(answer *http.Response) (err error) {
	coding := answer.Header.Get("Content-Encoding")
	switch {
	case !f.Zstd || coding == "" || coding == "identity":
		if f.Known && answer.ContentLength >= 0 && answer.ContentLength != f.Size {
			return &refused{f.Describe(&SizeError{answer.ContentLength, f.Size})}
		}
		if f.Size < 0 {
			f.Size = answer.ContentLength
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

// patientBody ends a read that waits for longer than silence. Only waiting for
// the server counts: while its data goes to a slow disk, nothing is read.
type patientBody struct {
	io.ReadCloser
	timer   *time.Timer
	silence time.Duration
	ctx     context.Context
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.silence)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if cause := context.Cause(b.ctx); err != nil && cause != nil {
		err = cause
	}
	return n, err
}

// faithful remembers how the wire failed.
type faithful struct {
	io.Reader
	err error
}

func (f *faithful) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}
