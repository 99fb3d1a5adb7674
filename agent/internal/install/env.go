package install

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"edeploy/agent/internal/addon"
	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/command"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/drive"
	"edeploy/agent/internal/wipe"
	"edeploy/server/wire"
)

// Env is the machine that an installation runs on: everything that it cannot
// have on a laptop. cmd/agent fills it with the packages machine, network and
// detect. The functions are required; the other fields have defaults.
type Env struct {
	Cmdline string    // the kernel command line
	Root    string    // the directory that stands for "/"; default "/"
	Console io.Writer // what the operator sees; nil is silence

	Devices   func(context.Context, *slog.Logger) error                // once, first
	Network   func(context.Context, wire.BootArgs, *slog.Logger) error // once, after Devices
	Detect    func(context.Context, wire.BootArgs, *slog.Logger) (wire.Hardware, error)
	LinkDisks func(context.Context, *slog.Logger) error // makes /dev/disk/by-uuid; after the disks are ready

	Reboot   func() error
	PowerOff func() error
	Shell    func(context.Context) error // an interactive shell; returns when it ends
	// LogIn lets those in by ssh who have one of the keys (authorized_keys), until
	// ctx ends; nil: nobody. said is how: what to type, and the machine's own key.
	LogIn      func(ctx context.Context, keys []byte) (said string, err error)
	LoadKernel func(bootloader.Kernel) error
	Kexec      func() error // starts the loaded kernel

	// Disks is how the script chooses disks, and how those that it does not name are
	// kept from it. Nil: neither.
	Disks *drive.Machine

	// OpenDisk opens a disk that is to be erased; nil: wipe.Open.
	OpenDisk func(device string) (wipe.Disk, error)

	// Run makes the runner of commands whose output goes to log. Default command.On.
	Run       func(log io.Writer) command.Runner
	Bind      func(root string) (undo func() error, err error) // default bootloader.Bind
	Firmware  func() bootloader.Firmware                       // asked after Devices, without which nobody knows; default bootloader.RunningFirmware
	DiskHead  func(disk string) ([]byte, error)                // its first wire.DiskHead bytes; default: read them
	MountInfo string                                           // default /proc/self/mountinfo
	Sys       string                                           // where sysfs is; default /sys
	Unmount   func(mountinfo, root string) error               // default disk.Unmount
	Rsync     string                                           // the program; default "rsync"
	Dmesg     func() ([]byte, error)                           // the kernel's messages; default: ask the kernel

	FreeMemory func() (int64, error) // in bytes; default addon.FreeMemory

	Now          func() time.Time
	FirstPause   time.Duration // before the second attempt of anything; default 1 s
	LongestPause time.Duration // default 10 s
	Patience     time.Duration // how long to wait for a server that is away; default 1 h
	MessageTime  time.Duration // how long the last messages may take; default 10 min when good, 2 min when not
	FailureTime  time.Duration // how long a failure stays on the screen before the machine goes down; default 10 s, reference section 0.2
}

func (e *Env) setDefaults() {
	defaultTo(&e.Root, "/")
	defaultTo(&e.MountInfo, "/proc/self/mountinfo")
	defaultTo(&e.Sys, "/sys")
	defaultTo(&e.FailureTime, 10*time.Second)
	defaultTo(&e.Patience, time.Hour)
	if e.Console == nil {
		e.Console = io.Discard
	}
	if e.Run == nil {
		e.Run = command.On
	}
	if e.Unmount == nil {
		e.Unmount = disk.Unmount
	}
	if e.Firmware == nil {
		e.Firmware = bootloader.RunningFirmware
	}
	if e.DiskHead == nil {
		e.DiskHead = diskHead
	}
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Dmesg == nil {
		e.Dmesg = KernelMessages
	}
	if e.FreeMemory == nil {
		e.FreeMemory = addon.FreeMemory
	}
}

func diskHead(disk string) ([]byte, error) {
	f, err := os.Open(disk)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, wire.DiskHead)
	_, err = io.ReadFull(f, head)
	return head, err
}

func defaultTo[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
