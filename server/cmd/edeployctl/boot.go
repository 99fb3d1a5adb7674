package main

import (
	"errors"
	"fmt"
	"io"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

// newBootCommand makes a command that sets what a machine boots.
func newBootCommand(client *api.Client, name, action, short string, aliases ...string) *cobra.Command {
	return &cobra.Command{
		Use:               name + " ID",
		Aliases:           aliases,
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := client.SetBoot(cmd.Context(), args[0], action)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "machine %s (%s) boots next: %s\n", m.ID, printable(m.DisplayName), m.NextBoot)
			return nil
		},
	}
}

func newProblemsCommand(client *api.Client) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "problems",
		Short: "Show what is to be mended, and how; exit status 1 when there is something",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := client.Problems(cmd.Context())
			if err != nil {
				return err
			}
			return printProblems(cmd.OutOrStdout(), all, raw)
		},
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print JSON: a list of section, file, line, column, text, warning and time")
	return cmd
}

// printProblems prints them; those that are no warnings are an error.
func printProblems(out io.Writer, all []api.Problem, raw bool) error {
	if raw {
		if err := printJSON(out, all); err != nil {
			return err
		}
	}
	n := 0
	for _, p := range all {
		kind := "warning"
		if !p.Warning {
			kind = "problem"
			n++
		}
		if !raw {
			fmt.Fprintf(out, "%s: %s\n", kind, printable(p.Text))
		}
	}
	if n > 0 {
		return errors.New(plural(n, "problem"))
	}
	return nil
}

func newVersionCommand(client *api.Client) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and, when one is given, of the server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "edeployctl %s\n", wire.Release())
			if client.Address == "" {
				return nil
			}
			v, err := client.Version(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "server %s, protocol %d\n", printable(v.Version), v.Protocol)
			return nil
		},
	}
}
