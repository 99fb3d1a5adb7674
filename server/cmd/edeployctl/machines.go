package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"edeploy/server/api"

	"github.com/spf13/cobra"
)

// newMachinesCommand has the commands about one machine below it, too.
func newMachinesCommand(client *api.Client) *cobra.Command {
	cmd := machinesVerb(client, "machines [ID]", "List the machines, or show one with its history (ID, MAC address or name)", cobra.MaximumNArgs(1))
	cmd.AddCommand(newSectionCommand(client), newLoaderCommand(client), newAddCommand(client), machinesVerb(client, "list", "List the machines", cobra.NoArgs, "ls"))
	cmd.AddCommand(steering(client)...)
	return cmd
}

// machinesVerb lists the machines, or shows the one that an argument names.
func machinesVerb(client *api.Client, use, short string, args cobra.PositionalArgs, aliases ...string) *cobra.Command {
	c := machinesConfig{client: client}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args, Aliases: aliases,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.run(cmd.Context(), args, cmd.OutOrStdout())
		},
		ValidArgsFunction: completeMachine(client),
	}
	cmd.Flags().BoolVar(&c.json, "json", false, "print the server's JSON")
	cmd.Flags().BoolVar(&c.watch, "watch", false, "print again whenever something changes, until interrupted")
	cmd.Flags().DurationVar(&c.interval, "interval", 2*time.Second, "how often --watch asks")
	return cmd
}

func newHistoryCommand(client *api.Client) *cobra.Command {
	return answers(&cobra.Command{
		Use:               "history ID",
		Short:             "Print what has happened to a machine, oldest first (ID, MAC address or name)",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(client),
	}, "print JSON: a list of time, step, status, seconds and message", func(cmd *cobra.Command, args []string) ([]api.HistoryLine, error) {
		m, err := client.Machine(cmd.Context(), args[0])
		return m.History, err
	}, func(out io.Writer, history []api.HistoryLine) error { return printHistory(out, "", history) })
}

func printHistory(out io.Writer, margin string, history []api.HistoryLine) (err error) {
	for _, l := range history {
		_, err = fmt.Fprintln(out, margin+printable(l.String()))
	}
	return err
}

type machinesConfig struct {
	client      *api.Client
	json, watch bool
	interval    time.Duration
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
	switch {
	case c.json:
		path := api.MachinesPath
		if len(args) == 1 {
			path = api.MachinePath(args[0])
		}
		raw, err := c.client.Raw(ctx, path)
		return append(bytes.TrimSpace(raw), '\n'), err
	case len(args) == 1:
		m, err := c.client.Machine(ctx, args[0])
		printMachine(&out, m)
		return out.Bytes(), err
	}
	all, err := c.client.Machines(ctx)
	printTable(&out, all)
	return out.Bytes(), err
}

func printTable(out io.Writer, all []api.Machine) {
	heading := []any{"ID", "NAME", "STATE", "BOOTS", "LOADER", "PROFILE", "IMAGE", "NOW"}
	placed := slices.ContainsFunc(all, func(m api.Machine) bool { return m.Expected.Place() != "" })
	if placed {
		heading = append(heading, "PLACE")
	}
	t := newTable(out, heading...)
	for _, m := range all {
		profile, image := "-", "-"
		if m.Allocation != nil {
			profile = m.Allocation.Profile
		}
		if m.Image != nil {
			image = m.Image.String()
		}
		cells := []any{m.ID, orDash(m.DisplayName), m.State, m.NextBoot, loader(m), profile, image, orDash(m.Now)}
		if placed {
			cells = append(cells, orDash(m.Expected.Place()))
		}
		t.row(cells...)
	}
	t.Flush()
}

// expectedText is what was said of a machine before it came.
func expectedText(e *api.Expected) string {
	words := []string{"has not come yet"}
	if !e.Came.IsZero() {
		words[0] = "came " + moment(e.Came)
	}
	for _, word := range []string{e.Name, e.Place()} {
		if word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// differsText has a line for each difference from the expected hardware.
func differsText(is api.Differing) string {
	text := is.String()
	if is.Anyway {
		text += ", installed anyway"
	}
	for _, d := range is.Differences {
		text += "\n  " + strings.ReplaceAll(d.String(), "\n", " ")
	}
	if is.More > 0 {
		text += fmt.Sprintf("\n  and %d more", is.More)
	}
	return text
}

func printMachine(out io.Writer, m api.Machine) {
	t := newTable(out)
	row := func(name, value string) {
		if value == "" {
			return
		}
		for _, line := range strings.Split(value, "\n") {
			t.row(name, line)
			name = ""
		}
	}
	row("machine", m.ID)
	row("name", m.DisplayName)
	row("MAC", strings.Join(m.MACs, " "))
	row("formerly", strings.Join(m.FormerMACs, " "))
	row("UUID", m.UUID)
	row("serial", m.Serial)
	row("state", m.State+" since "+moment(m.Since))
	row("boots", string(m.NextBoot)+" (set to "+m.Boot+")")
	row("deployment", cmp.Or(m.Section, m.BootSection))
	row("model", m.Model)
	row("loader", loaders(m))
	if e := m.Expected; e != nil {
		row("expected", expectedText(e))
	}
	if a := m.Allocation; a != nil {
		row("profile", fmt.Sprintf("%s, since %s, handed out %s", a.Profile, moment(a.Given), plural(a.Asked, "time")))
		row("variables", a.Var)
	}
	if m.Image != nil {
		row("image", m.Image.String())
	}
	row("now", m.Now)
	if m.Differs != nil {
		row("hardware", differsText(*m.Differs))
	}
	row("erased", wipeText(m.Wipe))
	row("error", m.LastError)
	t.Flush()
	if len(m.History) > 0 {
		fmt.Fprintln(out, "\nhistory")
	}
	_ = printHistory(out, "  ", m.History)
}
