// Command mkrole builds and examines role trees.
//
//	mkrole list                     the roles that can be built
//	mkrole build ROLE VERSION       an archive, its manifest and its package list
//	mkrole check ARCHIVE            will it boot, is it free of one machine's traces
//	mkrole diff A B                 what changed between two archives or manifests
//	mkrole metadata FROM TO         propose what upgrades leave alone, add and run
//	mkrole pack DIR ROLE VERSION    an image of a directory, such as an add-on
//
// It reads role definitions from images/roles (and before that from --roles), writes below
// out/install (--out), and obeys SOURCE_DATE_EPOCH: no file of a tree is newer.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"edeploy/images/internal/role"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// execute is the whole program; it answers the exit status: 0, 1 for what
// failed, 2 for a command line that means nothing.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var usage usageError
	if errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command") {
		fmt.Fprintln(stderr, "mkrole:", strings.Join(strings.Fields(err.Error()), " "))
		return 2
	}
	fmt.Fprintln(stderr, "mkrole:", err)
	if _, lost := os.Stat(builtIn); lost != nil && errors.Is(err, role.ErrUnknown) {
		fmt.Fprintf(stderr, "There is no directory %s here: run mkrole in the directory of its source, or give --roles DIR.\n", builtIn)
	}
	return 1
}

// usageError is about the command line.
type usageError struct {
	error
	command string
}

func (e usageError) Error() string { return e.error.Error() + "; see " + e.command + " --help" }
func (e usageError) Unwrap() error { return e.error }

// strict makes errors about arguments and flags of a command usageErrors.
func strict(cmd *cobra.Command) {
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			if err := args(cmd, given); err != nil {
				return usageError{fmt.Errorf("want %s", strings.TrimSuffix(cmd.UseLine(), " [flags]")), cmd.CommandPath()}
			}
			return nil
		}
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{err, cmd.CommandPath()} })
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}
