package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/fileset"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

const configPullLong = `Pull writes state, authorized_keys, *.specs, *.configure, *.cmdb and *.bill of the
server into DIR, which is made when it does not exist. Files that only DIR has are left alone. When DIR
has other texts, pull asks before it replaces any of them; without a terminal it
wants --force.

A CMDB that the server has made from a generate call comes as that call: pushed
again, machines keep the entries that they hold. With --entries it comes as the
server has it now, with all entries and who took them, as "config show" prints
it. A CMDB whose entries are no longer those of its call comes so, too.`

func newConfigPullCommand(client *api.Client) *cobra.Command {
	var c configPull
	cmd := &cobra.Command{
		Use:     "pull DIR",
		Short:   "Copy the server's profiles into a directory",
		Long:    configPullLong,
		Example: "  edeployctl config pull profiles\n  edeployctl config pull --entries backup",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.client, c.dir, c.terminal = client, args[0], terminalOf(cmd)
			return c.run(cmd.Context(), cmd.OutOrStdout())
		},
		ValidArgsFunction: completeDirectory,
	}
	addSectionFlag(cmd, &c.section)
	cmd.Flags().BoolVar(&c.force, "force", false, "replace files of DIR that have other texts")
	cmd.Flags().BoolVar(&c.entries, "entries", false, "bring CMDBs with their entries, also those made by generate")
	return cmd
}

type configPull struct {
	client         *api.Client
	section, dir   string
	force, entries bool
	terminal       terminal
}

func (c configPull) run(ctx context.Context, out io.Writer) error {
	texts, err := c.fetch(ctx)
	if err != nil {
		return err
	}
	if len(texts) == 0 {
		return fmt.Errorf("the server has no files for deployment %s", c.section)
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := c.mayReplace(root, texts); err != nil {
		return err
	}
	for _, f := range texts {
		word, err := writeOne(root, f)
		if err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(c.dir, f.name), err)
		}
		fmt.Fprintf(out, "%-9s  %s%s\n", word, f.name, f.note)
	}
	return nil
}

// pulled is a file as it is to be written.
type pulled struct {
	name string
	text []byte
	note string // behind its name
}

func (c configPull) fetch(ctx context.Context) ([]pulled, error) {
	all, err := deploymentFiles(ctx, c.client, c.section)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, f := range all {
		there[f.Name] = true
	}
	var texts []pulled
	for _, f := range all {
		name, err := fileset.ParseName(f.Name)
		if err != nil {
			return nil, fmt.Errorf("the server lists a file that cannot be written here: %w", err)
		}
		if name.Kind == fileset.Original {
			continue
		}
		p, err := c.one(ctx, name, there)
		if err != nil {
			return nil, fmt.Errorf("pull %s: %w", f.Name, err)
		}
		texts = append(texts, p)
	}
	return texts, nil
}

// one brings a file; a CMDB as the generate call that it was, when that still
// makes its entries.
func (c configPull) one(ctx context.Context, name fileset.Name, there map[string]bool) (pulled, error) {
	text, _, err := c.client.ConfigFile(ctx, c.section, name.String())
	p := pulled{name: name.String(), text: text}
	original := name.Profile + string(fileset.Original)
	if err != nil || name.Kind != fileset.CMDB || !there[original] || c.entries {
		return p, err
	}
	call, _, err := c.client.ConfigFile(ctx, c.section, original)
	if err != nil {
		return p, err
	}
	now, err := cmdb.Parse(p.name, string(text))
	was, err2 := cmdb.Parse(original, string(call))
	if err != nil || err2 != nil || !now.SameFree(was) {
		p.note = ": its entries, which are no longer those of its generate call"
		return p, nil
	}
	p.text, p.note = call, ": the generate call; --entries brings the entries that it has become"
	return p, nil
}

// mayReplace asks before texts of the directory are lost.
func (c configPull) mayReplace(root *os.Root, texts []pulled) error {
	var other []string
	for _, f := range texts {
		if before, err := root.ReadFile(f.name); err == nil && !bytes.Equal(before, f.text) {
			other = append(other, f.name)
		}
	}
	if len(other) == 0 || c.force {
		return nil
	}
	sentence := fmt.Sprintf("%s has other texts than the server: %s", c.dir, strings.Join(other, " "))
	if !c.terminal.there {
		return fmt.Errorf("nothing was written: %s; --force replaces them", sentence)
	}
	if !c.terminal.confirms(printable(sentence) + "\nReplace them?") {
		return errors.New("nothing was written")
	}
	return nil
}

func writeOne(root *os.Root, f pulled) (word string, err error) {
	before, err := root.ReadFile(f.name)
	word = "changed"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		word = "added"
	case err != nil:
		return "", err
	case bytes.Equal(before, f.text):
		return "unchanged", nil
	}
	return word, renameio.WriteFile(f.name, f.text, 0o644, renameio.WithRoot(root))
}
