package main

import (
	"context"
	"fmt"
	"time"

	"edeploy/agent/internal/client"
	"edeploy/agent/internal/detect"
	"edeploy/agent/internal/installed"
	"edeploy/server/wire"
)

// news is what the machine's server hears of an upgrade or a rollback, so that
// the operator's list of machines says what they are. Nothing depends on it: a
// server that does not answer is a warning. A nil *news tells nobody.
type news struct {
	program
	ctx    context.Context
	client client.Client
	report wire.Report
	began  time.Time
	silent bool // the server did not answer
}

// tells begins a step that leads to an image. Only the running machine has
// news, and only when it knows its server.
func (p program) tells(ctx context.Context, machine installed.Machine, conf wire.Installed, step wire.Step, to wire.ImageRef) *news {
	if conf.Serv == "" || machine.Root != "/" && p.identity == nil {
		return nil
	}
	is, err := p.whoIs(ctx)
	if err != nil {
		fmt.Fprintf(p.stderr, "edeploy: the server is not told: %v\n", err)
		return nil
	}
	args := wire.DefaultBootArgs()
	args.Serv, args.HTTPPort = conf.Serv, conf.HTTPPort
	n := &news{program: p, ctx: context.WithoutCancel(ctx), client: client.Client{Args: args}, began: time.Now(),
		report: wire.Report{Machine: is, Profile: conf.Profile, Step: step, Image: to}}
	n.send(wire.StatusStarted, fmt.Sprintf("%s to %s", conf.Image, to.Version))
	return n
}

func (p program) whoIs(ctx context.Context) (wire.Identity, error) {
	if p.identity != nil {
		return *p.identity, nil
	}
	hw, err := detect.Hardware(ctx, nil)
	return hw.Identity(), err
}

// done says what the step came to.
func (n *news) done(message string) { n.send(wire.StatusDone, message) }

// failed says why it came to nothing.
func (n *news) failed(cause error) { n.send(wire.StatusFailed, cause.Error()) }

func (n *news) send(status wire.Status, message string) {
	if n == nil || n.silent {
		return
	}
	n.report.Status, n.report.Message, n.report.Seconds = status, message, time.Since(n.began).Seconds()
	if status == wire.StatusStarted {
		n.report.Seconds = 0
	}
	if err := n.client.Report(n.ctx, n.report); err != nil {
		n.silent = true
		fmt.Fprintf(n.stderr, "%sedeploy: the server is not told: %v\n", clearLine(n.terminal), err)
	}
}
