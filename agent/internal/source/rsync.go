package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"edeploy/agent/internal/command"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Rsync are trees on an rsync server (RSERV, RSERV_PORT, RPATH).
//
// The rsync program is Debian's rsync: unlike the client of gokrazy/rsync it can
// write to a target with several mounted file systems. It is called with -a
// only: the server may be gokrazy/rsync, which refuses -H, -X, --numeric-ids,
// --timeout and --files-from. What -a does not carry, the manifest restores.
type Rsync struct {
	Transfer
	Args wire.BootArgs
}

// Has is Source.Has.
func (r Rsync) Has(ctx context.Context, image wire.ImageRef) error {
	_, err := r.manifest(ctx, image)
	return err
}

// Copy is Source.Copy. The content is not compared on the way.
func (r Rsync) Copy(ctx context.Context, image wire.ImageRef, to Target) (Received, error) {
	text, err := r.manifest(ctx, image)
	if err != nil {
		return Received{}, err
	}
	m, err := readManifest(bytes.NewReader(text))
	if err != nil {
		return Received{}, err
	}
	url := r.Args.RsyncURL(image.Tree())
	if err := to.Accept(m, url); err != nil {
		return Received{}, err
	}
	r.Progress = to.Progress(m.TotalBytes())
	return Received{Manifest: m}, r.Dir(ctx, url, to.Dir)
}

func (r Rsync) manifest(ctx context.Context, image wire.ImageRef) ([]byte, error) {
	dir, err := os.MkdirTemp("", "edeploy-manifest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "mtree")
	if err := r.File(ctx, r.Args.RsyncURL(image.Manifest()), file, manifest.MaxTextBytes); err != nil {
		return nil, unknown(ctx, r.Args, image, err)
	}
	return os.ReadFile(file)
}

// Dir copies the content of a directory, rsync://host:port/module/path, into
// dir, which exists. What is in dir already is completed; nothing is removed.
func (t Transfer) Dir(ctx context.Context, source, dir string) error {
	return t.copy(ctx, source, "/", dir+"/", 0)
}

// File copies one file of at most limit bytes to the path file.
func (t Transfer) File(ctx context.Context, source, file string, limit int64) error {
	return t.copy(ctx, source, "", file, limit)
}

// copy tries until it is done, refused, or out of patience.
func (t Transfer) copy(ctx context.Context, source, slash, target string, limit int64) error {
	u, err := url.Parse(source)
	if err != nil || u.Scheme != "rsync" || u.Port() == "" {
		return fmt.Errorf("transfer: %q is not an rsync://host:port/path URL", source)
	}
	a := &attempts{Transfer: t, host: u.Host, path: u.EscapedPath() + slash, target: target, limit: limit}
	a.silence = cmp.Or(t.Silence, time.Minute)
	done := a.watch()
	defer done()
	return a.untilDone(ctx)
}

// attempts is one copy and how it went so far.
type attempts struct {
	Transfer
	host    string // host:port
	path    string // /module/path
	target  string
	limit   int64
	silence time.Duration
	bytes   atomic.Int64
	gained  int64 // bytes of the attempts that received more than greetings
}

func (a *attempts) untilDone(ctx context.Context) error {
	wait, most := a.wait(a.host, a.bytes.Load), a.onDisk()
	return wait.Do(ctx, func() (final bool, err error) {
		err = a.once(ctx)
		if held := a.onDisk(); held > most {
			most = held
			wait.Reset()
		}
		return !errors.Is(err, errLost), err
	})
}

func (a *attempts) onDisk() int64 {
	if a.OnDisk != nil {
		return a.OnDisk()
	}
	return a.gained
}

// watch reports progress until the function it returns is called.
func (a *attempts) watch() (stop func()) {
	if a.Progress == nil {
		return func() {}
	}
	quit, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(cmp.Or(a.Tick, time.Second))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				a.Progress(a.bytes.Load())
			case <-quit:
				a.Progress(a.bytes.Load())
				return
			}
		}
	}()
	return func() { close(quit); <-over }
}

// once runs rsync once, through a relay of its own.
func (a *attempts) once(ctx context.Context) error {
	r, err := newRelay(a.host, a.silence, a.limit, &a.bytes)
	if err != nil {
		return err
	}
	relayCtx, stop := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() { r.run(relayCtx); close(over) }()
	before := a.bytes.Load()
	out, err := a.Run(ctx, a.command(r.address()))
	stop()
	<-over
	received := a.bytes.Load() - before
	if received > answerBytes {
		a.gained += received
	}
	return a.judge(out, err, r.ended(), received)
}

func (a *attempts) command(relay string) command.Command {
	return command.Command{
		Argv: []string{
			cmp.Or(a.Rsync, "rsync"), "-a",
			// What was received of a file when the wire is cut is kept, so
			// that the next attempt goes on from there.
			"--partial",
			"rsync://" + relay + a.path, a.target,
		},
		Shown: "rsync -a rsync://" + a.host + a.path + " " + a.target,
		// Proxies and users of the build machine are no business of ours.
		Env: []string{"RSYNC_PROXY=", "LC_ALL=C"},
	}
}

// errLost marks an attempt that another one may repair.
var errLost = errors.New("connection lost")

type lost struct{ cause error }

func (l lost) Error() string        { return l.cause.Error() }
func (l lost) Unwrap() error        { return l.cause }
func (l lost) Is(target error) bool { return target == errLost }

// judge decides what rsync's end means. Exit codes are those of rsync(1).
func (a *attempts) judge(out []byte, err, relayErr error, received int64) error {
	if err == nil {
		return nil
	}
	said := string(out)
	switch code := command.ExitCode(err); {
	case errors.Is(relayErr, errTooMuch):
		return relayErr
	case isMissing(code, said, received):
		err := fmt.Errorf("%s on %s %w", strings.Trim(a.path, "/"), a.host, ErrMissing)
		if a.bytes.Load() > answerBytes {
			return lost{err} // it was there before: the server is on its way up
		}
		return err
	case code == 23 || code == 24:
		// Some attributes or files were not transferred. The manifest decides
		// what that means.
		a.log().Warn("rsync: " + command.LastLines(out))
		return nil
	case errors.Is(relayErr, errSilent):
		a.silence = min(2*a.silence, maxSilence)
		return lost{relayErr}
	case relayErr != nil:
		return lost{relayErr}
	case code == 5 && strings.Contains(said, "access denied"):
		return err
	case code == 5 || code == 10 || code == 12 || code == 30 || code == 35:
		return lost{err}
	}
	return err
}

// answerBytes is more than a server sends before the first file.
const answerBytes = 1024

// isMissing recognises what the two servers say about a path or a module that
// they do not have. rsync names it; gokrazy/rsync sends an empty list, of
// which the client says nothing but that some files were not transferred.
func isMissing(code int, said string, received int64) bool {
	switch code {
	case 5:
		return strings.Contains(said, "@ERROR: Unknown module")
	case 23:
		for line := range strings.Lines(said) {
			if strings.Contains(line, "[sender]") && strings.Contains(line, "No such file or directory") && received < answerBytes {
				return true
			}
			if !strings.HasPrefix(line, "rsync error: some files/attrs were not transferred") {
				return false
			}
		}
		return received < answerBytes
	}
	return false
}
