// Edeployctl is the operator's command line for an eDeploy server: it lists
// the machines and what happens to them, says what a machine boots next,
// brings profiles, role images and upgrade metadata to the server, lists and
// removes images, and explains why a machine matches a profile or not.
//
// The server's address is --server or the environment variable EDEPLOY_SERVER:
// a host, host:port, or URL. The commands match, lint and hw need no server;
// cmdb and state work on a directory, too (--config).
//
// The exit status is 0, or 1 after an error. Commands that answer a question
// (match, lint, cmdb verify, hw diff) exit with 1 for "no" and with 2 when they
// could not look.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program; it answers the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "edeployctl:", err)
	return statusOf(err)
}

// couldNotLook is the exit status of commands that answer a question when
// they have no answer: 1 is their "no".
const couldNotLook = 2

// statusError is an error with its exit status.
type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

// statusOf is the exit status of an error.
func statusOf(err error) int {
	var is statusError
	if errors.As(err, &is) {
		return is.status
	}
	return 1
}

// question makes mistakes in a command's arguments exit with couldNotLook, too.
func question(cmd *cobra.Command) *cobra.Command {
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error { return unseen(check(cmd, args)) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return unseen(err) })
	return cmd
}

// unseen marks an error: there is no answer to the question.
func unseen(err error) error {
	if err == nil {
		return nil
	}
	return statusError{couldNotLook, err}
}

func newRootCommand() *cobra.Command {
	var server string
	root := &cobra.Command{
		Use:           "edeployctl",
		Short:         "See and steer the machines of an eDeploy server",
		Version:       wire.Release(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("edeployctl {{.Version}}\n")
	root.PersistentFlags().StringVar(&server, "server", os.Getenv("EDEPLOY_SERVER"), "address of the server: host, host:port or URL (default $EDEPLOY_SERVER)")
	root.AddCommand(
		newMachinesCommand(&server),
		newBootCommand(&server, "reinstall", "reinstall", "Install a machine again at its next boot; it keeps its profile and CMDB entry"),
		newBootCommand(&server, "hold", "hold", "Let a machine wait at its next boot"),
		newBootCommand(&server, "rescue", "rescue", "Boot a machine into the agent with a console; nothing is changed"),
		newBootCommand(&server, "boot-local", "local", "Let a machine boot its own disk, whatever its state"),
		newBootCommand(&server, "boot-auto", "auto", "Let a machine's state decide what it boots"),
		newForgetCommand(&server),
		newProblemsCommand(&server),
		question(newMatchCommand()),
		question(newLintCommand()),
		newCMDBCommand(&server),
		newStateCommand(&server),
		newHWCommand(),
		newPushCommand(&server),
		newMetadataCommand(&server),
		newImagesCommand(&server),
		newConfigCommand(&server),
		newVersionCommand(&server),
	)
	return root
}
