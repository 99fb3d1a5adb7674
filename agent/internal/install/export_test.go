package install

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"edeploy/agent/internal/configure"
	"edeploy/agent/internal/disk"
	"edeploy/server/wire"
)

// NewConsoleLogger is the console and a step's logger on it.
func NewConsoleLogger(w io.Writer, now func() time.Time, step string) *slog.Logger {
	in := &installation{console: &console{out: w, now: now, start: now()}}
	return in.logger(step)
}

// Meter shows meter to the tests.
type Meter struct{ m meter }

// NewMeter makes one for so many bytes.
func NewMeter(total int64) *Meter { return &Meter{meter{total: total}} }

// At is meter.at.
func (m *Meter) At(now time.Time, bytes int64) (string, bool) { return m.m.at(now, bytes) }

// Bring does the steps transfer and verify: it brings an image's tree to the
// directory chroot below root.
func Bring(ctx context.Context, args wire.BootArgs, image wire.ImageRef, root string) error {
	env := Env{Root: root, Console: io.Discard}
	env.setDefaults()
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	in, err := newInstallation(ctx, env, args)
	if err != nil {
		return err
	}
	defer in.end()
	plan := layout{configure.Result{Image: image}, []disk.Mount{{Point: in.chroot()}}}
	if err := os.Mkdir(in.chroot(), 0o755); err != nil {
		return err
	}
	log := in.logger("")
	t, err := in.transfer(ctx, plan, log)
	if err != nil {
		return err
	}
	_, err = in.verify(ctx, t, log)
	return errors.Join(err, ctx.Err())
}
