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
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"edeploy/server/api"
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
	is := statusError{status: 1}
	errors.As(err, &is)
	return is.status
}

func newRootCommand() *cobra.Command {
	client := new(api.Client)
	root := &cobra.Command{
		Use:           "edeployctl",
		Short:         "See and steer the machines of an eDeploy server",
		Version:       wire.Release(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("edeployctl {{.Version}}\n")
	root.PersistentFlags().StringVar(&client.Address, "server", os.Getenv("EDEPLOY_SERVER"), "address of the server: host, host:port or URL (default $EDEPLOY_SERVER)")
	root.AddCommand(newMachinesCommand(client))
	root.AddCommand(steering(client)...)
	root.AddCommand(
		newProblemsCommand(client),
		newMatchCommand(),
		newLintCommand(client),
		newCMDBCommand(client),
		newStateCommand(client),
		newHWCommand(client),
		newExpectCommand(client),
		newPushCommand(client),
		newMetadataCommand(client),
		newImagesCommand(client),
		newConfigCommand(client),
		newVersionCommand(client),
	)
	strict(root)
	return root
}

// steering are the commands about one machine, which stand beside machines and
// below it.
func steering(client *api.Client) []*cobra.Command {
	return []*cobra.Command{
		machinesVerb(client, "show ID", "Show a machine with its history (ID, MAC address or name)", cobra.ExactArgs(1)),
		newHistoryCommand(client),
		newWhyCommand(client),
		newLogsCommand(client),
		newBootCommand(client, "reinstall", "reinstall", "Install a machine again at its next boot; it keeps its profile and CMDB entry"),
		newBootCommand(client, "hold", "hold", "Let a machine wait at its next boot, until release"),
		newBootCommand(client, "rescue", "rescue", "Boot a machine into the agent with a console, until release; nothing is changed"),
		newBootCommand(client, "boot-local", "local", "Let a machine boot its own disk, whatever its state, until release"),
		newBootCommand(client, "release", "auto", "Release a machine from hold, rescue and boot-local: its state decides what it boots", "boot-auto"),
		newInstallAnywayCommand(client),
		newWipeCommand(client),
		newWipeAnywayCommand(client),
		newForgetCommand(client),
		newRestoreCommand(client),
		newForgottenCommand(client),
	}
}
