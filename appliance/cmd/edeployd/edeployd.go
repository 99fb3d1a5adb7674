// Edeployd is the appliance's daemon: boot services, upload and matching
// server, image store with its rsync daemon, in one process. It runs on the
// gokrazy image and on any Linux host.
//
// It reads edeploy.conf (-config) and what that file names; it logs to
// standard error; it writes what a person should see to -console.
//
// The process that is started opens the TCP sockets and runs the daemon as its
// child; when that ends it is started again, and connections wait meanwhile.
// The exit status is 0 after SIGTERM and SIGINT, 1 when the daemon cannot start,
// 2 for a wrong command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"edeploy/appliance"
	"edeploy/appliance/internal/supervise"
	"edeploy/server/wire"
)

func main() {
	// A log that nobody reads any more is no reason to end.
	signal.Ignore(syscall.SIGPIPE)
	o, err := parse(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "edeployd:", err)
		os.Exit(2)
	case o.version:
		fmt.Println("edeployd", wire.Release())
		return
	}
	console, err := openConsole(o.console)
	if err != nil {
		fmt.Fprintln(os.Stderr, "edeployd:", err)
		os.Exit(1)
	}
	if !supervise.IsChild() {
		os.Exit(parent(o, console).Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, o, console); err != nil {
		say(console, "%v", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	config, console  string
	verbose, version bool
}

func parse(args []string, help io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("edeployd", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.config, "config", "/etc/edeploy.conf", "configuration `file`")
	flags.StringVar(&o.console, "console", "", "`device` for the person in front of the machine; empty: standard output")
	flags.BoolVar(&o.verbose, "verbose", false, "log every request")
	flags.BoolVar(&o.version, "version", false, "print the version and end")
	flags.Usage = func() {}
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("%q: edeployd takes flags only", flags.Arg(0))
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(help, "edeployd serves machines that boot over the network: DHCP, TFTP, HTTP and rsync.\n"+
			"edeploy.conf.example explains the configuration.\n\nFlags:")
		flags.SetOutput(help)
		flags.PrintDefaults()
	case err != nil:
		err = fmt.Errorf("%w; edeployd -help lists the flags", err)
	}
	return o, err
}

// parent keeps the sockets. They are opened anew only when the configuration
// names others; one that cannot be read is the child's to complain about.
func parent(o options, console io.Writer) supervise.Parent {
	var opened appliance.Config
	return supervise.Parent{
		Args:   os.Args[1:],
		Stdout: os.Stdout, Stderr: os.Stderr,
		Say: func(format string, args ...any) { say(console, format, args...) },
		Sockets: func(last []*net.TCPListener) ([]*net.TCPListener, error) {
			config, err := appliance.ReadConfig(o.config)
			if last != nil && (err != nil || config.SameSockets(opened)) {
				return last, nil
			}
			if err != nil {
				return nil, err
			}
			for _, l := range last {
				l.Close()
			}
			sockets, err := appliance.Listen(context.Background(), config)
			opened = config
			return []*net.TCPListener{sockets.HTTP, sockets.Rsync}, err
		},
	}
}

// say tells the person in front of the machine, and the log.
func say(console io.Writer, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(os.Stderr, "edeployd: %s\n", text)
	if console != io.Writer(os.Stdout) {
		fmt.Fprintf(console, "edeployd: %s\r\n", text)
	}
}

func serve(ctx context.Context, o options, console io.Writer) error {
	tuneMemory()
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	fmt.Fprintf(console, "edeployd %s starts\r\n", wire.Release())
	inherited, tell, err := supervise.Inherited(2)
	if err != nil {
		return err
	}
	config, err := appliance.ReadConfig(o.config)
	if err != nil {
		return err
	}
	if supervise.Last() == supervise.Answering {
		config.DHCP.Look = -1 // machines that wait for the daemon to be back need not wait for a look, too
	}
	for _, line := range config.Notes {
		fmt.Fprintf(console, "%s\r\n", line)
	}
	a, err := appliance.New(ctx, config, appliance.Sockets{HTTP: inherited[0], Rsync: inherited[1]}, log)
	if err != nil {
		return err
	}
	go func() {
		<-a.Ready()
		if a.Quiet() {
			tell(supervise.Quiet)
		} else {
			tell(supervise.Answering)
		}
	}()
	return a.Run(ctx, console)
}

func openConsole(device string) (io.Writer, error) {
	if device == "" {
		return os.Stdout, nil
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
