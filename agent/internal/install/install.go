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
	"slices"
	"strings"
	"time"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/configure"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/drive"
	"edeploy/agent/internal/rootdriver"
	"edeploy/server/wire"
)

// Run installs the machine and does what ONSUCCESS says. When a step
// fails it tells the console and the server why, gives back what the server
// had reserved, uploads the log, does what ONFAILURE says and returns the
// failure. On a real machine it comes back only from a console.
//
// With RESCUE=1 it brings the network up and offers a console; nothing on the
// machine is changed. With WIPE=1 it erases the disks, if the server says so.
func Run(ctx context.Context, env Env) error {
	env.setDefaults()
	args, argsErr := wire.ParseBootArgs(env.Cmdline)
	in, err := newInstallation(ctx, env, args)
	if err != nil {
		return err
	}
	defer in.end()
	if slices.Contains(strings.Fields(env.Cmdline), wire.BootRescue.Mode()) {
		return in.rescue(ctx)
	}
	if argsErr != nil {
		in.log.Warn(argsErr.Error())
	}
	if slices.Contains(strings.Fields(env.Cmdline), wire.BootWipe.Mode()) {
		return in.wipe(ctx)
	}
	if err := in.install(ctx); err != nil {
		return errors.Join(err, in.fail(ctx, err))
	}
	return in.finish(ctx, in.args.OnSuccess)
}

func (in *installation) rescue(ctx context.Context) error {
	in.console.printf("rescue: nothing is installed; the network comes up, then a shell")
	if err := in.env.Devices(ctx, in.logger("devices")); err != nil {
		in.console.printf("devices: %v", err)
	}
	up := make(chan error, 1)
	go func() {
		err := in.env.Network(ctx, in.args, in.logger("network"))
		if err == nil {
			in.layAddons(ctx, in.logger("rescue"))
		}
		up <- err
	}()
	select {
	case err := <-up:
		if err != nil {
			in.console.printf("network: %v", err)
		}
	case <-time.After(rescueWait):
		in.console.printf("network: not complete after %s; the shell does not wait, the network goes on", rescueWait)
	}
	return in.shell(ctx)
}

// rescueWait is how long a rescue shell waits for the network, which waits for
// the server.
const rescueWait = 2 * time.Minute

// install walks the steps, each from a value to the next.
func (in *installation) install(ctx context.Context) error {
	if err := checkArgs(in.args); err != nil {
		return err
	}
	step(ctx, in, wire.StepDevices, none{}, in.devices)
	step(ctx, in, wire.StepNetwork, none{}, in.network)
	hardware := step(ctx, in, wire.StepDetect, none{}, in.detect)
	configuration := step(ctx, in, wire.StepUpload, hardware, in.upload)
	disks := step(ctx, in, wire.StepConfigure, configuration, in.configure)
	copied := step(ctx, in, wire.StepTransfer, disks, in.transfer)
	verified := step(ctx, in, wire.StepVerify, copied, in.verify)
	system := step(ctx, in, wire.StepOverlay, verified, in.overlay)
	defer system.close()
	bootable := step(ctx, in, wire.StepBootloader, system, in.bootloader)
	step(ctx, in, wire.StepReboot, bootable, in.finalize)
	if in.failure == nil {
		in.reportInstalled(ctx)
	}
	return in.failure
}

// none is what a step takes or makes that takes or makes nothing.
type none struct{}

// checkArgs refuses before anything is touched what would be refused at the end.
func checkArgs(args wire.BootArgs) error {
	switch args.OnSuccess {
	case "reboot", "halt", "console", "kexec":
		return nil
	}
	return fmt.Errorf("kernel parameter ONSUCCESS=%s: want reboot, halt, console or kexec", args.OnSuccess)
}

func (in *installation) devices(ctx context.Context, _ none, log *slog.Logger) (none, error) {
	return none{}, in.env.Devices(ctx, log)
}

func (in *installation) network(ctx context.Context, _ none, log *slog.Logger) (none, error) {
	err := in.env.Network(ctx, in.args, log)
	in.online = err == nil
	return none{}, err
}

