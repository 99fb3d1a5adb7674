package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/server/wire"
)

// Archives are trees as one file each, on any web server (HSERV, HSERV_PORT,
// HPATH; reference section 2.5). The content is hashed as it is written and
// compared with the manifest published beside the archive; where there is none,
// the archive's own checksums must do.
type Archives struct {
	Transfer
	Args wire.BootArgs
}

// tries bounds how often something is begun anew that is replaced meanwhile.
const tries = 3

// errOther says that an archive is not that of its manifest: one of the two was
// replaced between the two requests, or they never belonged together.
var errOther = errors.New("holds another tree than its manifest describes")

// Has is Source.Has.
func (a Archives) Has(ctx context.Context, image wire.ImageRef) error {
	s, err := a.open(ctx, http.MethodHead, a.urls(image))
	if err == nil {
		s.Close()
	}
	return unknown(ctx, a.Args, image, err)
}

// Copy is Source.Copy.
func (a Archives) Copy(ctx context.Context, image wire.ImageRef, to Target) (Received, error) {
	received, err := a.Tree(ctx, to, a.urls(image)...)
	return received, unknown(ctx, a.Args, image, err)
}

// Tree brings the tree in the archive at the first of the URLs that the server
// has. When the archive is replaced on the server meanwhile it begins anew.
func (t Transfer) Tree(ctx context.Context, to Target, urls ...string) (Received, error) {
	stale := map[string]bool{} // left by unfinished tries
	var published *manifest.Manifest
	for try := 1; ; try++ {
		want, got, err := t.unpack(ctx, urls, to)
		again := errors.Is(err, ErrReplaced) ||
			errors.Is(err, errOther) && (published == nil || len(manifest.Diff(published, want)) > 0)
		if !again || try == tries {
			received := Received{Manifest: cmp.Or(want, got), Compared: true}
			if err == nil {
				err = removeStale(to.Dir, stale, received.Manifest)
			}
			return received, err
		}
		published = want
		if got != nil {
			for i := range got.Entries {
				stale[got.Entries[i].Path] = true
			}
		}
		t.log().Warn(err.Error() + ", starting again")
	}
}

// unpack streams the archive to the disk. It answers what is published, if
// anything, and what came, also after an error.
func (t Transfer) unpack(ctx context.Context, urls []string, to Target) (want, got *manifest.Manifest, err error) {
	s, err := t.open(ctx, http.MethodGet, urls)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	o := archive.Options{SplitLinks: to.SplitLinks}
	if want, err = t.published(ctx, s.shown); err != nil {
		return nil, nil, err
	}
	switch {
	case want != nil:
		if err := to.Accept(want, s.shown); err != nil {
			return want, nil, err
		}
		o.MaxBytes = max(want.TotalBytes(), 1)
	case to.Proven:
		return nil, nil, fmt.Errorf("there is no manifest beside %s, which would prove it: put the one there that was made with it", s.shown)
	default:
		t.log().Warn(fmt.Sprintf("there is no manifest beside %s: nothing proves that the archive is what was published", s.shown))
	}
	if s.size > 0 && to.Progress != nil {
		s.watch = to.Progress(s.size)
	}
	if got, err = extract(ctx, s, to.Dir, o); err != nil || want == nil {
		return want, got, err
	}
	if wrong := otherContent(want, got); len(wrong) > 0 {
		err = fmt.Errorf("%s %w, in %d places: %s", s.shown, errOther, len(wrong), manifest.Summary(wrong))
	}
	return want, got, err
}

// urls are where an archive may be: beside its version's other roles, or directly
// in HPATH.
func (a Archives) urls(image wire.ImageRef) []string {
	archive := image.Archive()
	return []string{a.Args.ArchiveURL(archive), a.Args.ArchiveURL(path.Base(archive))}
}

