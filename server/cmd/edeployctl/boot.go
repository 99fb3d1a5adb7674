package main

import (
	"fmt"

	"edeploy/server"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

// newBootCommand makes a command that sets what a machine boots.
func newBootCommand(address *string, name, action, short string) *cobra.Command {
	return &cobra.Command{
		Use:               name + " ID",
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(address),
		RunE: func(cmd *cobra.Command, args []string) error {
			var m server.Machine
			if err := call(cmd.Context(), *address, "PUT", machinePath(args[0])+"/boot", map[string]string{"action": action}, &m); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "machine %s (%s) boots next: %s\n", m.ID, printable(m.DisplayName), m.NextBoot)
			return nil
		},
	}
}

func newForgetCommand(address *string) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "forget ID",
		Short:             "Forget a machine; its count and CMDB entry are given back",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(address),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := machinePath(args[0])
			if force {
				path += "?force=1"
			}
			if err := call(cmd.Context(), *address, "DELETE", path, nil, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "machine %s is forgotten\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also a machine that is installed")
	return cmd
}

func newProblemsCommand(address *string) *cobra.Command {
	return &cobra.Command{
		Use:   "problems",
		Short: "Show mistakes in the configuration and what went wrong; exit status 1 when there are some",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []server.Problem
			if err := call(cmd.Context(), *address, "GET", "/api/v1/problems", nil, &all); err != nil {
				return err
			}
			errors := 0
			for _, p := range all {
				kind := "warning"
				if !p.Warning {
					kind = "problem"
					errors++
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", kind, printable(p.Text))
			}
			if errors > 0 {
				return fmt.Errorf("%d problems", errors)
			}
			return nil
		},
	}
}

func newVersionCommand(address *string) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and, when one is given, of the server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "edeployctl %s\n", wire.Release())
			if *address == "" {
				return nil
			}
			var v struct {
				Version  string
				Protocol int
			}
			if err := call(cmd.Context(), *address, "GET", "/api/v1/version", nil, &v); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "server %s, protocol %d\n", printable(v.Version), v.Protocol)
			return nil
		},
	}
}
