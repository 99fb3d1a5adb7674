package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/transaction"
	"edeploy/agent/internal/upgrade"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

type program struct {
	args           []string
	stdout, stderr io.Writer
	terminal       bool // stderr is one, progress is shown there

	patience time.Duration  // with a server that does not answer; 0: 5 min
	release  string         // of the running kernel; "": ask it
	cmdline  string         // file with the kernel's parameters; "": /proc/cmdline
	identity *wire.Identity // who this machine is; nil: look, when the machine is this one
	proc     string         // where processes are looked for; "": /proc, when the machine is this one
}

// Exit statuses.
const (
	exitFailed     = 1
	exitCannotLook = 2
)

// errSaid ends a command that has said itself what is not well.
var errSaid = errors.New("all is said")

func (p program) run(ctx context.Context) int {
	root := p.command()
	root.SetArgs(p.args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	ran, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return 0
	case err == errSaid:
		return exitFailed
	case err == errRebootNeeded:
		return wire.RebootExitCode
	}
	if upgrade.Stopped(ctx, err) && !errors.Is(err, transaction.ErrUndone) {
		err = upgrade.ErrNothingChanged
	}
	if errors.Is(err, upgrade.ErrNothingChanged) && goesOn[ran.Name()] {
		err = fmt.Errorf("%w: run it again to go on", err)
	}
	if ran != root {
		err = fmt.Errorf("%s: %w", ran.Name(), err)
	}
	fmt.Fprintf(p.stderr, "edeploy: %s\n", strings.ReplaceAll(err.Error(), "\n", "; ")) // joined errors
	return exitStatus(ran.Name(), err)
}

// goesOn are the commands that go on where they were interrupted.
var goesOn = map[string]bool{upgradeName: true, "rollback": true, "recover": true, "report": true}

func exitStatus(command string, err error) int {
	var blind upgrade.CannotLook
	switch {
	case errors.Is(err, errRebootNeeded):
		return wire.RebootExitCode
	case command == verifyName, command == upgradeName && errors.As(err, &blind):
		return exitCannotLook
	}
	return exitFailed
}

func (p program) command() *cobra.Command {
	var machine installed.Machine
	root := &cobra.Command{
		Use:   "edeploy",
		Short: "What this machine was installed as, whether it still is, and what it can become",
		Long: `edeploy tells what this machine was installed as by eDeploy, compares its disk
with the manifest of that role and version, and upgrades it to another version
of its role, or back.

    edeploy list                     which versions are there?
    edeploy test-upgrade D12-F.1.0.1 what would change?
    edeploy upgrade D12-F.1.0.1      do it
    edeploy verify                   is the disk as it should be?
    edeploy rollback                 back to the version before

Shells complete commands and versions after: source <(edeploy completion bash)`,
		Version:       wire.Release(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q: see edeploy --help", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			c.SetOut(p.stderr)
			c.Usage()
			return errors.New("say what to do")
		},
	}
	root.SetVersionTemplate("edeploy {{.Version}}\n") // of the program; edeploy version is the machine's
	root.PersistentPreRunE = func(*cobra.Command, []string) (err error) {
		machine, err = installed.Open(machine.Root)
		return err
	}
	root.PersistentFlags().StringVar(&machine.Root, "root", "/", "directory where the installed system is mounted")
	root.AddCommand(
		p.fact(&machine, "version", "Print the version this machine runs (VERS)", func(c wire.Installed) string { return c.Image.Version }),
		p.fact(&machine, "role", "Print the role of this machine (ROLE)", func(c wire.Installed) string { return c.Image.Role }),
		p.fact(&machine, "profile", "Print the hardware profile it was installed with (may be empty)", func(c wire.Installed) string { return c.Profile }),
		p.verifyCommand(&machine),
		p.listCommand(&machine),
		p.testUpgradeCommand(&machine),
		p.upgradeCommand(&machine),
		p.rollbackCommand(&machine),
		p.recoverCommand(&machine),
		p.reportCommand(&machine),
		p.loaderCommand(&machine),
		p.statusCommand(&machine),
	)
	return root
}

// plainCommand is one without arguments.
func plainCommand(name, short, help string, run func(context.Context) error) *cobra.Command {
	return &cobra.Command{Use: name, Short: short, Long: help, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return run(c.Context()) }}
}

// versionCommand is one whose argument is a version.
func versionCommand(machine *installed.Machine, name, short, help string, run func(ctx context.Context, version string) error) *cobra.Command {
	return &cobra.Command{Use: name + " VERSION", Short: short, Long: help, Args: cobra.ExactArgs(1), ValidArgsFunction: completeVersions(machine),
		RunE: func(c *cobra.Command, args []string) error { return run(c.Context(), args[0]) }}
}

// fact is a command that prints one value of the machine's conf.
func (p program) fact(machine *installed.Machine, name, short string, of func(wire.Installed) string) *cobra.Command {
	return plainCommand(name, short, "", func(context.Context) error {
		conf, err := machine.Conf()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.stdout, of(conf))
		return err
	})
}

// show prints an answer for people or, as JSON, for scripts.
func (p program) show(asJSON bool, answer any, text func() string) error {
	if !asJSON {
		_, err := io.WriteString(p.stdout, text())
		return err
	}
	out := json.NewEncoder(p.stdout)
	out.SetIndent("", "  ")
	return out.Encode(answer)
}
