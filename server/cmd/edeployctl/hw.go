package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/hardware"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

func newHWCommand(client *api.Client) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hw",
		Short: "Fetch and compare hardware descriptions: what is different, which machines are alike",
		Long: `The server keeps the description of every machine that asked (HWDIR, *.hw). These
commands fetch and compare them. Facts that identify a machine or change by themselves
are left out: serials, UUIDs, addresses, switch ports, temperatures, counters.`,
	}
	cmd.AddCommand(newHWDiffCommand(), newHWGroupsCommand(), newHWPullCommand(client), newHWShowCommand(client))
	return cmd
}

func newHWDiffCommand() *cobra.Command {
	var raw, all bool
	cmd := &cobra.Command{
		Use:     "diff A B",
		Short:   "Show what two machines differ in",
		Long:    "Diff compares two hardware descriptions, property by property. The exit status is\n0 when they are alike, 1 when they differ, and 2 when one could not be read.",
		Example: "  edeployctl hw diff node1.hw node2.hw\n  edeployctl hw diff --all old.hw new.hw",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := readHardware(args[0])
			if err != nil {
				return unseen(err)
			}
			b, err := readHardware(args[1])
			if err != nil {
				return unseen(err)
			}
			diffs := hardware.Diff(a, b, all)
			if err := printDiff(cmd.OutOrStdout(), diffs, args, raw); err != nil {
				return unseen(err)
			}
			if len(diffs) > 0 {
				return errors.New(plural(len(diffs), "difference"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print JSON: a list of category, id, field, a and b")
	cmd.Flags().BoolVar(&all, "all", false, "compare identities, addresses and measurements, too")
	return cmd
}

func printDiff(out io.Writer, diffs []hardware.Difference, names []string, raw bool) error {
	if raw {
		return printJSON(out, diffs)
	}
	if len(diffs) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "CATEGORY\tID\tFIELD\t%s\t%s\n", printable(machineName(filepath.Base(names[0]))), printable(machineName(filepath.Base(names[1]))))
	for _, d := range diffs {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", printable(d.Category), printable(d.ID), printable(d.Field),
			printable(cmp.Or(d.A, "-")), printable(cmp.Or(d.B, "-")))
	}
	return table.Flush()
}

func newHWGroupsCommand() *cobra.Command {
	var raw bool
	cmd := &cobra.Command{
		Use:   "groups DIR",
		Short: "Show which machines are alike, and what the odd ones differ in",
		Long: `Groups reads every .hw and .json file of DIR and sorts the machines by product. For
each product it lists the groups of machines that are alike, and then every
property that is not the same in all: what most have, and who has what instead
(a missing disk, half the memory, an older firmware).

What is measured is left out, and what identifies a machine. When ten machines
or more have a property and most of them another value, it is left out, too, and
named. Files that are not read are named on standard error; the exit status is 2
when a description could not be read, else 0.`,
		Example: "  edeployctl hw groups /var/lib/edeploy/hw",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, unread, err := readMachines(args[0], cmd.ErrOrStderr())
			if err != nil {
				return unseen(err)
			}
			if err := printGroups(cmd.OutOrStdout(), all.Kinds(), raw); err != nil {
				return unseen(err)
			}
			if unread > 0 {
				return unseen(fmt.Errorf("%s could not be read: what is above is without them", plural(unread, "description")))
			}
			return nil
		},
		ValidArgsFunction: completeDirectory,
	}
	cmd.Flags().BoolVar(&raw, "json", false, "print JSON: products with groups and differing properties")
	return cmd
}

// readMachines reads all descriptions of a directory, some at once. Those that
// cannot be read are named on stderr, and counted.
func readMachines(dir string, stderr io.Writer) (all *hardware.Groups, unread int, err error) {
	files, skipped, err := descriptions(dir)
	if err != nil {
		return nil, 0, err
	}
	if len(skipped) > 0 {
		fmt.Fprintf(stderr, "skipped, no .hw or .json: %s\n", printable(someOf(skipped)))
	}
	type read struct {
		file string
		hw   wire.Hardware
		err  error
	}
	next, done := make(chan string), make(chan read)
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for file := range next {
				hw, err := readHardware(filepath.Join(dir, file))
				done <- read{file, hw, err}
			}
		}()
	}
	go func() {
		defer close(next)
		for _, file := range files {
			next <- file
		}
	}()
	all = new(hardware.Groups)
	shown := time.Now()
	for i := range files {
		r := <-done
		if r.err != nil {
			unread++
			fmt.Fprintln(stderr, "not read:", printable(r.err.Error()))
		} else {
			all.Add(r.file, r.hw)
		}
		if time.Since(shown) > 2*time.Second {
			shown = time.Now()
			fmt.Fprintf(stderr, "%d of %d descriptions are read\n", i+1, len(files))
		}
	}
	return all, unread, nil
}

// maxListed bounds the names in a line for people; --json has them all.
const maxListed = 50

// someOf lists names.
func someOf(names []string) string {
	if len(names) <= maxListed {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], " "), len(names)-maxListed)
}

func printGroups(out io.Writer, kinds []hardware.Kind, raw bool) error {
	if raw {
		return printJSON(out, kinds)
	}
	for i, k := range kinds {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out, printable(k.Name))
		for _, g := range k.Groups {
			fmt.Fprintf(out, "  %d alike: %s\n", len(g.Machines), printable(someOf(g.Machines)))
		}
		printOdd(out, k.Odd)
		if len(k.LeftOut) > 0 {
			var names []string
			for _, key := range k.LeftOut {
				names = append(names, key.String())
			}
			fmt.Fprintf(out, "  left out, another value on most machines: %s\n", printable(strings.Join(names, ", ")))
		}
	}
	return nil
}

// maxNamed bounds the machines that are named for the most frequent value: it
// is the usual one.
const maxNamed = 3

func printOdd(out io.Writer, odd []hardware.Outlier) {
	if len(odd) == 0 {
		return
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  PROPERTY\tVALUE\tMACHINES")
	for _, o := range odd {
		name := o.String()
		for i, v := range o.Values {
			who := someOf(v.Machines)
			if i == 0 && len(v.Machines) > maxNamed {
				who = fmt.Sprintf("%d machines", len(v.Machines))
			}
			fmt.Fprintf(table, "  %s\t%s\t%s\n", printable(name), printable(cmp.Or(v.Text, "-")), printable(who))
			name = ""
		}
	}
	table.Flush()
}
