package main

import (
	"errors"
	"fmt"
	"io"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

// newProblemsCommand shows problems and warnings; the former are an error.
func newProblemsCommand(client *api.Client) *cobra.Command {
	return answers(&cobra.Command{
		Use:   "problems",
		Short: "Show what is to be mended, and how; exit status 1 when there is something",
		Args:  cobra.NoArgs,
	}, "print JSON: a list of section, file, line, column, text, warning and time", func(cmd *cobra.Command, _ []string) ([]api.Problem, error) {
		return client.Problems(cmd.Context())
	}, func(out io.Writer, all []api.Problem) error {
		for _, p := range all {
			kind := "warning"
			if !p.Warning {
				kind = "problem"
			}
			fmt.Fprintf(out, "%s: %s\n", kind, printable(p.Text))
		}
		return nil
	}, func(all []api.Problem) error {
		n := 0
		for _, p := range all {
			if !p.Warning {
				n++
			}
		}
		if n == 0 {
			return nil
		}
		return errors.New(plural(n, "problem"))
	})
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
