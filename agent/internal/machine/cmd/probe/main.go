// Command probe stands in for the agent in tests of the initrd, and for looking
// at a machine without installing it: it takes the agent's first steps (devices,
// network, detection), prints what it found, runs /probe.sh with its output on
// the console when there is one, and switches the machine off.
//
// It reads the kernel command line like the agent.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/agent/internal/detect"
	"edeploy/agent/internal/machine"
	"edeploy/agent/internal/network"
	"edeploy/server/wire"
)

const script = "/probe.sh"

func main() {
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	if err := probe(context.Background(), log); err != nil {
		fmt.Println("probe:", err)
	}
	fmt.Println("probe: end")
	if err := machine.PowerOff(); err != nil {
		fmt.Println("probe:", err)
	}
}

func probe(ctx context.Context, log *slog.Logger) error {
	fmt.Printf("probe: running %s\n", uptime())
	if err := machine.Prepare(ctx, log); err != nil {
		return err
	}
	fmt.Printf("probe: devices %s\n", uptime())
	cmdline, err := machine.Cmdline()
	if err != nil {
		return err
	}
	args, err := wire.ParseBootArgs(cmdline)
	if err != nil {
		return err
	}
	if err := network.Up(ctx, args, log); err != nil {
		return err
	}
	fmt.Printf("probe: network %s\n", uptime())
	hardware, err := detect.ThisMachine().Hardware(ctx, log)
	if err != nil {
		return err
	}
	fmt.Printf("probe: detect %s\n", uptime())
	if err := wire.EncodeHardware(os.Stdout, hardware); err != nil {
		return err
	}
	return runScript(ctx, log)
}

func runScript(ctx context.Context, log *slog.Logger) error {
	if _, err := os.Stat(script); err != nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", script)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	err := cmd.Run()
	fmt.Printf("probe: script %v\n", err)
	if err := machine.LinkDisks(ctx, log); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "sh", "-c", "cd /dev/disk; for i in by-*/*; do echo link $i $(readlink $i); done").Output()
	fmt.Printf("%s", out)
	return err
}

// uptime is the time since the kernel started; it needs no /proc.
func uptime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return time.Duration(now.Nano()).Truncate(10 * time.Millisecond)
}
