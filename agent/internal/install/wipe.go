package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"edeploy/agent/internal/client"
	"edeploy/agent/internal/wipe"
	"edeploy/server/wire"
)

// wipe erases the disks of the machine, when the server says so right before, and
// restarts it. Until then nothing is changed.
func (in *installation) wipe(ctx context.Context) error {
	in.console.printf("wipe: nothing is installed; the disks of this machine are erased, if the server says so once more")
	step(ctx, in, wire.StepDevices, none{}, in.devices)
	step(ctx, in, wire.StepNetwork, none{}, in.network)
	step(ctx, in, wire.StepDetect, none{}, in.detect)
	err := in.failure
	if err == nil {
		err = in.erase(ctx)
	}
	if refused, is := errors.AsType[*client.Refused](err); is {
		return in.notWiped(ctx, refused)
	}
	if err != nil {
		return errors.Join(err, in.fail(ctx, err))
	}
	return in.finish(ctx, withoutSystem(in.args.OnSuccess))
}

// withoutSystem is what ONSUCCESS means for a machine that has no system.
func withoutSystem(onSuccess string) string {
	if onSuccess == "kexec" {
		return "reboot"
	}
	return onSuccess
}

// notWiped restarts a machine that is not to be wiped: the operator has taken the
// wish back, or meant another one.
func (in *installation) notWiped(ctx context.Context, refused *client.Refused) error {
	in.note("the server says no: " + refused.Error())
	told, cancel := context.WithTimeout(ctx, in.messageTime(2*time.Minute))
	defer cancel()
	in.reports.Finish(told)
	select {
	case <-time.After(in.env.FailureTime):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return in.finish(ctx, "reboot")
}

// erase asks the server, and erases the disks.
func (in *installation) erase(ctx context.Context) error {
	in.step = wire.StepWipe
	start := in.env.Now()
	in.report(wire.Report{Step: in.step, Status: wire.StatusStarted})
	order, err := in.client.OrderWipe(ctx, in.machine)
	if err != nil {
		return err
	}
	if !order.For(in.machine) {
		return fmt.Errorf("the server's answer is for machine %s (%s), and not for this one: nothing is erased", order.Machine, order.Name)
	}
	in.console.printf("wipe: the server says that the disks of this machine, %s (%s), are to be erased", order.Machine, order.Name)
	if in.wiped, err = in.eraseDisks(ctx); err != nil {
		return err
	}
	if err := wipe.Failed(in.wiped); err != nil {
		return err
	}
	in.reportWiped(ctx, in.env.Now().Sub(start))
	return nil
}

func (in *installation) eraseDisks(ctx context.Context) ([]wire.WipedDisk, error) {
	if in.env.Disks == nil {
		return nil, errors.New("nobody knows the disks of this machine")
	}
	drives, err := in.env.Disks.All()
	if err != nil {
		return nil, err
	}
	targets, left := wipe.Choose(drives)
	total := int64(0)
	for _, text := range slices.Concat(left, in.env.Disks.Undriven()) {
		in.note(text)
	}
	var hidden error
	for _, d := range targets {
		total += d.SizeBytes
		if d.Twin != "" {
			hidden = errors.Join(hidden, fmt.Errorf("the machine has a disk that the kernel does not show, and that is not erased: %s", d.Twin))
		}
	}
	host := wipe.Host{Run: in.env.Run(io.Discard), Open: in.env.OpenDisk, Note: in.note, Progress: in.progress(total), Every: cmp.Or(in.env.LongestPause, 5*time.Second)}
	return host.Erase(ctx, targets), cmp.Or(context.Cause(ctx), hidden)
}

// reportWiped tells the server that all is erased, until it answers: from then on
// it does not let the machine do it again.
func (in *installation) reportWiped(ctx context.Context, took time.Duration) {
	defer in.uploadLog(ctx)
	err := in.tellLast(ctx, wire.Report{Step: wire.StepWipe, Status: wire.StatusDone, Seconds: took.Seconds()})
	if err != nil {
		in.console.printf("the server does not know that the disks are erased (%v): they are erased again when the machine boots from the network", err)
		return
	}
	in.console.printf("wiped: %d disks in %.1f s", len(in.wiped), took.Seconds())
}
