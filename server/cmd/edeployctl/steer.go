package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

func newBootCommand(client *api.Client, name, action, short string, aliases ...string) *cobra.Command {
	return &cobra.Command{
		Use:               name + " ID",
		Aliases:           aliases,
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			m, err := client.SetBoot(cmd.Context(), args[0], action)
			return fmt.Sprintf("machine %s (%s) boots next: %s", m.ID, m.DisplayName, m.NextBoot), err
		}),
	}
}

const addLong = `Say which machine a MAC address belongs to.

A machine that shows an address or the UUID of an installed one, and is not surely that one, gets nothing: its disk may hold the
installed system. "edeployctl problems" names it; only the operator knows which of the two it is.

    edeployctl machines add 52:54:00:12:34:56             it is a machine of its own: it is installed
    edeployctl machines add 52:54:00:12:34:56 --to node7  the adapter is in node7, which stays as it is`

func newAddCommand(client *api.Client) *cobra.Command {
	var owner string
	cmd := &cobra.Command{
		Use:   "add MAC [--to ID]",
		Short: "Say that a MAC address is a machine of its own, or belongs to a known one",
		Long:  addLong,
		Args:  cobra.ExactArgs(1),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			m, err := client.AddMachine(cmd.Context(), api.NewMachine{MAC: args[0], Machine: owner})
			return fmt.Sprintf("%s belongs to machine %s (%s), which boots next: %s", args[0], m.ID, m.DisplayName, m.NextBoot), err
		}),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().StringVar(&owner, "to", "", "the known machine that has the adapter: id, MAC address or name")
	return cmd
}

const sectionLong = `Set the deployment (a section of the server's edeploy.conf) that a machine belongs to.

ID is an id or a MAC address; a MAC address that the server has never seen becomes known, so that a machine can be given its
deployment before it is first switched on. The machine's next boot carries SECTION=NAME, and whatever it asks for, it gets the
profiles of that deployment. What it holds of another one is given back when it asks again.

--default takes the setting back: the machine belongs to the default deployment of the server.`

func newSectionCommand(client *api.Client) *cobra.Command {
	var standard bool
	cmd := &cobra.Command{
		Use:   "section ID {NAME | --default}",
		Short: "Set the deployment that a machine belongs to",
		Long:  sectionLong,
		Args:  cobra.RangeArgs(1, 2),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			name := ""
			switch {
			case standard == (len(args) == 2):
				return "", errors.New("which deployment? Give its NAME or --default")
			case len(args) == 2 && args[1] == "":
				return "", errors.New("the name of the deployment is empty: --default sets the default one")
			case len(args) == 2:
				name = args[1]
			}
			m, err := client.SetSection(cmd.Context(), args[0], name)
			belongs := "the default deployment"
			if m.BootSection != "" {
				belongs = "deployment " + m.BootSection
			}
			return fmt.Sprintf("machine %s belongs to %s", m.ID, belongs), err
		}),
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

func sections(ctx context.Context, client *api.Client) []string {
	all, _ := client.ConfigFiles(ctx) // without an answer there is nothing to complete
	var names []string
	for _, f := range all {
		names = append(names, f.Section)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
