package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/awaited"
	"edeploy/server/internal/expectation"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/hardware"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const expectLong = `Say what hardware machines should have, or which machines are to come.

  expect BILL ID       make the bill of materials BILL from a good machine
  expect --list FILE   import machines before they arrive

A bill is a file of the configuration, BILL.bill: config pull, push, list and show
have it with the others. A profile expects it by a line in its specs file, which
the original eDeploy reads as a comment:

  # edeploy: expect BILL

A machine that fits the profile and differs from the bill is held: nothing is
installed, and its console, "machines show" and "problems" say what differs. It
asks again when it boots. To let it pass, make the bill anew from it (expect BILL
ID), or "install-anyway ID" for this machine alone.

Compared is what "hw diff" compares: not serials, addresses, temperatures, counters.
Left out besides is what the software makes or sets: kernel, drivers and their
settings, CPU flags, schedulers, the BMC, logical disks of a controller, states. Disks and network adapters may change their names. What else
is to be left out stands in the bill's list 'ignore', as (category, id, field) with
"*" for any text; --ignore adds to it, and a bill that is made anew keeps it.

With --group all machines of the same product are looked at: what is another value
on most of ten or more is ignored, too, and you are told how many are like this one.

FILE is CSV, a machine a line: MAC address or serial, name, section, rack, unit. What
is missing at the end is not known; a first line that names the columns (mac, serial,
name, section, rack, unit) gives them another order. A machine that comes with the
address or the serial takes name, deployment and place; "machines" shows who has not
come yet. A line with a mistake is named, and then nothing is imported. A list may
be brought again: what has changed is taken over, and no machine is removed.`

type expectConfig struct {
	client  *api.Client
	section string
	list    string
	ignore  []string
	group   bool
	print   bool
	raw     bool
}

func newExpectCommand(client *api.Client) *cobra.Command {
	c := expectConfig{client: client}
	cmd := &cobra.Command{
		Use:     "expect BILL ID | expect --list FILE",
		Short:   "Make the bill of materials that machines must equal, or import machines before they arrive",
		Long:    expectLong,
		Example: "  edeployctl expect r7 node1 --group\n  edeployctl expect r7 node1 --ignore 'network * speed'\n  edeployctl expect --list rack1.csv",
		Args: func(_ *cobra.Command, args []string) error {
			if c.list == "" && len(args) != 2 || c.list != "" && len(args) != 0 {
				return errors.New("want BILL and ID, or --list FILE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.list != "" {
				return c.importList(cmd.Context(), cmd.OutOrStdout())
			}
			return c.make(cmd.Context(), args[0], args[1], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: c.complete,
	}
	addSectionFlag(cmd, &c.section)
	cmd.Flags().StringVar(&c.list, "list", "", "import the machines of this CSV file")
	cmd.Flags().StringArrayVar(&c.ignore, "ignore", nil, "leave out what is named by \"CATEGORY ID FIELD\"; * stands for any text")
	cmd.Flags().BoolVar(&c.group, "group", false, "look at all machines of the same product")
	cmd.Flags().BoolVar(&c.print, "print", false, "print the bill and store nothing")
	cmd.Flags().BoolVar(&c.raw, "json", false, "print JSON: bill, section, machine, facts, ignored, alike, of, changed; with --list added, changed, unchanged")
	return cmd
}

func newInstallAnywayCommand(client *api.Client) *cobra.Command {
	return &cobra.Command{
		Use:   "install-anyway ID",
		Short: "Install a machine although its hardware differs from the expected one, once",
		Long: `Let pass what a machine has otherwise than the bill of materials of its profile: it is
installed when it boots again. This holds until it is installed. If something else
differs by then, it is held again.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			m, err := client.InstallAnyway(cmd.Context(), args[0])
			return fmt.Sprintf("machine %s (%s) is installed when it boots again", m.ID, m.DisplayName), err
		}),
	}
}

func (c *expectConfig) complete(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return completeMachine(c.client)(cmd, nil, prefix)
	}
	return completes(func(ctx context.Context, before []string) (words []string) {
		if len(before) > 0 || c.list != "" {
			return nil
		}
		files, _ := deploymentFiles(ctx, c.client, c.section) // without an answer there is nothing to complete
		for _, f := range files {
			if bill, ok := strings.CutSuffix(f.Name, string(fileset.Bill)); ok {
				words = append(words, bill)
			}
		}
		return words
	})(cmd, args, prefix)
}

// importList brings the list of machines that are to come.
func (c *expectConfig) importList(ctx context.Context, out io.Writer) error {
	f, err := os.Open(c.list)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, awaited.MaxBytes+1))
	if err != nil {
		return err
	}
	if len(text) > awaited.MaxBytes {
		return fmt.Errorf("%s has more than %d bytes: bring it in parts", c.list, awaited.MaxBytes)
	}
	done, err := c.client.Expect(ctx, text)
	switch api.StatusOf(err) {
	case http.StatusUnprocessableEntity, http.StatusConflict:
		return fmt.Errorf("%s %w: nothing is imported", filepath.Base(c.list), err)
	}
	if err != nil {
		return err
	}
	return show(out, c.raw, done, func(out io.Writer, done api.Imported) error {
		_, err := fmt.Fprintf(out, "%s to come, %d known before and changed, %d unchanged\n", plural(done.Added, "machine"), done.Changed, done.Unchanged)
		return err
	})
}

