package install

import (
	"cmp"
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

// installation is one installation under way: what is known about the machine so
// far, and whom to tell.
type installation struct {
	env     Env
	args    wire.BootArgs
	console *console
	log     *slog.Logger
	logFile *os.File
	client  *client.Client
	reports *client.Reporter
	stop    context.CancelFunc // ends the reporter

	online   bool               // after network
	hardware wire.Hardware      // after detect
	machine  wire.Identity      // after detect
	profile  string             // after upload
	image    wire.ImageRef      // after configure
	foreign  []wire.ForeignDisk // when configure has failed because of them
	written  []wire.DiskID      // after configure, also when it failed
	bootDisk wire.DiskID        // after bootloader
	wiped    []wire.WipedDisk   // after the disks were erased, also when that has failed
	step     wire.Step          // that runs, or failed
	failure  error              // of the step
}

const logPath = "/log"

func newInstallation(ctx context.Context, env Env, args wire.BootArgs) (*installation, error) {
	log, err := os.OpenFile(filepath.Join(env.Root, logPath), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	in := &installation{env: env, args: args, logFile: log}
	in.console = &console{out: io.MultiWriter(env.Console, log), now: env.Now, start: env.Now()}
	in.log = in.logger("")
	in.console.printf("edeploy agent, protocol %d, kernel command line: %s", wire.Protocol, env.Cmdline)
	in.client = &client.Client{Args: args, Log: in.log, FirstPause: env.FirstPause, LongestPause: env.LongestPause, Patience: env.Patience}
	// The last reports are sent after ctx has ended, too.
	ctx, in.stop = context.WithCancel(context.WithoutCancel(ctx))
	in.reports = client.NewReporter(ctx, in.client)
	return in, nil
}

// end lets go of everything. The log of a machine that was restarted is gone
// with its memory.
func (in *installation) end() {
	in.stop()
	in.logFile.Close()
}

// logger returns a logger whose lines start with the step's name.
func (in *installation) logger(name string) *slog.Logger {
	h := lines{console: in.console}
	if in.args.Verbose {
		h.level = slog.LevelDebug
	}
	if name != "" {
		h.prefix = name + ": "
	}
	return slog.New(h)
}

// note tells the console, and the machine's history on the server.
func (in *installation) note(text string) {
	in.console.printf("%s: %s", in.step, text)
	in.report(wire.Report{Step: in.step, Status: wire.StatusNote, Message: text})
}

func (in *installation) report(r wire.Report) {
	in.reports.Send(in.complete(r))
}

// maxMessage keeps a report below wire.MaxReportBytes.
const maxMessage = 8 << 10

func (in *installation) complete(r wire.Report) wire.Report {
	r.Machine, r.Profile, r.Image = in.machine, in.profile, in.image
	r.Disks = in.written[:min(len(in.written), wire.MaxDisks)]
	if r.Status == wire.StatusDone || r.Status == wire.StatusFailed {
		r.Wiped, r.Foreign = in.wiped, in.foreign
	}
	if len(r.Message) > maxMessage {
		r.Message = r.Message[:maxMessage] + "..."
	}
	return r
}

// step runs one step: named, timed, reported. After a failure none runs.
func step[A, T any](ctx context.Context, in *installation, name wire.Step, from A, do func(context.Context, A, *slog.Logger) (T, error)) (result T) {
	if in.failure != nil {
		return result
	}
	in.step = name
	start := in.env.Now()
	in.console.printf("%s: started", name)
	in.report(wire.Report{Step: name, Status: wire.StatusStarted})
	result, err := do(ctx, from, in.logger(string(name)))
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		in.failure = fmt.Errorf("%s: %w", name, err)
		return result
	}
	seconds := in.env.Now().Sub(start).Seconds()
	in.console.printf("%s: done in %.1f s", name, seconds)
	in.report(wire.Report{Step: name, Status: wire.StatusDone, Seconds: seconds})
	return result
}

// reportInstalled tells the server that the machine is good, until it answers: from
// then on the machine boots its own disk.
func (in *installation) reportInstalled(ctx context.Context) {
	defer in.uploadLog(ctx)
	seconds := in.env.Now().Sub(in.console.start).Seconds()
	err := in.tellLast(ctx, wire.Report{BootDisk: in.bootDisk, Step: wire.StepReboot, Status: wire.StatusInstalled, Seconds: seconds})
	if err != nil {
		// The disk is good, with or without the server knowing.
		in.console.printf("the server does not know that this machine is installed (%v): it may be installed again when it boots from the network", err)
		return
	}
	in.console.printf("installed: role %s, profile %s, in %.1f s", in.image, in.profile, seconds)
}

// tellLast sends the report that all depends on, after all others, until the
// server has it.
func (in *installation) tellLast(ctx context.Context, r wire.Report) error {
	ctx, cancel := context.WithTimeout(ctx, in.messageTime(10*time.Minute))
	defer cancel()
	in.reports.Finish(ctx)
	return in.client.Deliver(ctx, in.complete(r))
}

func (in *installation) messageTime(otherwise time.Duration) time.Duration {
	if in.env.MessageTime > 0 {
		return in.env.MessageTime
	}
	return otherwise
}

// fail ends a failed installation: the sentence on the console, the report,
// what was reserved given back, the log uploaded, then ONFAILURE.
func (in *installation) fail(ctx context.Context, failure error) error {
	in.console.printf("FAILED: %v", failure)
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), in.messageTime(2*time.Minute))
	defer cancel()
	step := cmp.Or(in.step, wire.StepDevices)
	// The step is said once, beside the message.
	in.report(wire.Report{Step: step, Status: wire.StatusFailed, Message: strings.TrimPrefix(failure.Error(), string(step)+": ")})
	if in.online {
		in.finishReports(cleanup)
		in.giveBack(cleanup)
		in.uploadLog(cleanup)
	}
	if err := in.showFailure(ctx); err != nil {
		return err
	}
	return in.finish(ctx, in.args.OnFailure)
}

// finishReports lets the server hear why, before it hears that the machine has
// failed. It leaves time for saying that.
func (in *installation) finishReports(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, in.messageTime(2*time.Minute)/2)
	defer cancel()
	in.reports.Finish(ctx)
}

// giveBack tells the server that the profile was not installed; only then it
// can give its count to another machine (reference section 4.7).
func (in *installation) giveBack(ctx context.Context) {
	if in.profile == "" {
		return
	}
	if err := in.client.Failure(ctx, in.profile, in.hardware); err != nil {
		in.console.printf("the server was not told that profile %s failed: %v", in.profile, err)
		return
	}
	in.console.printf("gave profile %s back to the server", in.profile)
}

// showFailure leaves a failure on the screen for a while when the machine then goes down.
func (in *installation) showFailure(ctx context.Context) error {
	if in.args.OnFailure != "halt" && in.args.OnFailure != "reboot" {
		return nil
	}
	in.console.printf("ONFAILURE=%s in %s", in.args.OnFailure, in.env.FailureTime)
	t := time.NewTimer(in.env.FailureTime)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// finish does what ONSUCCESS or ONFAILURE says; anything unknown is a console.
func (in *installation) finish(ctx context.Context, action string) error {
	in.console.printf("%s", action)
	switch action {
	case "reboot":
		return in.env.Reboot()
	case "halt":
		return in.env.PowerOff()
	case "kexec":
		return in.env.Kexec()
	}
	if in.args.NoConsole {
		in.console.printf("NOCONSOLE is set: this machine waits for its power button")
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err := in.shell(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}
