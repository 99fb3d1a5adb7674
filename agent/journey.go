package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edeploy/agent/internal/client"
	"edeploy/server/wire"
)

// journey is one installation under way: what is known about the machine so
// far, and whom to tell.
type journey struct {
	env     Env
	args    wire.BootArgs
	console *console
	log     *slog.Logger
	logFile *os.File
	client  *client.Client
	reports *client.Reporter
	stop    context.CancelFunc // ends the reporter

	online   bool          // after network
	hardware wire.Hardware // after detect
	machine  wire.Identity // after detect
	profile  string        // after upload
	image    wire.ImageRef // after configure
	bootDisk wire.DiskID   // after bootloader
	failedAt wire.Step     // the step that failed
}

// logPath is the log of everything on the console.
const logPath = "/log"

func newJourney(ctx context.Context, env Env, args wire.BootArgs) (*journey, error) {
	log, err := os.OpenFile(filepath.Join(env.Root, logPath), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journey{env: env, args: args, logFile: log}
	j.console = &console{out: io.MultiWriter(env.Console, log), now: env.Now, start: env.Now()}
	j.log = j.logger("")
	j.console.say("edeploy agent, protocol %d, kernel command line: %s", wire.Protocol, env.Cmdline)
	j.client = &client.Client{Args: args, Log: j.log, FirstPause: env.FirstPause, LongestPause: env.LongestPause, Patience: env.Patience}
	// The last reports are sent after ctx has ended, too.
	ctx, j.stop = context.WithCancel(context.WithoutCancel(ctx))
	j.reports = client.NewReporter(ctx, j.client)
	return j, nil
}

// end lets go of everything. The log of a machine that was restarted is gone
// with its memory.
func (j *journey) end() {
	j.stop()
	j.logFile.Close()
}

// logger returns a logger whose lines start with the step's name.
func (j *journey) logger(name string) *slog.Logger {
	h := lines{console: j.console}
	if j.args.Verbose {
		h.level = slog.LevelDebug
	}
	if name != "" {
		h.prefix = name + ": "
	}
	return slog.New(h)
}

func (j *journey) identify(id wire.Identity) {
	j.machine = id
	j.reports.Identify(id)
}

// report tells the server; it never waits and never fails.
func (j *journey) report(r wire.Report) {
	j.reports.Send(j.complete(r))
}

// maxMessage keeps a report below wire.MaxReportBytes.
const maxMessage = 8 << 10

func (j *journey) complete(r wire.Report) wire.Report {
	r.Machine, r.Profile, r.Image = j.machine, j.profile, j.image
	if len(r.Message) > maxMessage {
		r.Message = r.Message[:maxMessage] + "..."
	}
	return r
}

// step runs one step: named, timed, reported.
func step[T any](ctx context.Context, j *journey, name wire.Step, do func(context.Context, *slog.Logger) (T, error)) (T, error) {
	start := j.env.Now()
	j.console.say("%s: started", name)
	j.report(wire.Report{Step: name, Status: wire.StatusStarted})
	result, err := do(ctx, j.logger(string(name)))
	if err == nil {
		err = context.Cause(ctx)
	}
	seconds := j.env.Now().Sub(start).Seconds()
	if err != nil {
		j.failedAt = name
		return result, fmt.Errorf("%s: %w", name, err)
	}
	j.console.say("%s: done in %.1f s", name, seconds)
	j.report(wire.Report{Step: name, Status: wire.StatusDone, Seconds: seconds})
	return result, nil
}

// announce tells the server that the machine is good, until it answers: from
// then on the machine boots its own disk.
func (j *journey) announce(ctx context.Context) {
	defer j.uploadLog(ctx)
	ctx, cancel := context.WithTimeout(ctx, j.goodbye(10*time.Minute))
	defer cancel()
	j.reports.Finish(ctx)
	seconds := j.env.Now().Sub(j.console.start).Seconds()
	err := j.client.Deliver(ctx, j.complete(wire.Report{BootDisk: j.bootDisk, Step: wire.StepReboot, Status: wire.StatusInstalled, Seconds: seconds}))
	if err != nil {
		// The disk is good, with or without the server knowing.
		j.console.say("the server does not know that this machine is installed (%v): it may be installed again when it boots from the network", err)
		return
	}
	j.console.say("installed: role %s, profile %s, in %.1f s", j.image, j.profile, seconds)
}

func (j *journey) goodbye(otherwise time.Duration) time.Duration {
	if j.env.GoodbyeTime > 0 {
		return j.env.GoodbyeTime
	}
	return otherwise
}

// giveUp ends a failed installation: the sentence on the console, the report,
// what was reserved given back, the log uploaded, then ONFAILURE.
func (j *journey) giveUp(ctx context.Context, failure error) error {
	j.console.say("FAILED: %v", failure)
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), j.goodbye(2*time.Minute))
	defer cancel()
	step := j.failedAt
	if step == "" {
		step = wire.StepDevices
	}
	// The step is said once, beside the message.
	j.report(wire.Report{Step: step, Status: wire.StatusFailed, Message: strings.TrimPrefix(failure.Error(), string(step)+": ")})
	if j.online {
		j.giveBack(cleanup)
		j.reports.Finish(cleanup)
		j.uploadLog(cleanup)
	}
	if err := j.look(ctx); err != nil {
		return err
	}
	return j.act(ctx, j.args.OnFailure)
}

// giveBack tells the server that the profile was not installed; only then it
// can give its count to another machine (reference section 4.7).
func (j *journey) giveBack(ctx context.Context) {
	if j.profile == "" {
		return
	}
	if err := j.client.Failure(ctx, j.profile, j.hardware); err != nil {
		j.console.say("the server was not told that profile %s failed: %v", j.profile, err)
		return
	}
	j.console.say("gave profile %s back to the server", j.profile)
}

// look leaves a failure on the screen for a while when the machine then goes down.
func (j *journey) look(ctx context.Context) error {
	if j.args.OnFailure != "halt" && j.args.OnFailure != "reboot" {
		return nil
	}
	j.console.say("ONFAILURE=%s in %s", j.args.OnFailure, j.env.LookTime)
	t := time.NewTimer(j.env.LookTime)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// act does what ONSUCCESS or ONFAILURE says; anything unknown is a console.
func (j *journey) act(ctx context.Context, action string) error {
	j.console.say("%s", action)
	switch action {
	case "reboot":
		return j.env.Reboot()
	case "halt":
		return j.env.PowerOff()
	case "kexec":
		return j.env.Kexec()
	}
	if j.args.NoConsole {
		j.console.say("NOCONSOLE is set: this machine waits for its power button")
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err := j.env.Shell(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}
