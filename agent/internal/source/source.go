// Package source brings the trees of images from servers: whole, by rsync or as
// archives, for installations; file by file over HTTP for upgrades. All go on as
// long as there is hope: when the wire is cut or the server is restarted, rsync
// skips what is complete, and a file of a web server goes on at the byte where it
// ended.
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/retry"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

var (
	// ErrMissing says that the server is there and does not have what was asked for.
	ErrMissing = errors.New("does not exist")

	// ErrReplaced says that a file of a web server was replaced by another while it
	// was read: what was received of the old one is of no use.
	ErrReplaced = errors.New("was replaced on the server meanwhile")

	errTooMuch = errors.New("sent more than")
)

// Manifests has the manifests of images, for upgrades: Files and Client.
type Manifests interface {
	Manifest(ctx context.Context, image wire.ImageRef) (*manifest.Manifest, error)
}

// Source has the trees of images, for installations: Rsync and Archives.
type Source interface {
	// Has is nil when the server has the image. The error is why not; it wraps
	// ErrMissing when the server was asked and says so.
	Has(ctx context.Context, image wire.ImageRef) error

	// Copy brings a tree. What is there already is completed; nothing of others is removed.
	Copy(ctx context.Context, image wire.ImageRef, to Target) (Received, error)
}

// Target is where a tree goes.
type Target struct {
	Dir        string
	SplitLinks bool // Dir lies on several file systems, where hard links cannot be
	Proven     bool // an archive without a manifest is refused

	// Accept sees the manifest before any content comes from the URL, and may refuse it.
	Accept func(m *manifest.Manifest, url string) error

	// Progress answers who is told how many bytes of a total came. Tree can do without.
	Progress func(total int64) func(bytes int64)
}

// Received is a tree that was copied.
type Received struct {
	Manifest *manifest.Manifest
	Compared bool // the content with the manifest, on the way
}

// Transfer is how to copy. Zero fields have the defaults named beside them.
type Transfer struct {
	Run   command.Runner
	Rsync string       // the program; default "rsync"
	Log   *slog.Logger // nil is silence

	Silence      time.Duration // a server that says nothing for so long is left; default 60 s, doubled after each time
	FirstPause   time.Duration // before the second attempt; default 1 s, doubled each time
	LongestPause time.Duration // default 10 s
	Patience     time.Duration // give up after so long without progress; default 1 h

	// Progress is told the number of bytes received so far; rsync's about once
	// per Tick (default 1 s), from another goroutine.
	Progress func(bytes int64)
	Tick     time.Duration

	// OnDisk says how much is on the disk: an attempt that left more there than
	// all before it was progress. Nil: an attempt that received more than
	// greetings was.
	OnDisk func() int64
}

// maxSilence bounds the doubling of Silence.
const maxSilence = 10 * time.Minute

func (t Transfer) log() *slog.Logger { return cmp.Or(t.Log, slog.New(slog.DiscardHandler)) }

// wait waits for a host, and says so; received counts the bytes from it.
func (t Transfer) wait(host string, received func() int64) *retry.Wait {
	return retry.Policy{First: t.FirstPause, Longest: t.LongestPause, Limit: t.Patience, Lacking: "progress",
		Tell: func(cause error, pause, without time.Duration) {
			t.log().Warn(fmt.Sprintf("waiting for %s (%v), next try in %s, %d MB received, no progress since %s",
				host, cause, pause.Round(time.Millisecond), received()/1e6, without.Round(time.Second)))
		}}.Start()
}
