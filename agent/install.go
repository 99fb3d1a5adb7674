// Package agent is the journey of one machine, told in order: Install brings a
// blank machine to the point where it boots its own disk.
//
// The steps are those of wire.Step: devices, network, detect, upload,
// configure, transfer, verify, overlay, bootloader, reboot. Each one takes what
// the ones before it found out and returns its own result. Each is named and
// timed on the console and in the log, and reported to the server.
package agent

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
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Install installs the machine and does what ONSUCCESS says. When a step
// fails it tells the console and the server why, gives back what the server
// had reserved, uploads the log, does what ONFAILURE says and returns the
// failure. On a real machine it comes back only from a console.
func Install(ctx context.Context, env Env) error {
	env.setDefaults()
	args, argsErr := wire.ParseBootArgs(env.Cmdline)
	j, err := newJourney(ctx, env, args)
	if err != nil {
		return err
	}
	defer j.end()
	if argsErr != nil {
		j.log.Warn(argsErr.Error())
	}
	if err := j.install(ctx); err != nil {
		return errors.Join(err, j.giveUp(ctx, err))
	}
	return j.act(ctx, args.OnSuccess)
}

// Rescue brings the network up and offers a console. Nothing on the machine is
// changed.
func Rescue(ctx context.Context, env Env) error {
	env.setDefaults()
	args, _ := wire.ParseBootArgs(env.Cmdline)
	j, err := newJourney(ctx, env, args)
	if err != nil {
		return err
	}
	defer j.end()
	j.console.say("rescue: nothing is installed; the network comes up, then a shell")
	if err := env.Devices(ctx, j.logger("devices")); err != nil {
		j.console.say("devices: %v", err)
	}
	up := make(chan error, 1)
	go func() { up <- env.Network(ctx, args, j.logger("network")) }()
	select {
	case err := <-up:
		if err != nil {
			j.console.say("network: %v", err)
		}
	case <-time.After(rescueWait):
		j.console.say("network: not complete after %s; the shell does not wait, the network goes on", rescueWait)
	}
	return env.Shell(ctx)
}

// rescueWait is how long a rescue shell waits for the network, which waits for
// the server.
const rescueWait = 2 * time.Minute

// install walks the steps.
func (j *journey) install(ctx context.Context) error {
	if err := checkArgs(j.args); err != nil {
		return err
	}
	if _, err := step(ctx, j, wire.StepDevices, nothing(j.env.Devices)); err != nil {
		return err
	}
	if _, err := step(ctx, j, wire.StepNetwork, j.network); err != nil {
		return err
	}
	hw, err := step(ctx, j, wire.StepDetect, j.detect)
	if err != nil {
		return err
	}
	conf, err := step(ctx, j, wire.StepUpload, func(ctx context.Context, log *slog.Logger) (wire.Configuration, error) {
		return j.upload(ctx, hw, log)
	})
	if err != nil {
		return err
	}
	plan, err := step(ctx, j, wire.StepConfigure, func(ctx context.Context, log *slog.Logger) (layout, error) {
		return j.configure(ctx, conf, log)
	})
	if err != nil {
		return err
	}
	tree, err := step(ctx, j, wire.StepTransfer, func(ctx context.Context, log *slog.Logger) (tree, error) {
		return j.transfer(ctx, plan, log)
	})
	if err != nil {
		return err
	}
	if _, err := step(ctx, j, wire.StepVerify, func(ctx context.Context, log *slog.Logger) (struct{}, error) {
		return struct{}{}, j.verify(ctx, tree, log)
	}); err != nil {
		return err
	}
	files, err := step(ctx, j, wire.StepOverlay, func(ctx context.Context, log *slog.Logger) (*laid, error) {
		return j.overlay(ctx, tree, log)
	})
	if err != nil {
		return err
	}
	defer files.Close()
	if _, err := step(ctx, j, wire.StepBootloader, func(ctx context.Context, log *slog.Logger) (struct{}, error) {
		return struct{}{}, j.bootloader(ctx, tree, files, log)
	}); err != nil {
		return err
	}
	if _, err := step(ctx, j, wire.StepReboot, func(ctx context.Context, log *slog.Logger) (struct{}, error) {
		return struct{}{}, j.leave(ctx, tree, files, log)
	}); err != nil {
		return err
	}
	j.announce(ctx)
	return nil
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

func (j *journey) network(ctx context.Context, log *slog.Logger) (struct{}, error) {
	err := j.env.Network(ctx, j.args, log)
	j.online = err == nil
	return struct{}{}, err
}

// detect describes the hardware, and says who this machine is from now on.
func (j *journey) detect(ctx context.Context, log *slog.Logger) (wire.Hardware, error) {
	hw, err := j.env.Detect(ctx, log)
	if err != nil {
		return nil, err
	}
	j.hardware = hw
	j.identify(hw.Identity())
	log.Info(fmt.Sprintf("%d facts", len(hw)))
	f, err := os.Create(j.path("/hw.json"))
	if err != nil {
		return nil, err
	}
	return hw, errors.Join(wire.EncodeHardware(f, hw), f.Close())
}

func (j *journey) upload(ctx context.Context, hw wire.Hardware, log *slog.Logger) (wire.Configuration, error) {
	conf, err := j.client.Configuration(ctx, hw)
	j.profile = conf.Profile
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

func (j *journey) configure(ctx context.Context, conf wire.Configuration, log *slog.Logger) (layout, error) {
	host := configure.Host{Root: j.env.Root, Run: j.env.Run(j.console), Log: j.console, Args: j.args}
	host.Offered = func(ctx context.Context, args wire.BootArgs, image wire.ImageRef) error {
		return j.offered(ctx, args, image, log)
	}
	res, err := configure.Run(ctx, host, conf)
	if err != nil {
		return layout{}, err
	}
	if err := checkArgs(res.Args); err != nil {
		return layout{}, err
	}
	j.image, j.args = res.Image, res.Args
	mounts, err := disk.Below(j.env.MountInfo, j.chroot())
	if err != nil {
		return layout{}, err
	}
	if len(mounts) == 0 || mounts[0].Point != j.chroot() {
		return layout{}, fmt.Errorf("%s.configure: nothing is mounted on %s: the script must mount the new root file system there", conf.Profile, j.chroot())
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
func (j *journey) bootloader(ctx context.Context, t tree, files *laid, log *slog.Logger) error {
	loader := bootloader.Loader{
		Root: j.chroot(), Disk: t.Disk, Arguments: bootArguments(t.Result), Firmware: j.env.Firmware,
		Run:       j.env.Run(j.console),
		LinkDisks: func() error { return j.env.LinkDisks(ctx, log) },
		Bind:      j.env.Bind,
	}
	written, err := loader.Install(ctx)
	if err != nil {
		return err
	}
	if err := files.Note(written...); err != nil {
		return err
	}
	head, err := j.env.DiskHead(t.Disk)
	if err != nil {
		log.Warn("the server does not hear which disk boots", "disk", t.Disk, "error", err)
	}
	j.bootDisk = wire.ReadDiskID(head)
	if j.args.OnSuccess != "kexec" {
		return nil
	}
	kernel, err := bootloader.ChooseKernel(j.chroot(), j.args.KexecKernel, j.env.Cmdline)
	if err != nil {
		return err
	}
	log.Info("kexec: " + kernel.String())
	return j.env.LoadKernel(kernel)
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
func (j *journey) chroot() string { return j.path("/chroot") }

// path is a path of the ramdisk.
func (j *journey) path(name string) string { return filepath.Join(j.env.Root, name) }
