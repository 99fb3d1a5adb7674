package rack

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/integration/lab"
)

// prepared is the disk of an appliance that holds the given images. It is
// made once per build and shared by all stories, which start from overlays of
// it: bringing a tree to an emulated appliance takes longer than most stories.
func prepared(ctx context.Context, o Options) (string, error) {
	dir := filepath.Join(o.Out, "lab")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	key, err := inputs(o)
	if err != nil {
		return "", err
	}
	disk := filepath.Join(dir, "prepared-"+key+".raw")
	if _, err := os.Stat(disk); err == nil {
		return disk, nil
	}
	if err := removeAll(filepath.Join(dir, "prepared-*")); err != nil {
		return "", err
	}
	o.Dir = filepath.Join(dir, "prepare")
	if err := os.RemoveAll(o.Dir); err != nil {
		return "", err
	}
	if err := prepare(ctx, o, disk); err != nil {
		return "", fmt.Errorf("prepare an appliance: %w", err)
	}
	return disk, os.RemoveAll(o.Dir)
}

func removeAll(pattern string) error {
	old, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// inputs names what a prepared disk was made of.
func inputs(o Options) (string, error) {
	accel, err := lab.Accel()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, accel)
	files := []string{filepath.Join(o.Out, "appliance.img")}
	for _, ref := range o.Images {
		files = append(files, filepath.Join(o.Out, "install", ref.Archive()))
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return "", fmt.Errorf("%w: make image role builds it", err)
		}
		fmt.Fprintln(h, file, info.Size(), info.ModTime().UnixNano())
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// permPartition is where the appliance keeps everything, and permImages where
// it keeps its trees there.
const (
	permPartition = 4
	permImages    = "edeploy/images"
	permConf      = "edeploy/edeploy.conf"
)

// prepare makes the disk. Only root can keep trees with files of many owners
// on this host; for others an appliance does it, which takes minutes.
func prepare(ctx context.Context, o Options, disk string) error {
	if os.Getuid() == 0 {
		return prepareHere(ctx, o, disk)
	}
	return prepareThere(ctx, o, disk)
}

// prepareHere lets an edeployd on this host take the images in, and makes what
// it wrote the appliance's first /perm.
func prepareHere(ctx context.Context, o Options, disk string) error {
	perm := filepath.Join(o.Dir, "perm")
	if err := os.CopyFS(perm, os.DirFS(filepath.Join(o.Out, "..", "appliance", "perm"))); err != nil {
		return err
	}
	if err := setKernelArgs(filepath.Join(perm, permConf)); err != nil {
		return err
	}
	d, err := StartDaemon(ctx, o.Out, o.Dir, filepath.Join(perm, permImages))
	if err != nil {
		return err
	}
	for _, ref := range o.Images {
		if _, err := d.Ctl(ctx, "push", filepath.Join(o.Out, "install", ref.Archive())); err != nil {
			return errors.Join(err, d.Stop())
		}
	}
	if err := d.Stop(); err != nil {
		return err
	}
	scratch := disk + ".new"
	if err := lab.Clone(ctx, filepath.Join(o.Out, "appliance.img"), scratch); err != nil {
		return err
	}
	if err := lab.Populate(ctx, scratch, permPartition, "perm", perm); err != nil {
		return err
	}
	return os.Rename(scratch, disk)
}

// setKernelArgs gives machines what their accelerator wants: the agent's kernel
// and, between the bars, the installed one.
func setKernelArgs(conf string) error {
	text, err := os.ReadFile(conf)
	if err != nil {
		return err
	}
	accel, err := lab.Accel()
	if err != nil {
		return err
	}
	return os.WriteFile(conf, []byte(withKernelArgs(string(text), accel.KernelArgs())), 0o644)
}

func withKernelArgs(conf, args string) string {
	if args == "" {
		return conf
	}
	return regexp.MustCompile(`(?m)^ARGS *=.*$`).ReplaceAllString(conf, "$0 | "+args+" |")
}

// prepareThere pushes the images to a fresh appliance and switches it off.
func prepareThere(ctx context.Context, o Options, disk string) (err error) {
	images := o.Images
	o.Images = nil
	r, err := Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			r.Report(os.Stderr)
		}
		err = errors.Join(err, r.Close())
	}()
	for _, ref := range images {
		if err := r.Push(ctx, ref); err != nil {
			return err
		}
	}
	if err := r.ShutDown(ctx, r.Appliance); err != nil {
		return err
	}
	return lab.Flatten(r.disk, disk)
}

// ShutDown presses a machine's power button and waits until it is off, so that
// its file systems are clean.
func (r *Rack) ShutDown(ctx context.Context, vm *lab.VM) error {
	ctx, cancel := lab.Deadline(ctx, time.Minute)
	defer cancel()
	if err := vm.PowerDown(ctx); err != nil {
		return err
	}
	return vm.Wait(ctx)
}

// base is what the disk of a rack's appliance starts from.
func base(ctx context.Context, o Options) (string, error) {
	if len(o.Images) > 0 {
		return prepared(ctx, o)
	}
	image := filepath.Join(o.Out, "appliance.img")
	if _, err := os.Stat(image); err != nil {
		return "", fmt.Errorf("%w: make image builds it", err)
	}
	return image, nil
}

func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", file, err)
	}
	return func() { f.Close() }, nil
}
