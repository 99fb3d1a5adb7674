// Package upgrade makes an installed machine another version of its role, and
// the version before again. Upgrade and Rollback are the steps in order;
// agent/README.md lists those of an upgrade.
//
// It writes, besides what package transaction does:
//
//	/var/lib/edeploy/VERSION/  the metadata of the upgrade to it
//	/var/lib/edeploy/unheard   what the server has not heard of it
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"edeploy/agent/internal/bootguard"
	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/transaction"
	"edeploy/server/wire"
)

// System is an installed machine with what its upgrades need.
type System struct {
	installed.Machine

	NoGuard  bool           // go on although GRUB cannot be told to start the recovery
	Release  string         // of the running kernel; "": ask it
	Patience time.Duration  // with a server that does not answer; 0: 5 min
	Identity *wire.Identity // who this machine is; nil: look, when the machine is this one

	Log    *slog.Logger          // gets warnings
	Notify func(sentence string) // is told that the server is waited for, and that it is back

	// Compare is called when the disk is read: progress is told of its bytes, and
	// over is called at the end.
	Compare func() (progress func(done, total int64), over func())
}

// Console is told how an upgrade or a rollback goes, by one goroutine at a time.
type Console interface {
	// Planned is told what will be done, before anything changes, and answers
	// where the output of scripts goes. Rollbacks have no plan.
	Planned(*Preparation) (scripts io.Writer, err error)

	// Step is transaction.Machine.Progress.
	Step(step transaction.Step, done, total int64)

	// Changed is told that the transaction ended, before the server is.
	Changed(err error)
}

// Outcome is what an upgrade came to.
type Outcome struct {
	transaction.Result
	WireBytes int64 `json:"wire_bytes"` // of content and manifest, with all headers, in both directions
}

func (o Outcome) String() string {
	return fmt.Sprintf("Upgraded to %s in %.2f s: %d new, %d replaced, %d attributes only, %d deleted; %d files of %.1f MB fetched (%.1f MB on the wire), %d of %.1f MB copied; the tree changed for %.2f s",
		o.To, o.Total.Seconds(), o.Created, o.Replaced, o.Changed, o.Deleted,
		o.FetchedFiles, float64(o.FetchedBytes)/1e6, float64(o.WireBytes)/1e6, o.CopiedFiles, float64(o.CopiedBytes)/1e6, o.Changing.Seconds())
}

// Upgrade makes the machine the version to of its role. The error says what
// the machine is afterwards; CannotLook: it could not be found out what to do.
func (s System) Upgrade(ctx context.Context, to string, console Console) (Outcome, error) {
	conf, err := s.Conf()
	if err != nil {
		return Outcome{}, CannotLook{err}
	}
	work := s.Transaction()
	if err := atRest(work); err != nil {
		return Outcome{}, err
	}
	dir, err := s.metadataDir()
	if err != nil {
		return Outcome{}, err
	}
	defer os.RemoveAll(dir)
	p, err := s.Prepare(ctx, conf, to, dir)
	if err != nil {
		return Outcome{}, err
	}
	defer p.Close()
	request, err := p.request(console)
	if err != nil {
		return Outcome{}, err
	}
	report := s.begin(ctx, conf, wire.StepUpgrade, p.To)
	defer report.close()
	work.Progress = console.Step
	result, err := work.Upgrade(ctx, request)
	console.Changed(err)
	if err != nil {
		err = s.explain(ctx, conf.Image, err)
		report.failed(err)
		return Outcome{}, err
	}
	outcome := Outcome{result, p.files.Bytes()}
	report.done(outcome.String())
	return outcome, nil
}

// Transaction is what changes the machine.
func (s System) Transaction() transaction.Machine {
	work := transaction.Machine{Root: s.Root, Log: s.Log}
	if !s.NoGuard {
		work.Guard = bootguard.Guard{Root: s.Root, Release: s.Release, Log: s.Log}
	}
	return work
}

// CannotLook is wrapped when it could not even be found out what an upgrade
// would do.
type CannotLook struct{ Cause error }

func (e CannotLook) Error() string { return e.Cause.Error() }
func (e CannotLook) Unwrap() error { return e.Cause }

// ErrNothingChanged is the error of a command that ^C or SIGTERM ended early.
var ErrNothingChanged = errors.New("interrupted; nothing changed")

var errInterrupted = errors.New("this upgrade was interrupted: end it")

// Stopped tells whether an error is the end of its context.
func Stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

// explain completes the error of an upgrade or a rollback: what is the machine
// now?
func (s System) explain(ctx context.Context, was wire.ImageRef, cause error) error {
	status, err := s.Transaction().Status()
	if err != nil {
		return cause
	}
	if status.Changing() {
		return fmt.Errorf("%w: the machine is between two versions, end this with edeploy recover", cause)
	}
	if Stopped(ctx, cause) {
		if !errors.Is(cause, transaction.ErrUndone) {
			return ErrNothingChanged
		}
		cause = fmt.Errorf("interrupted; %w", transaction.ErrUndone)
	}
	if conf, err := s.Conf(); err == nil && conf.Image == was {
		return fmt.Errorf("%w; this machine is %s as before", cause, was)
	}
	return cause
}

// atRest refuses early what the transaction would refuse after all the
// comparing.
func atRest(work transaction.Machine) error {
	status, err := work.Status()
	switch {
	case err != nil:
		return CannotLook{err}
	case status.Running != 0:
		return fmt.Errorf("%w: process %d", transaction.ErrBusy, status.Running)
	}
	return wholeVersion(status)
}

// wholeVersion is an error when the tree may be neither of two versions.
func wholeVersion(status transaction.Status) error {
	switch {
	case !status.Changing():
		return nil
	case status.Running != 0:
		return fmt.Errorf("process %d is changing this machine from %s to %s: wait until it is done", status.Running, status.From, status.To.Version)
	}
	return interrupted(status)
}

func interrupted(status transaction.Status) error {
	return fmt.Errorf("%s to %s: %w with edeploy recover", status.From, status.To.Version, errInterrupted)
}

// Undisturbed reads the disk, which must be one version meanwhile. Who may not
// see whether it is may not see all of the disk either, and read says so.
func Undisturbed(work transaction.Machine, read func() error) error {
	before, err := work.Status()
	if errors.Is(err, fs.ErrPermission) {
		return read()
	}
	if err == nil {
		err = wholeVersion(before)
	}
	if err != nil {
		return CannotLook{err}
	}
	found := read()
	after, err := work.Status()
	if err == nil && !after.Changed.Equal(before.Changed) {
		err = errors.New("an upgrade went on meanwhile: look again when it is done")
	}
	if err != nil {
		return CannotLook{err}
	}
	return found
}