// made is what became of a bill.
type made struct {
	Bill    string           `json:"bill"`
	Section string           `json:"section"`
	Machine string           `json:"machine"`
	Facts   int              `json:"facts"`
	Ignored int              `json:"ignored"` // patterns
	Alike   int              `json:"alike,omitempty"`
	Of      int              `json:"of,omitempty"` // machines of the product
	New     bool             `json:"new"`          // there was no such bill
	Changed []api.Difference `json:"changed"`      // that the bill had otherwise
}

func (c *expectConfig) make(ctx context.Context, name, id string, out, stderr io.Writer) error {
	file, err := fileset.ParseName(name + string(fileset.Bill))
	if err != nil {
		return unseen(fmt.Errorf("%s cannot be the name of a bill: %w", printable(name), err))
	}
	is := made{Bill: name, Section: c.section, Changed: []api.Difference{}}
	ignore, err := patterns(c.ignore)
	if err != nil {
		return err
	}
	hw, err := c.machine(ctx, &is, id)
	if err == nil && c.group {
		ignore, err = c.lookAtGroup(ctx, &is, ignore, stderr)
	}
	if err != nil {
		return err
	}
	before, version, err := c.before(ctx, file.String())
	if err != nil {
		return err
	}
	if is.New = before == nil; !is.New {
		is.Changed = append(is.Changed, before.Compare(expectation.Of(hw))...)
		ignore = slices.Concat(before.Ignore, slices.DeleteFunc(ignore, func(p expectation.Pattern) bool { return slices.Contains(before.Ignore, p) }))
	}
	bill := expectation.New(hw, ignore)
	is.Facts, is.Ignored = len(bill.Facts), len(ignore)
	if c.print {
		_, err := io.WriteString(out, bill.Text())
		return err
	}
	if err := c.client.PutConfigFile(ctx, c.section, file.String(), bill.Text(), version); err != nil {
		return refusedFiles(stderr, err)
	}
	return show(out, c.raw, is, printMade)
}

// machine is the description of the good machine.
func (c *expectConfig) machine(ctx context.Context, is *made, id string) (wire.Hardware, error) {
	m, err := c.client.Machine(ctx, id)
	if err != nil {
		return nil, err
	}
	is.Machine = m.ID
	text, err := c.client.Hardware(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	hw, err := upload.ParseHardware(text)
	if err != nil {
		return nil, fmt.Errorf("hardware of machine %s: %w", m.ID, err)
	}
	return hw, nil
}

// before is the bill as the server has it; nil: it has none.
func (c *expectConfig) before(ctx context.Context, file string) (*expectation.Bill, string, error) {
	text, version, err := deployment{c.client, c.section}.get(ctx, file)
	if errors.Is(err, fs.ErrNotExist) && api.StatusOf(err) == http.StatusNotFound {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	b, err := expectation.Parse(file, text)
	if err != nil {
		return nil, "", fmt.Errorf("%w: mend the bill, or remove it, before it is made anew", err)
	}
	return b, version, nil
}

func patterns(texts []string) ([]expectation.Pattern, error) {
	var all []expectation.Pattern
	for _, text := range texts {
		words := strings.Fields(text)
		if len(words) < 3 {
			return nil, unseen(fmt.Errorf("--ignore %q: want CATEGORY ID FIELD", text))
		}
		all = append(all, expectation.Pattern{Category: words[0], ID: words[1], Field: strings.Join(words[2:], " ")})
	}
	return all, nil
}

// lookAtGroup compares the machine with all of its product, and adds what is
// another value on most of them.
func (c *expectConfig) lookAtGroup(ctx context.Context, is *made, ignore []expectation.Pattern, stderr io.Writer) ([]expectation.Pattern, error) {
	var all hardware.Groups
	_, _, err := eachHardware(ctx, c.client, stderr, func(id string, text []byte) error {
		hw, err := upload.ParseHardware(text)
		if err == nil {
			all.Add(id, hw)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, kind := range all.Kinds() {
		i := slices.IndexFunc(kind.Groups, func(g hardware.Group) bool { return slices.Contains(g.Machines, is.Machine) })
		if i < 0 {
			continue
		}
		for _, g := range kind.Groups {
			is.Of += len(g.Machines)
		}
		for _, key := range kind.LeftOut {
			ignore = append(ignore, expectation.Pattern{Category: key.Category, ID: key.ID, Field: key.Field})
		}
		is.Alike = len(kind.Groups[i].Machines)
		if largest := kind.Groups[0].Machines; len(largest) > is.Alike {
			fmt.Fprintf(stderr, "warning: %s are alike and not like %s: edeployctl expect %s %s makes the bill from one of them\n", plural(len(largest), "machine"), is.Machine, is.Bill, largest[0])
		}
	}
	return ignore, nil
}

func printMade(out io.Writer, is made) error {
	fmt.Fprintf(out, "%s.bill: %s of machine %s, %s ignored\n", is.Bill, plural(is.Facts, "fact"), is.Machine, plural(is.Ignored, "pattern"))
	if is.Of > 0 {
		fmt.Fprintf(out, "%d of %s of this product %s so\n", is.Alike, plural(is.Of, "machine"), verb(is.Alike, "is", "are"))
	}
	for _, d := range is.Changed {
		fmt.Fprintf(out, "changed: %s\n", printable(d.String()))
	}
	if is.New {
		fmt.Fprintf(out, "A profile expects it by this line in its specs file: # edeploy: expect %s\n", is.Bill)
	}
	return nil
}