// published brings the manifest beside the archive; nil when there is none.
func (t Transfer) published(ctx context.Context, archive string) (*manifest.Manifest, error) {
	text, err := t.Fetch(ctx, strings.TrimSuffix(archive, path.Ext(archive))+".mtree", manifest.MaxTextBytes)
	if errors.Is(err, ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readManifest(bytes.NewReader(text))
}

func readManifest(r io.Reader) (*manifest.Manifest, error) {
	m, err := manifest.Read(r)
	if err != nil {
		return nil, fmt.Errorf("manifest of the tree: %w", err)
	}
	return m, nil
}

// extract unpacks a stream to its end, behind which nothing but padding may be.
func extract(ctx context.Context, s *Stream, root string, o archive.Options) (m *manifest.Manifest, err error) {
	defer func() {
		// The stream knows better than the unpackers why it ended.
		if s.err != nil {
			err = s.err
		} else if err != nil {
			err = fmt.Errorf("%s: %w", s.shown, err)
		}
	}()
	tarred, err := archive.Open(s)
	if err != nil {
		return nil, err
	}
	defer tarred.Close()
	if m, err = archive.Extract(ctx, tarred, root, o); err != nil {
		return m, err
	}
	const padding = 1 << 20
	n, err := io.Copy(io.Discard, io.LimitReader(tarred, padding))
	if err == nil && n == padding {
		err = errors.New("there is more behind the end of the archive")
	}
	return m, err
}

// otherContent lists where two trees differ in more than attributes, which
// Apply can set.
func otherContent(want, got *manifest.Manifest) []manifest.Difference {
	return slices.DeleteFunc(manifest.Diff(want, got), func(d manifest.Difference) bool {
		switch d.Attribute {
		case manifest.AttrMissing, manifest.AttrExtra, manifest.AttrType, manifest.AttrSize, manifest.AttrContent, manifest.AttrLink, manifest.AttrLinks:
			return false
		}
		return true
	})
}

// removeStale removes what unfinished tries left and the tree does not have.
func removeStale(dir string, stale map[string]bool, m *manifest.Manifest) error {
	var gone []string
	for p := range stale {
		if _, ok := m.Lookup(p); !ok {
			gone = append(gone, p)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	slices.Sort(gone)
	for _, p := range slices.Backward(gone) { // what is in a directory before it
		err := root.Remove(p)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
			continue // a directory that the script made or mounted
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s, which a replaced archive held: %w", filepath.Join(dir, p), err)
		}
	}
	return nil
}

// Stream is a file of any web server that is read from its beginning to its end.
// It must be closed.
type Stream struct {
	download
	shown string // the URL
	watch func(bytes int64)
}

// Open asks for the first of the URLs that the server has. When there is none,
// the error is ErrMissing and names all.
func (t Transfer) Open(ctx context.Context, urls ...string) (*Stream, error) {
	return t.open(ctx, http.MethodGet, urls)
}

func (t Transfer) open(ctx context.Context, method string, urls []string) (*Stream, error) {
	var missing []error
	for _, u := range urls {
		at, err := url.Parse(u)
		if err != nil {
			return nil, err
		}
		s := t.stream(ctx, method, u, at)
		if err = s.open(ctx); err == nil {
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
	s := &Stream{shown: shown, watch: t.Progress}
	wait := t.wait(u.Host, func() int64 { return s.at })
	s.download = download{client: web, method: method, url: u, size: -1, silence: cmp.Or(t.Silence, time.Minute), describe: s.sentence}
	s.wait = func(cause error) error {
		var silent *silentError
		if errors.As(cause, &silent) {
			s.silence = min(2*s.silence, maxSilence)
		}
		return wait.Pause(ctx, cause)
	}
	s.progress = func(at int64) {
		wait.Reset()
		if s.watch != nil {
			s.watch(at)
		}
	}
	s.skipped = func(n int64) {
		t.log().Warn(fmt.Sprintf("%s sends the file from its beginning again, passing over %d MB", u.Host, n/1e6))
	}
	return s
}

// sentence makes the sentence of an answer.
func (s *Stream) sentence(err error) error {
	var status *statusError
	var other *rangeError
	switch {
	case errors.Is(err, errChanged):
		return fmt.Errorf("%s %w", s.shown, ErrReplaced)
	case errors.As(err, &other):
		return fmt.Errorf("%s: asked for the bytes from %d on, the server answered with range %.80q", s.shown, other.at, other.got)
	case !errors.As(err, &status):
		return err
	case status.missing():
		return fmt.Errorf("%s %w", s.shown, ErrMissing)
	case status.temporary():
		return fmt.Errorf("HTTP status %s", status.status)
	case status.code >= 300 && status.code < 400:
		return fmt.Errorf("%s: HTTP status %s to %.200q, which is not followed", s.shown, status.status, status.location)
	}
	return fmt.Errorf("%s: HTTP status %s", s.shown, status.status)
}

// Fetch reads a file of at most limit bytes from a web server.
func (t Transfer) Fetch(ctx context.Context, url string, limit int64) ([]byte, error) {
	for try := 1; ; try++ {
		text, err := t.fetchOnce(ctx, url, limit)
		if !errors.Is(err, ErrReplaced) || try == tries {
			return text, err
		}
		t.log().Warn(err.Error() + ", starting again")
	}
}

func (t Transfer) fetchOnce(ctx context.Context, url string, limit int64) ([]byte, error) {
	s, err := t.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	text, err := io.ReadAll(io.LimitReader(s, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s %w %d bytes", url, errTooMuch, limit)
	}
	return text, err
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