// detect describes the hardware, and says who this machine is from now on. It
// may take the tools of add-ons.
func (in *installation) detect(ctx context.Context, _ none, log *slog.Logger) (wire.Hardware, error) {
	skipped := in.layAddons(ctx, log)
	hw, err := in.env.Detect(ctx, in.args, log)
	if err != nil {
		return nil, err
	}
	hw = append(hw, skipped...)
	in.hardware, in.machine = hw, hw.Identity()
	in.reports.Identify(in.machine)
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

type layout struct {
	configure.Result
	mounts []disk.Mount // at and below /chroot
}

// splitLinks tells that a hard link of the tree may be two files. A tree has
// nothing on an EFI system partition.
func (l layout) splitLinks() bool {
	return len(l.mounts) > 1 && slices.ContainsFunc(l.mounts[1:], func(m disk.Mount) bool { return m.Type != "vfat" })
}

func (in *installation) configure(ctx context.Context, conf wire.Configuration, log *slog.Logger) (layout, error) {
	output := &bounded{to: in.console, left: maxScriptOutput}
	defer output.end()
	host := configure.Host{Root: in.env.Root, Run: in.env.Run(output), Log: output, Args: in.args, Firmware: string(in.env.Firmware()),
		Limit: time.Duration(in.args.ScriptMinutes) * time.Minute}
	host.Offered = func(ctx context.Context, args wire.BootArgs, image wire.ImageRef) error {
		return in.source(args, nil, log).Has(ctx, image)
	}
	host.Addon = in.ramdisk(log).Lay
	host.Disks, host.Ours, host.Wipe, host.Note = in.env.Disks, conf.Disks, conf.Wipe, in.note
	res, err := configure.Run(ctx, host, conf)
	in.written = res.Written
	if foreign, is := errors.AsType[*configure.Foreign](err); is && foreign.Policy == wire.WipeAsk {
		in.foreign = foreign.Disks
		return layout{}, fmt.Errorf("%w; edeployctl wipe-anyway lets it go on, once", err)
	}
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
	if err := in.readOnly(mounts, res.Closed); err != nil {
		return layout{}, fmt.Errorf("%s.configure: %w", conf.Profile, err)
	}
	esps := bootloader.ESPs(mounts, in.chroot())
	if err := bootloader.CheckESPs(in.env.Firmware(), esps, in.chroot(), disk.Statfs); err != nil {
		return layout{}, fmt.Errorf("%s.configure: %w", conf.Profile, err)
	}
	log.Info(fmt.Sprintf("role %s on %s", res.Image, res.Disk))
	return layout{res, mounts}, nil
}

// readOnly refuses a mount that is read-only because no line named its disk:
// mount(8) only warns of that.
func (in *installation) readOnly(mounts []disk.Mount, closed []drive.Drive) error {
	for _, m := range mounts {
		if len(closed) == 0 || !slices.Contains(m.Options, "ro") && !slices.Contains(m.Super, "ro") {
			continue
		}
		on, err := in.env.Disks.Named(closed, m.Source)
		if err == nil && len(on) > 0 {
			return fmt.Errorf("%s is mounted read-only on %s: no line of the script names its disk %s", m.Source, m.Relative(in.chroot()), on[0])
		}
	}
	return nil
}

func (in *installation) bootloader(ctx context.Context, s system, log *slog.Logger) (system, error) {
	loader := bootloader.Loader{
		Root: in.chroot(), Disk: s.Disk, Arguments: bootArguments(s.Result), Firmware: in.env.Firmware(),
		Below: in.disksOf(disk.Holding(s.mounts, in.chroot(), "/boot/grub").Source, log),
		ESPs:  bootloader.ESPs(s.mounts, in.chroot()), Said: func(line string) { log.Info(line) },
		Run:       in.env.Run(in.console),
		LinkDisks: func() error { return in.env.LinkDisks(ctx, log) },
		Bind:      in.env.Bind,
	}
	written, err := loader.Install(ctx)
	if err != nil {
		return s, err
	}
	if err := s.files.Add(written...); err != nil {
		return s, err
	}
	if err := in.rootDriver(s.layout, log); err != nil {
		return s, err
	}
	head, err := in.env.DiskHead(s.Disk)
	if err != nil {
		log.Warn("the server does not hear which disk boots", "disk", s.Disk, "error", err)
	}
	in.bootDisk = wire.ReadDiskID(head)
	if err := loader.Mark(in.bootDisk); err != nil {
		return s, err
	}
	if in.args.OnSuccess != "kexec" {
		return s, nil
	}
	kernel, err := bootloader.ChooseKernel(in.chroot(), in.args.KexecKernel, in.env.Cmdline)
	if err != nil {
		return s, err
	}
	log.Info("kexec: " + kernel.String())
	return s, in.env.LoadKernel(kernel)
}

// disksOf are the disks with partitions that a block device is on: several of
// an array.
func (in *installation) disksOf(device string, log *slog.Logger) []string {
	disks, err := disk.Partitioned(in.env.Sys, device)
	if err != nil {
		log.Debug("which disks a device is on was not found out", "error", err)
	}
	return disks
}

// rootDriver refuses a tree whose kernel would not find its root on this machine:
// that is said here rather than by a kernel panic.
func (in *installation) rootDriver(l layout, log *slog.Logger) error {
	kernel, err := bootloader.ChooseKernel(in.chroot(), "", in.env.Cmdline)
	if err == nil {
		err = rootdriver.Check(in.env.Sys, l.mounts[0], rootdriver.Kernel{
			Root: in.chroot(), Release: strings.TrimPrefix(filepath.Base(kernel.Image), "vmlinuz-"), Initrd: kernel.Initrd})
		if !errors.Is(err, rootdriver.ErrUnknown) {
			return err
		}
	}
	log.Warn("whether the installed kernel has the root disk's drivers was not looked at", "error", err)
	return nil
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

func (in *installation) path(name string) string { return filepath.Join(in.env.Root, name) }
