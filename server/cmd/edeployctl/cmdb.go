package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"edeploy/server/api"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

type cmdbConfig struct {
	place
	raw bool
}

func newCMDBCommand(client *api.Client) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cmdb",
		Short: "See the entries of a CMDB and who holds them, and give them back",
		Long: `A CMDB (NAME.cmdb) holds one entry for each machine of profile NAME: client, host
name and whatever else its script needs. The entry that a machine takes has the
key 'used', and the machine's variables. Machines give their entries back when
they fail or are forgotten.

list and free ask the server, or work on a directory (--config DIR).`,
	}
	cmd.AddCommand(newCMDBListCommand(client), newCMDBFreeCommand(client), newCMDBVerifyCommand())
	return cmd
}

func newCMDBVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify KEY VALUE FILE...",
		Short: "Tell whether an entry with this value is used (verify-cmdb of eDeploy)",
		Long: `Verify looks for an entry that has VALUE at KEY and is used, and prints where it
found one. The exit status is 0 when there is one, 1 when there is none, and 2
when a file could not be read. In a file that is still a generate call nothing
is used.`,
		Example: "  edeployctl cmdb verify ip 192.168.122.3 profiles/*.cmdb",
		Args:    cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return verifyCMDB(cmd.OutOrStdout(), args[0], args[1], args[2:])
		},
	}
}

func verifyCMDB(out io.Writer, key, value string, files []string) error {
	found := false
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return unseen(err)
		}
		f, err := cmdb.Parse(file, string(text))
		if err != nil {
			return unseen(err)
		}
		for i := range f.Len() {
			if f.Original() == "" && hasUsed(f.Entry(i), key, value) {
				found = true
				fmt.Fprintf(out, "%s: entry %d: %s\n", printable(file), i+1, printable(literal.Repr(f.Entry(i))))
			}
		}
	}
	if !found {
		return fmt.Errorf("no used entry has %s at %s", value, key)
	}
	return nil
}

// hasUsed: the entry has the value, and 'used': 1.
func hasUsed(entry *literal.Dict, key, value string) bool {
	is, ok := entry.Get(key)
	used, _ := entry.Get("used")
	return ok && literal.Text(is) == value && literal.Equal(used, int64(1))
}

// entry is one entry of a CMDB, for the operator.
type entry struct {
	Number int            `json:"entry"` // from 1
	Used   bool           `json:"used"`
	Holder string         `json:"holder,omitempty"` // id of a machine; only the server knows it
	Values map[string]any `json:"values"`
}

func newCMDBListCommand(client *api.Client) *cobra.Command {
	c := cmdbConfig{place: place{client: client}}
	cmd := &cobra.Command{
		Use: "list PROFILE", Aliases: []string{"show", "ls"},
		Short: "List the entries of a profile's CMDB and the machines that hold them",
		Long: `List shows every entry: free, held by a machine, or used without a machine that
the server knows (the file came from another server, or was edited). Of a
directory (--config) nobody knows who holds what: its entries are free or used.`,
		Example: "  edeployctl cmdb list vm\n  edeployctl cmdb list vm --config profiles --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.list(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
		ValidArgsFunction: c.complete,
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&c.raw, "json", false, "print JSON: a list of entry, used, holder and values")
	return cmd
}

func (c *cmdbConfig) complete(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.profiles(cmd), cobra.ShellCompDirectiveNoFileComp
}

func (c *cmdbConfig) list(ctx context.Context, out io.Writer, profile string) error {
	text, _, err := c.documents().get(ctx, profile+".cmdb")
	if err != nil {
		return err
	}
	f, err := cmdb.Parse(profile+".cmdb", text)
	if err != nil {
		return err
	}
	machines, err := c.machines(ctx)
	if err != nil {
		return err
	}
	all := []entry{}
	for i := range f.Len() {
		e := entry{Number: i + 1, Used: f.Used(i), Values: map[string]any{}}
		if m := holderOf(machines, profile, f.Entry(i)); m != nil && e.Used {
			e.Holder = m.ID
		}
		for k, v := range f.Entry(i).All() {
			e.Values[literal.Text(k)] = plainValue(v)
		}
		all = append(all, e)
	}
	if c.raw {
		return printJSON(out, all)
	}
	printEntries(out, all)
	return nil
}

// plainValue is a value that JSON and bindingsText can write.
func plainValue(v literal.Value) any {
	switch v.(type) {
	case nil, bool, int64, float64, string:
		return v
	}
	return literal.Repr(v)
}

func printEntries(out io.Writer, all []entry) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ENTRY\tHOLDER\tVALUES")
	for _, e := range all {
		holder := "-"
		switch {
		case e.Holder != "":
			holder = e.Holder
		case e.Used:
			holder = "used"
		}
		delete(e.Values, "used")
		fmt.Fprintf(table, "%d\t%s\t%s\n", e.Number, printable(holder), printable(bindingsText(e.Values)))
	}
	table.Flush()
}

// machines are those of the server; of a directory nobody knows any.
func (c *cmdbConfig) machines(ctx context.Context) ([]api.Machine, error) {
	if c.dir != "" {
		return nil, nil
	}
	return c.client.Machines(ctx)
}

// holderOf is the machine that holds an entry: the entry is as the server wrote
// it for the machine or, when somebody edited it since, has an address of the
// machine. nil: nobody.
func holderOf(machines []api.Machine, profile string, entry *literal.Dict) *api.Machine {
	for i := range machines {
		m := &machines[i]
		if m.Allocation == nil || m.Allocation.Profile != profile || m.Allocation.CMDB == "" {
			continue
		}
		doc, err := literal.Parse("", m.Allocation.CMDB)
		if err == nil && literal.Equal(doc.Node.Value, entry) || hasAddress(entry, m.MACs) {
			return m
		}
	}
	return nil
}

