package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/hardware"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
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
	var all bool
	var names []string
	cmd := &cobra.Command{
		Use:     "diff A B",
		Short:   "Show what two machines differ in",
		Long:    "Diff compares two hardware descriptions, property by property. The exit status is\n0 when they are alike, 1 when they differ, and 2 when one could not be read.",
		Example: "  edeployctl hw diff node1.hw node2.hw\n  edeployctl hw diff --all old.hw new.hw",
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().BoolVar(&all, "all", false, "compare identities, addresses and measurements, too")
	return answers(cmd, "print JSON: a list of category, id, field, a and b", func(_ *cobra.Command, args []string) ([]hardware.Difference, error) {
		var both [2]wire.Hardware
		for i, file := range args {
			var err error
			if both[i], err = readHardware(file); err != nil {
				return nil, unseen(err)
			}
			names = append(names, machineName(filepath.Base(file)))
		}
		return hardware.Diff(both[0], both[1], all), nil
	}, func(out io.Writer, diffs []hardware.Difference) error {
		if len(diffs) == 0 {
			return nil
		}
		t := newTable(out, "CATEGORY", "ID", "FIELD", names[0], names[1])
		for _, d := range diffs {
			t.row(d.Category, d.ID, d.Field, orDash(d.A), orDash(d.B))
		}
		return t.Flush()
	}, func(diffs []hardware.Difference) error {
		if len(diffs) == 0 {
			return nil
		}
		return errors.New(plural(len(diffs), "difference"))
	})
}

func newHWGroupsCommand() *cobra.Command {
	unread := 0
	return answers(&cobra.Command{
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
		Example:           "  edeployctl hw groups /var/lib/edeploy/hw",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeDirectory,
	}, "print JSON: products with groups and differing properties", func(cmd *cobra.Command, args []string) ([]hardware.Kind, error) {
		var all *hardware.Groups
		var err error
		if all, unread, err = readMachines(args[0], cmd.ErrOrStderr()); err != nil {
			return nil, unseen(err)
		}
		return all.Kinds(), nil
	}, printGroups, func([]hardware.Kind) error {
		if unread == 0 {
			return nil
		}
		return unseen(fmt.Errorf("%s could not be read: what is above is without them", plural(unread, "description")))
	})
}

// readMachines reads all descriptions of a directory, some at once. Those that
// cannot be read are named on stderr, and counted.
func readMachines(dir string, stderr io.Writer) (all *hardware.Groups, unread int, err error) {
	files, err := descriptions(dir, stderr)
	if err != nil {
		return nil, 0, err
	}
	all = new(hardware.Groups)
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	var mu sync.Mutex // of what follows
	n, shown := 0, time.Now()
	for _, file := range files {
		group.Go(func() error {
			hw, err := readHardware(filepath.Join(dir, file))
			mu.Lock()
			defer mu.Unlock()
			if n++; err != nil {
				unread++
				fmt.Fprintln(stderr, "not read:", printable(err.Error()))
			} else {
				all.Add(file, hw)
			}
			if time.Since(shown) > 2*time.Second {
				shown = time.Now()
				fmt.Fprintf(stderr, "%d of %d descriptions are read\n", n, len(files))
			}
			return nil
		})
	}
	_ = group.Wait()
	return all, unread, nil
}

// maxListed bounds the names in a line for people; --json has them all.
const maxListed = 50

func someOf(names []string) string {
	if len(names) <= maxListed {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], " "), len(names)-maxListed)
}

func printGroups(out io.Writer, kinds []hardware.Kind) error {
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
	t := newTable(out, "  PROPERTY", "VALUE", "MACHINES")
	for _, o := range odd {
		name := o.String()
		for i, v := range o.Values {
			who := someOf(v.Machines)
			if i == 0 && len(v.Machines) > maxNamed {
				who = fmt.Sprintf("%d machines", len(v.Machines))
			}
			t.row("  "+name, orDash(v.Text), who)
			name = ""
		}
	}
	t.Flush()
}
