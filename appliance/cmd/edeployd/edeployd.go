// Edeployd is the appliance's daemon: boot services, upload and matching
// server, image store with its rsync daemon, in one process. It runs on the
// gokrazy image and on any Linux host.
//
// It reads edeploy.conf (-config) and what that file names; it logs to
// standard error; it writes what a person should see to -console.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"edeploy/appliance"
	"edeploy/server/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "edeployd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	tuneMemory()
	flags := flag.NewFlagSet("edeployd", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("config", "/etc/edeploy.conf", "configuration `file`")
	screen := flags.String("console", "", "`device` for the person in front of the machine; empty: standard output")
	verbose := flags.Bool("verbose", false, "log every request")
	version := flags.Bool("version", false, "print the version and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version {
		fmt.Fprintln(stdout, "edeployd", wire.Release())
		return nil
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	console, err := openConsole(*screen, stdout)
	if err != nil {
		return err
	}
	fmt.Fprintf(console, "edeployd %s starts\r\n", wire.Release())
	if err := serve(ctx, *file, console, log); err != nil {
		fmt.Fprintf(console, "edeployd: %v\r\n", err)
		return err
	}
	return nil
}

func serve(ctx context.Context, file string, console io.Writer, log *slog.Logger) error {
	config, err := appliance.ReadConfig(file)
	if err != nil {
		return err
	}
	sockets, err := appliance.Listen(ctx, config)
	if err != nil {
		return err
	}
	a, err := appliance.New(ctx, config, sockets, log)
	if err != nil {
		return err
	}
	return a.Run(ctx, console)
}

func openConsole(device string, stdout io.Writer) (io.Writer, error) {
	if device == "" {
		return stdout, nil
	}
	f, err := os.OpenFile(device, os.O_WRONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open console: %w", err)
	}
	return f, nil
}

// tuneMemory trades memory for speed: the rsync library takes a fresh buffer
// of 256 KiB for every file, and at Go's usual pace half of a transfer's
// processor time went into collecting them. The limit keeps the whole process
// below 256 MB. GOGC and GOMEMLIMIT in the environment still win.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(1600)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(160 << 20)
	}
}
