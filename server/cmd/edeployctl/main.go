// Edeployctl is the operator's command line for an eDeploy server: it lists
// the machines and what happens to them, says what a machine boots next,
// brings profiles and role images to the server, and explains why a machine
// matches a profile or not.
//
// The server's address is --server or the environment variable EDEPLOY_SERVER:
// a host, host:port, or URL. The command match needs no server.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

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
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "edeployctl:", err)
		return 1
	}
	return 0
}

func newRootCommand() *cobra.Command {
	var server string
	root := &cobra.Command{
		Use:           "edeployctl",
		Short:         "See and steer the machines of an eDeploy server",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
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
		newMatchCommand(),
		newPushCommand(&server),
		newConfigCommand(&server),
		newVersionCommand(&server),
	)
	return root
}
