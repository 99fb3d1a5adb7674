// Package install installs a machine, step by step: Run brings a
// blank machine to the point where it boots its own disk.
//
// The steps are those of wire.Step: devices, network, detect, upload,
// configure, transfer, verify, overlay, bootloader, reboot. Each one takes what
// the ones before it found out and returns its own result. Each is named and
// timed on the console and in the log, and reported to the server.
package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/configure"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/overlay"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Run installs the machine and does what ONSUCCESS says. When a step
// fails it tells the console and the server why, gives back what the server
// had reserved, uploads the log, does what ONFAILURE says and returns the
// failure. On a real machine it comes back only from a console.
func Run(ctx context.Context, env Env) error {
	env.setDefaults()
	args, argsErr := wire.ParseBootArgs(env.Cmdline)
	in, err := newInstallation(ctx, env, args)
	if err != nil {
		return err
	}
	defer in.end()
	if argsErr != nil {
		in.log.Warn(argsErr.Error())
	}
	if err := in.install(ctx); err != nil {
		return errors.Join(err, in.fail(ctx, err))
	}
	return in.finish(ctx, args.OnSuccess)
}

// Rescue brings the network up and offers a console. Nothing on the machine is
// changed.
func Rescue(ctx context.Context, env Env) error {
	env.setDefaults()
	args, _ := wire.ParseBootArgs(env.Cmdline)
	in, err := newInstallation(ctx, env, args)
	if err != nil {
		return err
	}
	defer in.end()
	in.console.say("rescue: nothing is installed; the network comes up, then a shell")
	if err := env.Devices(ctx, in.logger("devices")); err != nil {
		in.console.say("devices: %v", err)
	}
	up := make(chan error, 1)
	go func() { up <- env.Network(ctx, args, in.logger("network")) }()
	select {
	case err := <-up:
		if err != nil {
			in.console.say("network: %v", err)
		}
	case <-time.After(rescueWait):
		in.console.say("network: not complete after %s; the shell does not wait, the network goes on", rescueWait)
	}
	return env.Shell(ctx)
}

// rescueWait is how long a rescue shell waits for the network, which waits for
// the server.
const rescueWait = 2 * time.Minute

// install walks the steps.
func (in *installation) install(ctx context.Context) error {
	if err := checkArgs(in.args); err != nil {
		return err
	}
	if _, err := step(ctx, in, wire.StepDevices, nothing(in.env.Devices)); err != nil {
		return err
	}
	if _, err := step(ctx, in, wire.StepNetwork, in.network); err != nil {
		return err
	}
	hw, err := step(ctx, in, wire.StepDetect, in.detect)
	if err != nil {
		return err
	}
	conf, err := step(ctx, in, wire.StepUpload, with(in.upload, hw))
	if err != nil {
		return err
	}
	plan, err := step(ctx, in, wire.StepConfigure, with(in.configure, conf))
	if err != nil {
		return err
	}
	tree, err := step(ctx, in, wire.StepTransfer, with(in.transfer, plan))
	if err != nil {
		return err
	}
	if _, err := step(ctx, in, wire.StepVerify, nothing(func(ctx context.Context, log *slog.Logger) error {
		return in.verify(ctx, tree, log)
	})); err != nil {
		return err
	}
	files, err := step(ctx, in, wire.StepOverlay, with(in.overlay, tree))
	if err != nil {
		return err
	}
	defer files.Close()
	if _, err := step(ctx, in, wire.StepBootloader, nothing(func(ctx context.Context, log *slog.Logger) error {
		return in.bootloader(ctx, tree, files, log)
	})); err != nil {
		return err
	}
	if _, err := step(ctx, in, wire.StepReboot, nothing(func(ctx context.Context, log *slog.Logger) error {
		return in.finalize(ctx, tree, files, log)
	})); err != nil {
		return err
	}
	in.reportInstalled(ctx)
	return nil
}

// with is a step that goes on from the result of another.
func with[A, T any](do func(context.Context, A, *slog.Logger) (T, error), from A) func(context.Context, *slog.Logger) (T, error) {
	return func(ctx context.Context, log *slog.Logger) (T, error) { return do(ctx, from, log) }
}

// checkArgs refuses before anything is touched what would be refused at the end.
func checkArgs(args wire.BootArgs) error {
	switch args.OnSuccess {
	case "reboot", "halt", "console", "kexec":
	default:
		return fmt.Errorf("kernel parameter ONSUCCESS=%s: want reboot, halt, console or kexec", args.OnSuccess)
	}
	return nil
}

