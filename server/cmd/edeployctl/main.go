// Edeployctl is the operator's command line for an eDeploy server: it lists
// the machines and what happens to them, says what a machine boots next,
// brings profiles, role images and upgrade metadata to the server, lists and
// removes images, and explains why a machine matches a profile or not.
//
// The server's address is --server or the environment variable EDEPLOY_SERVER:
// a host, host:port, or URL. The commands match, lint and hw need no server;
// cmdb and state work on a directory, too (--config).
//
// The exit status is 0, 1 after an error, and 2 when the command line is wrong.
// Commands that answer a question (match, lint, cmdb verify, hw diff, hw groups)
// exit with 1 for "no" and with 2 when they could not look.
package main

import (
	"context"
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
	root.AddCommand(newMachinesCommand(&server))
	root.AddCommand(steering(&server)...)
	root.AddCommand(
		newProblemsCommand(&server),
		newMatchCommand(),
		newLintCommand(&server),
		newCMDBCommand(&server),
		newStateCommand(&server),
		newHWCommand(&server),
		newPushCommand(&server),
		newMetadataCommand(&server),
		newImagesCommand(&server),
		newConfigCommand(&server),
		newVersionCommand(&server),
	)
	strict(root)
	return root
}

// steering are the commands about one machine, which stand beside machines and
// below it.
func steering(address *string) []*cobra.Command {
	return []*cobra.Command{
		newShowCommand(address),
		newHistoryCommand(address),
		newWhyCommand(address),
		newLogsCommand(address),
		newBootCommand(address, "reinstall", "reinstall", "Install a machine again at its next boot; it keeps its profile and CMDB entry"),
		newBootCommand(address, "hold", "hold", "Let a machine wait at its next boot, until release"),
		newBootCommand(address, "rescue", "rescue", "Boot a machine into the agent with a console, until release; nothing is changed"),
		newBootCommand(address, "boot-local", "local", "Let a machine boot its own disk, whatever its state, until release"),
		newBootCommand(address, "release", "auto", "Release a machine from hold, rescue and boot-local: its state decides what it boots", "boot-auto"),
		newForgetCommand(address),
		newRestoreCommand(address),
		newForgottenCommand(address),
	}
}
