// Command agent installs the machine it runs on. It is the first program that
// the initrd's init starts, and it needs nothing but that initrd.
//
// It obeys the kernel command line (agent/README.md lists the parameters;
// RESCUE=1 only brings the network up and offers a shell), writes everything it
// says to standard output and to /log, and ends by restarting the machine, by
// switching it off, or with a shell.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/detect"
	"edeploy/agent/internal/install"
	"edeploy/agent/internal/machine"
	"edeploy/agent/internal/network"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cmdline, err := readCmdline()
	if err != nil {
		return err
	}
	env := install.Env{
		Cmdline: cmdline, Console: os.Stdout,
		Devices: machine.Prepare, Network: network.Up, Detect: detect.Hardware, LinkDisks: machine.LinkDisks,
		Reboot: machine.Reboot, PowerOff: machine.PowerOff, Shell: machine.Console,
		LoadKernel: bootloader.Load, Kexec: bootloader.Start,
	}
	if slices.Contains(strings.Fields(cmdline), "RESCUE=1") {
		return install.Rescue(ctx, env)
	}
	return install.Run(ctx, env)
}

// readCmdline reads the kernel command line. In a fresh initrd nothing is
// mounted yet; what machine.Prepare does later finds this done.
func readCmdline() (string, error) {
	if _, err := os.Stat("/proc/cmdline"); err != nil {
		if err := os.MkdirAll("/proc", 0o555); err != nil {
			return "", err
		}
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
			return "", fmt.Errorf("mount /proc: %w", err)
		}
	}
	return machine.Cmdline()
}
