package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

const sectionLong = `Set the deployment (a section of the server's edeploy.conf) that a machine belongs to.

ID is an id or a MAC address; a MAC address that the server has never seen becomes known, so that a machine can be given its
deployment before it is first switched on. The machine's next boot carries SECTION=NAME, and whatever it asks for, it gets the
profiles of that deployment. What it holds of another one is given back when it asks again.

--default takes the setting back: the machine belongs to the default deployment of the server.`

// newSectionCommand sets the deployment of a machine.
func newSectionCommand(client *api.Client) *cobra.Command {
	var standard bool
	cmd := &cobra.Command{
		Use:   "section ID {NAME | --default}",
		Short: "Set the deployment that a machine belongs to",
		Long:  sectionLong,
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			switch {
			case standard == (len(args) == 2):
				return errors.New("which deployment? Give its NAME or --default")
			case len(args) == 2 && args[1] == "":
				return errors.New("the name of the deployment is empty: --default sets the default one")
			case len(args) == 2:
				name = args[1]
			}
			m, err := client.SetSection(cmd.Context(), args[0], name)
			if err != nil {
				return err
			}
			belongs := "the default deployment"
			if m.BootSection != "" {
				belongs = "deployment " + m.BootSection
			}
			fmt.Fprintf(cmd.OutOrStdout(), "machine %s belongs to %s\n", printable(m.ID), printable(belongs))
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return sections(cmd.Context(), client), cobra.ShellCompDirectiveNoFileComp
			}
			return completeMachine(client)(cmd, args, prefix)
		},
	}
	cmd.Flags().BoolVar(&standard, "default", false, "the server's default deployment")
	return cmd
}

// sections are the deployments that have files, to complete their names.
func sections(ctx context.Context, client *api.Client) []string {
	all, _ := client.ConfigFiles(ctx) // without an answer there is nothing to complete
	var names []string
	for _, f := range all {
		names = append(names, f.Section)
	}
	slices.SortFunc(names, cmp.Compare[string])
	return slices.Compact(names)
}
