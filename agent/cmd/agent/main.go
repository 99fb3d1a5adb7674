// Command agent installs the machine it runs on. It is the first program that
// the initrd's init starts, and it needs nothing but that initrd.
//
// It obeys the kernel command line (agent/README.md lists the parameters;
// RESCUE=1 only brings the network up and offers a shell, WIPE=1 erases the disks
// when the server says so once more), writes everything it
// says to standard output and to /log, and ends by restarting the machine, by
// switching it off, or with a shell.
//
// "agent detect", typed in a shell, describes the machine instead, and makes
// recordings of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/detect"
	"edeploy/agent/internal/drive"
	"edeploy/agent/internal/install"
	"edeploy/agent/internal/machine"
	"edeploy/agent/internal/network"
	"edeploy/server/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	err := command(ctx)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// command is what a person asked for. The kernel hands init words of its
// command line that it does not know, and init hands them on: those are no
// commands.
func command(ctx context.Context) error {
	if fromInit := os.Getppid() == 1; !fromInit && len(os.Args) > 1 {
		if os.Args[1] != "detect" {
			return fmt.Errorf("unknown command %q: without one the machine is installed as its kernel parameters say; agent detect describes it", os.Args[1])
		}
		return runDetect(ctx, os.Args[2:], os.Stdout, os.Stderr)
	}
	return run(ctx)
}

func run(ctx context.Context) error {
	cmdline, err := machine.Cmdline()
	if err != nil {
		return err
	}
	neighbours := network.Listen(ctx)
	defer neighbours.Close()
	return install.Run(ctx, install.Env{
		Cmdline: cmdline, Console: os.Stdout,
		Devices: machine.Prepare, Network: network.Up, Detect: describe(neighbours), LinkDisks: machine.LinkDisks,
		Reboot: machine.Reboot, PowerOff: machine.PowerOff, Shell: machine.Console, LogIn: logIn,
		Disks:      drive.ThisMachine(install.KernelMessages),
		LoadKernel: bootloader.Load, Kexec: machine.StartKernel,
	})
}

// describe is the step of an installation; after it nobody listens any more.
func describe(neighbours *network.Neighbours) func(context.Context, wire.BootArgs, *slog.Logger) (wire.Hardware, error) {
	return func(ctx context.Context, args wire.BootArgs, log *slog.Logger) (wire.Hardware, error) {
		defer neighbours.Close()
		return thisMachine(neighbours, args).Hardware(ctx, log)
	}
}

// thisMachine is the machine with its neighbours.
func thisMachine(neighbours *network.Neighbours, args wire.BootArgs) detect.Source {
	machine := detect.ThisMachine()
	machine.LLDP = func(ctx context.Context) (map[string]string, error) {
		return neighbours.Heard(ctx, time.Duration(args.LLDPSeconds)*time.Second)
	}
	return machine
}
