package source

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"edeploy/agent/internal/retry"
)

// errChanged says that the file is not the one that was begun with: what came of
// that is of no use.
var errChanged = errors.New("the file changed on the server meanwhile")

// statusError is an answer without content.
type statusError struct {
	code     int
	status   string // "404 Not Found"
	location string // of a redirection, which is not followed
}

func (e *statusError) Error() string { return "the server answers " + e.status }

func (e *statusError) missing() bool {
	return e.code == http.StatusNotFound || e.code == http.StatusGone
}

func (e *statusError) temporary() bool { return retry.Temporary(e.code) }

type rangeError struct {
	at        int64 // bytes that were there
	got, want string
}

func (e *rangeError) Error() string {
	return fmt.Sprintf("the server answers %q, asked for %q", e.got, e.want)
}

// sizeError is a file of another size than is known.
type sizeError struct{ got, want int64 } // got is -1 when it is longer

func (e *sizeError) Error() string {
	if e.got < 0 {
		return fmt.Sprintf("it is longer on the server than the %d bytes that the manifest says", e.want)
	}
	return fmt.Sprintf("it has %d bytes on the server, the manifest says %d", e.got, e.want)
}

// silentError is the end of a connection that brought nothing.
type silentError struct{ duration time.Duration }

func (e *silentError) Error() string { return fmt.Sprintf("said nothing for %s", e.duration) }

// refused is an answer that asking again will not change.
type refused struct{ error }

func (r *refused) Unwrap() error { return r.error }

// version is what tells one version of a file from another.
type version struct {
	known    bool
	etag     string // of the file as it is, not compressed
	modified string
	size     int64 // -1: not known
}

// versionOf is that of an answer. When something vouches for the file, only a
// strong ETag counts.
func versionOf(answer *http.Response, size int64, vouched bool) version {
	if vouched {
		return version{true, tagOfFile(answer), "", -1}
	}
	return version{true, answer.Header.Get("ETag"), answer.Header.Get("Last-Modified"), size}
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

// askFor asks for the bytes from at on, of this version only (RFC 9110 section
// 13.1.5: no weak entity tags there). They are those of the file as it is: what
// is compressed anew cannot be gone on with.
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

// match takes over the first version seen, and tells whether a later answer is
// of the same.
func (v *version) match(got version) bool {
	if !v.known {
		*v = got
		return true
	}
	same := func(a, b string) bool { return a == "" || b == "" || a == b }
	return same(v.etag, got.etag) && same(v.modified, got.modified) && (v.size < 0 || got.size < 0 || v.size == got.size)
}
