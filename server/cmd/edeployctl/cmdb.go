package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

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
			is, ok := f.Entry(i).Get(key)
			used, _ := f.Entry(i).Get("used")
			if f.Original() == "" && ok && literal.Text(is) == value && literal.Equal(used, int64(1)) {
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

type entry struct {
	Number int            `json:"entry"` // from 1
	Used   bool           `json:"used"`
	Holder string         `json:"holder,omitempty"` // id of a machine; only the server knows it
	Values map[string]any `json:"values"`
}

func newCMDBListCommand(client *api.Client) *cobra.Command {
	p := place{client: client}
	cmd := &cobra.Command{
		Use: "list PROFILE", Aliases: []string{"show", "ls"},
		Short: "List the entries of a profile's CMDB and the machines that hold them",
		Long: `List shows every entry: free, held by a machine, or used without a machine that
the server knows (the file came from another server, or was edited). Of a
directory (--config) nobody knows who holds what: its entries are free or used.`,
		Example:           "  edeployctl cmdb list vm\n  edeployctl cmdb list vm --config profiles --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete,
	}
	p.flags(cmd)
	return answers(cmd, "print JSON: a list of entry, used, holder and values", func(cmd *cobra.Command, args []string) ([]entry, error) {
		return p.entries(cmd.Context(), args[0])
	}, printEntries)
}

func (p *place) entries(ctx context.Context, profile string) ([]entry, error) {
	f, err := p.cmdb(ctx, profile+".cmdb")
	if err != nil {
		return nil, err
	}
	machines, err := p.machines(ctx)
	if err != nil {
		return nil, err
	}
	all := []entry{}
	for i := range f.Len() {
		e := entry{Number: i + 1, Used: f.Used(i), Values: map[string]any{}}
		if m := holderOf(machines, profile, f.Entry(i)); m != nil && e.Used {
			e.Holder = m.ID
		}
		for k, v := range f.Entry(i).All() {
			switch v.(type) {
			case nil, bool, int64, float64, string:
			default: // JSON and bindingsText cannot write it
				v = literal.Repr(v)
			}
			e.Values[literal.Text(k)] = v
		}
		all = append(all, e)
	}
	return all, nil
}

func (p *place) cmdb(ctx context.Context, name string) (*cmdb.File, error) {
	text, _, err := p.documents().get(ctx, name)
	if err != nil {
		return nil, err
	}
	return cmdb.Parse(name, text)
}

// machines are those of the server; of a directory nobody knows any.
func (p *place) machines(ctx context.Context) ([]api.Machine, error) {
	if p.dir != "" {
		return nil, nil
	}
	return p.client.Machines(ctx)
}

func printEntries(out io.Writer, all []entry) error {
	t := newTable(out, "ENTRY", "HOLDER", "VALUES")
	for _, e := range all {
		if e.Used {
			e.Holder = cmp.Or(e.Holder, "used")
		}
		delete(e.Values, "used")
		t.row(e.Number, orDash(e.Holder), bindingsText(e.Values))
	}
	return t.Flush()
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
		if err == nil && literal.Equal(doc.Node.Value, entry) {
			return m
		}
		for _, v := range entry.All() {
			text, _ := v.(string)
			if mac := wire.NormalMAC(text); mac != "" && slices.Contains(m.MACs, mac) {
				return m
			}
		}
	}
	return nil
}

func newCMDBFreeCommand(client *api.Client) *cobra.Command {
	p := place{client: client}
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
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			return p.free(cmd.Context(), args[0], args[1])
		}),
		ValidArgsFunction: p.complete,
	}
	p.flags(cmd)
	return cmd
}

func (p *place) free(ctx context.Context, profile, which string) (said string, err error) {
	original, err := p.cmdb(ctx, profile+".cmdb.orig")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	bound, err := p.boundNames(ctx, profile)
	if err != nil {
		return "", err
	}
	err = change(ctx, p.documents(), profile+".cmdb", func(text string) (string, error) {
		f, err := cmdb.Parse(profile+".cmdb", text)
		if err != nil {
			return "", err
		}
		i, err := findEntry(f, which)
		if err != nil {
			return "", err
		}
		machines, err := p.machines(ctx)
		if err != nil {
			return "", err
		}
		if m := holderOf(machines, profile, f.Entry(i)); m != nil {
			return "", fmt.Errorf("entry %d is held by machine %s: edeployctl forget %s gives it back", i+1, m.ID, m.ID)
		}
		freed := f.Untake(i, original, bound)
		said = fmt.Sprintf("entry %d is free: %s", i+1, literal.Repr(freed.Entry(i)))
		return freed.Text(), nil
	})
	return said, err
}

// boundNames are the variables that a profile's specs add to an entry; $$
// variables were in it before.
func (p *place) boundNames(ctx context.Context, profile string) ([]string, error) {
	text, _, err := p.documents().get(ctx, profile+".specs")
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
	names, strict := match.Variables(doc)
	return slices.DeleteFunc(names, func(name string) bool { return strict[name] }), nil
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
