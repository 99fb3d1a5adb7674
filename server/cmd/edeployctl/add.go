package main

import (
	"fmt"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

const addLong = `Say which machine a MAC address belongs to.

A machine that shows an address or the UUID of an installed one, and is not surely that one, gets nothing: its disk may hold the
installed system. "edeployctl problems" names it; only the operator knows which of the two it is.

    edeployctl machines add 52:54:00:12:34:56             it is a machine of its own: it is installed
    edeployctl machines add 52:54:00:12:34:56 --to node7  the adapter is in node7, which stays as it is`

// newAddCommand says which machine a MAC address belongs to.
func newAddCommand(client *api.Client) *cobra.Command {
	var owner string
	cmd := &cobra.Command{
		Use:   "add MAC [--to ID]",
		Short: "Say that a MAC address is a machine of its own, or belongs to a known one",
		Long:  addLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := client.AddMachine(cmd.Context(), api.NewMachine{MAC: args[0], Machine: owner})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s belongs to machine %s (%s), which boots next: %s\n", printable(args[0]), m.ID, printable(m.DisplayName), m.NextBoot)
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&owner, "to", "", "the known machine that has the adapter: id, MAC address or name")
	return cmd
}