func hasAddress(entry *literal.Dict, macs []string) bool {
	for _, v := range entry.All() {
		text, ok := v.(string)
		if mac := wire.NormalMAC(text); ok && mac != "" && slices.Contains(macs, mac) {
			return true
		}
	}
	return false
}

func newCMDBFreeCommand(client *api.Client) *cobra.Command {
	c := cmdbConfig{place: place{client: client}}
	cmd := &cobra.Command{
		Use:   "free PROFILE ENTRY",
		Short: "Give back an entry that no machine holds any more",
		Long: `Free makes a used entry free again, as it was before a machine took it: when the
CMDB came from a generate call, from that; else by removing what the specs bind.
ENTRY is a number of cmdb list, or KEY=VALUE.

An entry that a machine holds is not given back: forget the machine instead,
which also gives back its count. In a directory (--config) do this only while no
server uses it.`,
		Example: "  edeployctl cmdb free vm 3\n  edeployctl cmdb free vm ip=192.168.122.5",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.free(cmd.Context(), cmd.OutOrStdout(), args[0], args[1])
		},
		ValidArgsFunction: c.complete,
	}
	c.flags(cmd)
	return cmd
}

func (c *cmdbConfig) free(ctx context.Context, out io.Writer, profile, which string) error {
	d := c.documents()
	original, err := c.original(ctx, d, profile)
	if err != nil {
		return err
	}
	bound, err := boundNames(ctx, d, profile)
	if err != nil {
		return err
	}
	said := ""
	err = change(ctx, d, profile+".cmdb", func(text string) (string, error) {
		f, err := cmdb.Parse(profile+".cmdb", text)
		if err != nil {
			return "", err
		}
		i, err := findEntry(f, which)
		if err != nil {
			return "", err
		}
		machines, err := c.machines(ctx)
		if err != nil {
			return "", err
		}
		if m := holderOf(machines, profile, f.Entry(i)); m != nil {
			return "", fmt.Errorf("entry %d is held by machine %s: edeployctl forget %s gives it back", i+1, m.ID, m.ID)
		}
		before := untaken(f, i, original, bound)
		said = fmt.Sprintf("entry %d is free: %s", i+1, literal.Repr(before))
		freed, ok := f.Free(before, f.Entry(i))
		if !ok {
			return "", fmt.Errorf("entry %d has changed meanwhile: look at cmdb list, and try again", i+1)
		}
		return freed.Text(), nil
	})
	if err == nil {
		fmt.Fprintln(out, printable(said))
	}
	return err
}

// original is the generate call that the CMDB once was, expanded; nil: none.
func (c *cmdbConfig) original(ctx context.Context, d documents, profile string) (*cmdb.File, error) {
	text, _, err := d.get(ctx, profile+".cmdb.orig")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return cmdb.Parse(profile+".cmdb.orig", text)
}

// boundNames are the variables that a profile's specs add to an entry; $$
// variables were in it before.
func boundNames(ctx context.Context, d documents, profile string) ([]string, error) {
	text, _, err := d.get(ctx, profile+".specs")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	doc, err := literal.Parse(profile+".specs", text)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, line := range doc.Node.Items {
		for _, field := range line.Items {
			text, _ := field.Value.(string)
			name, ok := strings.CutPrefix(text, "$")
			if name, _, _ = strings.Cut(name, "="); ok && !strings.HasPrefix(name, "$") {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// findEntry finds the entry that the operator means, which must be used.
func findEntry(f *cmdb.File, which string) (int, error) {
	if f.Original() != "" {
		return 0, errors.New("the CMDB is a generate call: nothing of it is used yet")
	}
	found := []int{}
	key, value, named := strings.Cut(which, "=")
	for i := range f.Len() {
		v, ok := f.Entry(i).Get(key)
		if !named && which == fmt.Sprint(i+1) || named && ok && literal.Text(v) == value {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 0:
		word := "there is no entry"
		if named {
			word = "no entry has"
		}
		return 0, fmt.Errorf("%s %s: the CMDB has %s", word, which, plural(f.Len(), "entry"))
	case len(found) > 1:
		return 0, fmt.Errorf("%d entries have %s: give the number of one", len(found), which)
	case !f.Used(found[0]):
		return 0, fmt.Errorf("entry %d is free", found[0]+1)
	}
	return found[0], nil
}

// untaken is an entry as it was before a machine took it.
func untaken(f *cmdb.File, i int, original *cmdb.File, bound []string) *literal.Dict {
	if original != nil && sameEntries(f, original) {
		return original.Entry(i)
	}
	before := f.Entry(i).Clone()
	before.Delete("used")
	for _, name := range bound {
		if !inFreeEntry(f, name) {
			before.Delete(name)
		}
	}
	return before
}

// sameEntries: the entries that are free are still those of the original.
func sameEntries(f, original *cmdb.File) bool {
	if f.Len() != original.Len() {
		return false
	}
	for i := range f.Len() {
		if !f.Used(i) && !literal.Equal(f.Entry(i), original.Entry(i)) {
			return false
		}
	}
	return true
}

// inFreeEntry: entries have this key before they are taken.
func inFreeEntry(f *cmdb.File, key string) bool {
	for i := range f.Len() {
		if _, ok := f.Entry(i).Get(key); ok && !f.Used(i) {
			return true
		}
	}
	return false
}

func listOf(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