// nothing is a step that has no result.
func nothing(do func(context.Context, *slog.Logger) error) func(context.Context, *slog.Logger) (struct{}, error) {
	return func(ctx context.Context, log *slog.Logger) (struct{}, error) { return struct{}{}, do(ctx, log) }
}

func (in *installation) network(ctx context.Context, log *slog.Logger) (struct{}, error) {
	err := in.env.Network(ctx, in.args, log)
	in.online = err == nil
	return struct{}{}, err
}

// detect describes the hardware, and says who this machine is from now on.
func (in *installation) detect(ctx context.Context, log *slog.Logger) (wire.Hardware, error) {
	hw, err := in.env.Detect(ctx, log)
	if err != nil {
		return nil, err
	}
	in.hardware = hw
	in.identify(hw.Identity())
	log.Info(fmt.Sprintf("%d facts", len(hw)))
	f, err := os.Create(in.path("/hw.json"))
	if err != nil {
		return nil, err
	}
	return hw, errors.Join(wire.EncodeHardware(f, hw), f.Close())
}

func (in *installation) upload(ctx context.Context, hw wire.Hardware, log *slog.Logger) (wire.Configuration, error) {
	conf, err := in.client.Configuration(ctx, hw)
	in.profile = conf.Profile
	if err == nil {
		log.Info("the profile is " + conf.Profile)
	}
	return conf, err
}

// layout is what the configuration script decided and mounted.
type layout struct {
	configure.Result
	mounts []disk.Mount // at and below /chroot
}

func (in *installation) configure(ctx context.Context, conf wire.Configuration, log *slog.Logger) (layout, error) {
	host := configure.Host{Root: in.env.Root, Run: in.env.Run(in.console), Log: in.console, Args: in.args}
	host.Offered = func(ctx context.Context, args wire.BootArgs, image wire.ImageRef) error {
		return in.offered(ctx, args, image, log)
	}
	res, err := configure.Run(ctx, host, conf)
	if err != nil {
		return layout{}, err
	}
	if err := checkArgs(res.Args); err != nil {
		return layout{}, err
	}
	in.image, in.args = res.Image, res.Args
	mounts, err := disk.Below(in.env.MountInfo, in.chroot())
	if err != nil {
		return layout{}, err
	}
	if len(mounts) == 0 || mounts[0].Point != in.chroot() {
		return layout{}, fmt.Errorf("%s.configure: nothing is mounted on %s: the script must mount the new root file system there", conf.Profile, in.chroot())
	}
	log.Info(fmt.Sprintf("role %s on %s", res.Image, res.Disk))
	return layout{res, mounts}, nil
}

// tree is a role tree on this machine's disks, and what it should be.
type tree struct {
	layout
	manifest *manifest.Manifest
	file     string // the manifest's text
	written  bool   // by this agent, which compared the content with the manifest on the way
}

// bootloader makes the disk boot.
func (in *installation) bootloader(ctx context.Context, t tree, files *overlay.Tree, log *slog.Logger) error {
	loader := bootloader.Loader{
		Root: in.chroot(), Disk: t.Disk, Arguments: bootArguments(t.Result), Firmware: in.env.Firmware,
		Run:       in.env.Run(in.console),
		LinkDisks: func() error { return in.env.LinkDisks(ctx, log) },
		Bind:      in.env.Bind,
	}
	written, err := loader.Install(ctx)
	if err != nil {
		return err
	}
	if err := files.Note(written...); err != nil {
		return err
	}
	head, err := in.env.DiskHead(t.Disk)
	if err != nil {
		log.Warn("the server does not hear which disk boots", "disk", t.Disk, "error", err)
	}
	in.bootDisk = wire.ReadDiskID(head)
	if in.args.OnSuccess != "kexec" {
		return nil
	}
	kernel, err := bootloader.ChooseKernel(in.chroot(), in.args.KexecKernel, in.env.Cmdline)
	if err != nil {
		return err
	}
	log.Info("kexec: " + kernel.String())
	return in.env.LoadKernel(kernel)
}

// bootArguments are the kernel parameters that the installed system gets
// (reference section 1.5): what the | | block of this kernel's command line
// holds, what the script said, and the cloud-init data source.
func bootArguments(res configure.Result) string {
	words := append(strings.Fields(res.Args.Kept), strings.Fields(res.GrubOptions)...)
	if url := res.Args.MetadataURL; url != "" {
		words = append(words, "ds=nocloud-net;s="+url)
	}
	return strings.Join(words, " ")
}

// chroot is where the installed system is mounted meanwhile.
func (in *installation) chroot() string { return in.path("/chroot") }

// path is a path of the ramdisk.
func (in *installation) path(name string) string { return filepath.Join(in.env.Root, name) }
