package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"edeploy/agent/internal/client"
	"edeploy/agent/internal/detect"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// pendingPath holds the newest report of an upgrade or a rollback until the
// server has heard how it ended. It is there before the step begins: what a
// power cut takes away is told after the next start, by edeploy report.
const pendingPath = "/var/lib/edeploy/unheard"

// report is what the machine's server hears of an upgrade or a rollback, so that
// the operator's list of machines says what they are. Nothing depends on it: a
// server that does not answer is a warning. A nil *report tells nobody.
type report struct {
	wire.Report
	ctx        context.Context
	log        *slog.Logger
	client     client.Client
	file       string   // pendingPath
	lock       *os.File // of the directory of file
	began      time.Time
	unanswered bool // the server did not answer
	refused    bool // it takes no reports, as the original's
}

// begin reports a step that leads to an image. Only the running machine
// reports, and only when it knows its server.
func (s System) begin(ctx context.Context, conf wire.Installed, step wire.Step, to wire.ImageRef) *report {
	if !s.reports(conf) {
		return nil
	}
	is, err := s.identify(ctx)
	r := s.report(ctx, conf, wire.Report{Machine: is, Profile: conf.Profile, Step: step, Image: to})
	if err == nil {
		r.lock, err = lockDir(r.file, unix.LOCK_SH)
	}
	if err != nil {
		s.Log.Warn(fmt.Sprintf(notTold, err))
		return nil
	}
	r.tell(wire.StatusStarted, fmt.Sprintf("%s to %s", conf.Image, to.Version))
	return r
}

const notTold = "the server is not told: %v"

func (s System) reports(conf wire.Installed) bool {
	return conf.Serv != "" && (s.Root == "/" || s.Identity != nil)
}

func (s System) identify(ctx context.Context) (wire.Identity, error) {
	if s.Identity != nil {
		return *s.Identity, nil
	}
	return detect.Identity(ctx)
}

func (s System) report(ctx context.Context, conf wire.Installed, about wire.Report) *report {
	args := wire.DefaultBootArgs()
	args.Serv, args.HTTPPort = conf.Serv, conf.HTTPPort
	return &report{Report: about, ctx: context.WithoutCancel(ctx), log: s.Log, client: client.Client{Args: args},
		file: s.Path(pendingPath), began: time.Now()}
}

// lockDir keeps edeploy report from taking a step that is under way for one
// that was interrupted. It locks the directory of the file, until that is
// closed or the process ends.
func lockDir(file string, how int) (*os.File, error) {
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(dir.Fd()), how)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	return dir, nil
}

// close lets go of the lock. What the server has not heard by then is left to the
// service that tells it after a start, too.
func (r *report) close() {
	if r == nil {
		return
	}
	r.lock.Close()
	if r.unanswered && !r.refused && r.file == pendingPath {
		_ = exec.Command("systemctl", "start", "--no-block", "edeploy-report.service").Run()
	}
}

func (r *report) done(message string) { r.tell(wire.StatusDone, message) }

func (r *report) failed(cause error) { r.tell(wire.StatusFailed, cause.Error()) }

// tell keeps the sentence, and sends it unless the server did not answer before.
func (r *report) tell(status wire.Status, message string) {
	if r == nil || r.refused {
		return
	}
	r.Status, r.Message, r.Seconds = status, message, time.Since(r.began).Seconds()
	if status == wire.StatusStarted {
		r.Seconds = 0
	}
	err := r.keep()
	if !r.unanswered {
		unsent := r.send()
		r.unanswered = unsent != nil
		err = errors.Join(err, unsent)
	}
	if err != nil {
		r.log.Warn(fmt.Sprintf(notTold, err))
	}
}

// keep writes the report down until it is heard.
func (r *report) keep() error {
	var text bytes.Buffer
	if err := wire.EncodeReport(&text, r.Report); err != nil {
		return err
	}
	return renameio.WriteFile(r.file, text.Bytes(), 0o600)
}

// send tells the server, and forgets what it has heard of a step that ended,
// and what it will not hear.
func (r *report) send() error {
	err := r.client.Report(r.ctx, r.Report)
	var refused *client.Refused
	r.refused = errors.As(err, &refused) && !refused.Temporary()
	if r.refused || err == nil && r.Status != wire.StatusStarted {
		err = errors.Join(err, os.Remove(r.file))
	}
	return err
}

// ReportLater tells the server what it has not heard; nil when that is nothing,
// or the step is under way: then it has its own say.
func (s System) ReportLater(ctx context.Context, conf wire.Installed) (*wire.Report, error) {
	r := s.report(ctx, conf, wire.Report{})
	if _, err := os.Lstat(r.file); errors.Is(err, fs.ErrNotExist) || !s.reports(conf) {
		return nil, nil
	}
	var err error
	r.lock, err = lockDir(r.file, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.close()
	if r.Report, err = readReport(r.file); err != nil {
		return nil, err
	}
	switch status, err := s.Transaction().Status(); {
	case err != nil:
		return nil, err
	case status.Changing():
		return nil, interrupted(status)
	}
	r.Report = ended(r.Report, conf.Image)
	return &r.Report, r.send()
}

func readReport(name string) (wire.Report, error) {
	file, err := os.Open(name)
	if err != nil {
		return wire.Report{}, err
	}
	defer file.Close()
	report, err := wire.DecodeReport(file)
	if err != nil {
		return report, fmt.Errorf("%s: %w", name, err)
	}
	return report, nil
}

// ended is a report of a step that was begun and did not live to say how it
// ended: what the machine is now tells.
func ended(report wire.Report, is wire.ImageRef) wire.Report {
	switch {
	case report.Status != wire.StatusStarted:
	case is == report.Image:
		report.Status, report.Message = wire.StatusDone, "complete when it was interrupted"
	default:
		report.Status, report.Message = wire.StatusFailed, fmt.Sprintf("interrupted; this machine is %s as before", is)
	}
	return report
}
