package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

const logsLong = `Print a log that a machine has sent: the newest, or another one by its number or name. --list lists them.

The agent sends its log when an installation fails, and when it is done.`

func newLogsCommand(client *api.Client) *cobra.Command {
	var list, raw bool
	cmd := &cobra.Command{
		Use: "logs ID [NUMBER | NAME]", Aliases: []string{"log"},
		Short:   "Print the newest log of a machine, or list its logs",
		Long:    logsLong,
		Example: "  edeployctl logs node7 | less\n  edeployctl logs node7 --list",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := client.Logs(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case raw:
				return printJSON(cmd.OutOrStdout(), all)
			case list:
				return printLogs(cmd.OutOrStdout(), all)
			case len(all) == 0:
				return fmt.Errorf("machine %s has sent no log", printable(args[0]))
			}
			return printLog(cmd.Context(), client, args[0], append(args, all[0].Name)[1], all, cmd.OutOrStdout())
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return completeMachine(client)(cmd, args, prefix)
			}
			all, _ := client.Logs(cmd.Context(), args[0]) // without an answer there is nothing to complete
			var names []string
			for _, l := range all {
				names = append(names, l.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list the logs, newest first")
	cmd.Flags().BoolVar(&raw, "json", false, "list the logs in JSON: name, bytes, modified")
	return cmd
}

func printLogs(out io.Writer, all []api.Log) error {
	t := newTable(out, "NUMBER", "NAME", "BYTES", "SENT")
	for i, l := range all {
		t.row(i+1, l.Name, l.Bytes, moment(l.Modified))
	}
	return t.Flush()
}

// printLog unpacks a log, which has a name or a number in the list; on a
// terminal it cannot steer it.
func printLog(ctx context.Context, client *api.Client, id, name string, all []api.Log, out io.Writer) error {
	if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= len(all) {
		name = all[n-1].Name
	}
	packed, err := client.Log(ctx, id, name)
	if err != nil {
		return err
	}
	defer packed.Close()
	plain, err := gzip.NewReader(packed)
	if err != nil {
		return fmt.Errorf("log %s of %s: %w", name, id, err)
	}
	if isTerminal(out) {
		out = printer{out}
	}
	if _, err := io.Copy(out, plain); err != nil {
		return fmt.Errorf("log %s of %s: %w", name, id, err)
	}
	return nil
}

// printer takes out what could steer a terminal.
type printer struct{ out io.Writer }

func (p printer) Write(b []byte) (int, error) {
	safe := slices.DeleteFunc(slices.Clone(b), func(c byte) bool { return c < ' ' && c != '\n' && c != '\t' || c == 0x7f || c == 0x9b })
	if _, err := p.out.Write(safe); err != nil {
		return 0, err
	}
	return len(b), nil
}
