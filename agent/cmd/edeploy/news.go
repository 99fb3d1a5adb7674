package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"edeploy/agent/internal/client"
	"edeploy/agent/internal/detect"
	"edeploy/agent/internal/installed"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// unheardPath holds the newest report of an upgrade or a rollback until the
// server has heard how it ended. It is there before the step begins: what a
// power cut takes away is told after the next start, by edeploy report.
const unheardPath = "/var/lib/edeploy/unheard"

// news is what the machine's server hears of an upgrade or a rollback, so that
// the operator's list of machines says what they are. Nothing depends on it: a
// server that does not answer is a warning. A nil *news tells nobody.
type news struct {
	program
	ctx    context.Context
	client client.Client
	file   string // unheardPath
	turn   *os.File
	report wire.Report
	began  time.Time
	silent bool // the server did not answer
	barred bool // it takes no reports, as the original's
}

// tells begins a step that leads to an image. Only the running machine has
// news, and only when it knows its server.
func (p program) tells(ctx context.Context, machine installed.Machine, conf wire.Installed, step wire.Step, to wire.ImageRef) *news {
	if !p.hasNews(machine, conf) {
		return nil
	}
	is, err := p.whoIs(ctx)
	if err != nil {
		fmt.Fprintf(p.stderr, "edeploy: the server is not told: %v\n", err)
		return nil
	}
	n := p.news(ctx, machine, conf, wire.Report{Machine: is, Profile: conf.Profile, Step: step, Image: to})
	if n.turn, err = takeTurn(n.file, unix.LOCK_SH); err != nil {
		fmt.Fprintf(p.stderr, "edeploy: the server is not told: %v\n", err)
		return nil
	}
	n.say(wire.StatusStarted, fmt.Sprintf("%s to %s", conf.Image, to.Version))
	return n
}

func (p program) hasNews(machine installed.Machine, conf wire.Installed) bool {
	return conf.Serv != "" && (machine.Root == "/" || p.identity != nil)
}

func (p program) whoIs(ctx context.Context) (wire.Identity, error) {
	if p.identity != nil {
		return *p.identity, nil
	}
	hw, err := detect.Hardware(ctx, nil)
	return hw.Identity(), err
}

func (p program) news(ctx context.Context, machine installed.Machine, conf wire.Installed, report wire.Report) *news {
	args := wire.DefaultBootArgs()
	args.Serv, args.HTTPPort = conf.Serv, conf.HTTPPort
	return &news{program: p, ctx: context.WithoutCancel(ctx), client: client.Client{Args: args},
		file: machine.Path(unheardPath), report: report, began: time.Now()}
}

// takeTurn keeps edeploy report from taking a step that is under way for one
// that was interrupted. It locks the directory of the file, until the turn is
// closed or the process ends.
func takeTurn(file string, how int) (*os.File, error) {
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

// over ends the turn. What the server has not heard by then is left to the
// service that tells it after a start, too.
func (n *news) over() {
	if n == nil {
		return
	}
	n.turn.Close()
	if n.silent && !n.barred && n.file == unheardPath {
		_ = exec.Command("systemctl", "start", "--no-block", "edeploy-report.service").Run()
	}
}

// done says what the step came to.
func (n *news) done(message string) { n.say(wire.StatusDone, message) }

// failed says why it came to nothing.
func (n *news) failed(cause error) { n.say(wire.StatusFailed, cause.Error()) }

// say keeps the sentence, and sends it unless the server did not answer before.
func (n *news) say(status wire.Status, message string) {
	if n == nil || n.barred {
		return
	}
	n.report.Status, n.report.Message, n.report.Seconds = status, message, time.Since(n.began).Seconds()
	if status == wire.StatusStarted {
		n.report.Seconds = 0
	}
	err := n.keep()
	if !n.silent {
		unsent := n.send()
		n.silent = unsent != nil
		err = errors.Join(err, unsent)
	}
	if err != nil {
		fmt.Fprintf(n.stderr, "%sedeploy: the server is not told: %v\n", clearLine(n.terminal), err)
	}
}

// keep writes the report down until it is heard.
func (n *news) keep() error {
	var text bytes.Buffer
	if err := wire.EncodeReport(&text, n.report); err != nil {
		return err
	}
	return renameio.WriteFile(n.file, text.Bytes(), 0o600)
}

// send tells the server, and forgets what it has heard of a step that ended,
// and what it will not hear.
func (n *news) send() error {
	err := n.client.Report(n.ctx, n.report)
	var refused *client.Refused
	n.barred = errors.As(err, &refused) && !refused.Temporary()
	if n.barred || err == nil && n.report.Status != wire.StatusStarted {
		err = errors.Join(err, os.Remove(n.file))
	}
	return err
}

// unheard is the news that the server has not heard; nil when there is none, or
// when the step is under way: then it has its own say.
func (p program) unheard(ctx context.Context, machine installed.Machine, conf wire.Installed) (*news, error) {
	n := p.news(ctx, machine, conf, wire.Report{})
	if _, err := os.Lstat(n.file); errors.Is(err, fs.ErrNotExist) || !p.hasNews(machine, conf) {
		return nil, nil
	}
	turn, err := takeTurn(n.file, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n.turn = turn
	if n.report, err = readReport(n.file); err != nil {
		n.over()
		return nil, err
	}
	return n, nil
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
