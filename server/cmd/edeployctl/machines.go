package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

type machinesConfig struct {
	client   *api.Client
	json     bool
	watch    bool
	interval time.Duration
}

func newMachinesCommand(client *api.Client) *cobra.Command {
	c := machinesConfig{client: client}
	cmd := &cobra.Command{
		Use:   "machines [ID]",
		Short: "List the machines, or show one with its history (ID, MAC address or name)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), args, cmd.OutOrStdout())
		},
		ValidArgsFunction: completeMachine(client),
	}
	cmd.AddCommand(newSectionCommand(client), newAddCommand(client), newListCommand(client))
	cmd.AddCommand(steering(client)...)
	c.flags(cmd)
	return cmd
}

func (c *machinesConfig) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.json, "json", false, "print the server's JSON")
	cmd.Flags().BoolVar(&c.watch, "watch", false, "print again whenever something changes, until interrupted")
	cmd.Flags().DurationVar(&c.interval, "interval", 2*time.Second, "how often --watch asks")
}

// newListCommand is machines, newShowCommand machines ID, for those who look
// for a verb.
func newListCommand(client *api.Client) *cobra.Command {
	return machinesVerb(client, "list", "List the machines", cobra.NoArgs, "ls")
}

func newShowCommand(client *api.Client) *cobra.Command {
	return machinesVerb(client, "show ID", "Show a machine with its history (ID, MAC address or name)", cobra.ExactArgs(1))
}

func machinesVerb(client *api.Client, use, short string, args cobra.PositionalArgs, aliases ...string) *cobra.Command {
	c := machinesConfig{client: client}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args, Aliases: aliases,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), args, cmd.OutOrStdout())
		},
		ValidArgsFunction: completeMachine(client),
	}
	c.flags(cmd)
	return cmd
}

// newHistoryCommand prints the history of a machine alone.
func newHistoryCommand(client *api.Client) *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:               "history ID",
		Short:             "Print what has happened to a machine, oldest first (ID, MAC address or name)",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := client.Machine(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if raw {
				return printJSON(cmd.OutOrStdout(), m.History)
			}
			for _, l := range m.History {
				fmt.Fprintln(cmd.OutOrStdout(), printable(l.String()))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print JSON: a list of time, step, status, seconds and message")
	return cmd
}

func (c machinesConfig) run(ctx context.Context, args []string, out io.Writer) error {
	last, err := c.picture(ctx, args)
	if err != nil {
		return err
	}
	if _, err := out.Write(last); err != nil || !c.watch {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.interval):
		}
		now, err := c.picture(ctx, args)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			now = []byte(err.Error() + "\n") // it may be back soon
		}
		if bytes.Equal(now, last) {
			continue
		}
		last = now
		if _, err := fmt.Fprintf(out, "\n%s", now); err != nil {
			return err
		}
	}
}

// picture is what is printed, at one moment.
func (c machinesConfig) picture(ctx context.Context, args []string) ([]byte, error) {
	var out bytes.Buffer
	if c.json {
		path := api.MachinesPath
		if len(args) == 1 {
			path = api.MachinePath(args[0])
		}
		raw, err := c.client.Raw(ctx, path)
		out.Write(bytes.TrimSpace(raw))
		out.WriteByte('\n')
		return out.Bytes(), err
	}
	if len(args) == 1 {
		m, err := c.client.Machine(ctx, args[0])
		printMachine(&out, m)
		return out.Bytes(), err
	}
	all, err := c.client.Machines(ctx)
	printTable(&out, all)
	return out.Bytes(), err
}

func printTable(out io.Writer, all []api.Machine) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tSTATE\tBOOTS\tPROFILE\tIMAGE\tNOW")
	for _, m := range all {
		profile, image := "-", "-"
		if m.Allocation != nil {
			profile = m.Allocation.Profile
		}
		if m.Image != nil {
			image = m.Image.String()
		}
		row := []string{m.ID, cmp.Or(m.DisplayName, "-"), m.State, string(m.NextBoot), profile, image, now(m)}
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	table.Flush()
}

// now is what a machine is doing, in the server's words.
func now(m api.Machine) string {
	return cmp.Or(m.Now, "-")
}

func printMachine(out io.Writer, m api.Machine) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, strings.Join(printableLines(value), "\n\t"))
		}
	}
	row("machine", m.ID)
	row("name", m.DisplayName)
	row("MAC", strings.Join(m.MACs, " "))
	row("formerly", strings.Join(m.FormerMACs, " "))
	row("UUID", m.UUID)
	row("serial", m.Serial)
	row("state", m.State+" since "+m.Since.Local().Format(time.DateTime))
	row("boots", string(m.NextBoot)+" (set to "+m.Boot+")")
	row("deployment", m.Section)
	if a := m.Allocation; a != nil {
		row("profile", fmt.Sprintf("%s, since %s, handed out %s", a.Profile, a.Given.Local().Format(time.DateTime), plural(a.Asked, "time")))
		row("variables", a.Var)
	}
	if m.Image != nil {
		row("image", m.Image.String())
	}
	row("now", m.Now)
	row("error", m.LastError)
	table.Flush()
	if len(m.History) > 0 {
		fmt.Fprintln(out, "\nhistory")
	}
	for _, l := range m.History {
		fmt.Fprintln(out, " ", printable(l.String()))
	}
}

// printable takes out what could steer a terminal: the texts come from
// machines.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n':
			return c
		case unicode.IsControl(c):
			return -1
		}
		return c
	}, s)
}

func printableLines(s string) []string { return strings.Split(printable(s), "\n") }

// completeMachine completes ids and names by asking the server.
func completeMachine(client *api.Client) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, _ := client.Machines(cmd.Context()) // without an answer there is nothing to complete
		var words []string
		for _, m := range all {
			words = append(words, m.ID+"\t"+printable(m.DisplayName))
			if m.DisplayName != "" && !strings.ContainsAny(m.DisplayName, " \t\n") {
				words = append(words, printable(m.DisplayName)+"\t"+m.ID)
			}
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}
