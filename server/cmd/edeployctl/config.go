package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

// defaultSection is the deployment that machines ask for by themselves.
const defaultSection = "SERVER"

const configLong = `The server gives machines what its profiles say. A deployment has these files:

  state           which profiles there are, in order of priority, and how many
                  machines each still wants:  [('db', 2), ('web', '*')]
  NAME.specs      what a machine must have to get profile NAME
  NAME.configure  the script that the machine runs
  NAME.cmdb       optional: one entry (client, host name, ...) per machine
  NAME.bill       optional: the hardware that machines of a profile must have
  authorized_keys optional: who may log in, by ssh, to a machine's rescue shell

Keep them in a directory of your own and push it:

  edeployctl config pull profiles          # start from what the server has
  edeployctl lint profiles                 # what is wrong with them
  edeployctl match hw.json --config profiles
  edeployctl config push profiles
  edeployctl machines --watch

A push is made whole or not at all: a file with a mistake is named with line
and column, and nothing is changed.`

func newConfigCommand(client *api.Client) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "See, bring and fetch the profiles of the server (state, specs, configure, cmdb, bill)",
		Long:  configLong,
	}
	cmd.AddCommand(newConfigListCommand(client), newConfigShowCommand(client), newConfigPushCommand(client), newConfigPullCommand(client))
	return cmd
}

func addSectionFlag(cmd *cobra.Command, section *string) {
	cmd.Flags().StringVar(section, "section", defaultSection, "deployment: a section of the server's edeploy.conf")
}

func newConfigListCommand(client *api.Client) *cobra.Command {
	var section string
	var raw bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short: "List the configuration files of all deployments",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if raw {
				return printRaw(cmd, client, api.ConfigPath)
			}
			all, err := client.ConfigFiles(cmd.Context())
			if err != nil {
				return err
			}
			t := newTable(cmd.OutOrStdout(), "SECTION", "NAME", "BYTES", "MODIFIED")
			for _, f := range all {
				if section == "" || f.Section == section {
					t.row(f.Section, f.Name, f.Bytes, moment(f.Modified))
				}
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&section, "section", "", "only this deployment")
	cmd.Flags().BoolVar(&raw, "json", false, "print the server's JSON")
	return cmd
}

func newConfigShowCommand(client *api.Client) *cobra.Command {
	var section string
	cmd := &cobra.Command{
		Use:     "show NAME",
		Aliases: []string{"cat"},
		Short:   "Print one file exactly as the server has it",
		Example: "  edeployctl config show vm.cmdb            # with the entries that machines hold\n  edeployctl config show vm.cmdb.orig       # the generate call that it once was",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, _, err := client.ConfigFile(cmd.Context(), section, args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	addSectionFlag(cmd, &section)
	return cmd
}

func newConfigPushCommand(client *api.Client) *cobra.Command {
	var c configPush
	cmd := &cobra.Command{
		Use:   "push DIR",
		Short: "Replace the server's profiles by those of a directory, all of them or none",
		Long: `Push sends state, authorized_keys, *.specs, *.configure, *.cmdb and *.bill of DIR;
other files in it are left alone. They are looked at as "edeployctl lint" does, together with the files
that the server keeps, before anything is changed: errors refuse the push with
exit status 1 (--force overrides), warnings are shown. Machines that ask meanwhile
see either all the old files or all the new ones.

Machines keep what they hold:
  NAME.cmdb  an entry that a machine holds stays taken, also when the file that
             you push is still the generate call it once was.
  state      its counts say how many MORE machines each profile takes from now
             on. Leave the file out of DIR to keep the counts as they are.

With --prune the server's profiles that are not in DIR are removed; its state
file and authorized_keys never are.`,
		Example: "  edeployctl config push profiles --server 192.168.122.1\n  edeployctl config push profiles --prune",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.client, c.dir = client, args[0]
			return c.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	addSectionFlag(cmd, &c.section)
	cmd.Flags().BoolVar(&c.prune, "prune", false, "remove the server's specs, configure, cmdb and bill files that are not in DIR")
	cmd.Flags().BoolVar(&c.force, "force", false, "store files with mistakes, too; their profiles wait until they are mended")
	return cmd
}

// refusedFiles turns a refusal that names mistakes into lines on out and one
// sentence; any other error stays.
func refusedFiles(out io.Writer, err error) error {
	var answer *api.Error
	if !errors.As(err, &answer) || len(answer.Problems) == 0 {
		return err
	}
	files := map[string]bool{}
	for _, p := range answer.Problems {
		fmt.Fprintln(out, printable(p.Text))
		files[p.File] = true
	}
	return fmt.Errorf("nothing was changed: %s", mistakesIn(slices.Sorted(maps.Keys(files))))
}

func printReplaced(out io.Writer, r api.Replaced) {
	for _, list := range []struct {
		word  string
		names []string
	}{{"added", r.Added}, {"changed", r.Changed}, {"removed", r.Removed}, {"unchanged", r.Unchanged}} {
		for _, name := range list.names {
			fmt.Fprintf(out, "%-9s  %s\n", list.word, printable(name))
		}
	}
	if len(r.Counts) > 0 {
		fmt.Fprintf(out, "counts: %s\n", printable(strings.Join(r.Counts, ", ")))
	}
	for _, p := range r.Warnings {
		fmt.Fprintf(out, "warning: %s\n", printable(p.Text))
	}
}
