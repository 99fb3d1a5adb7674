package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const listHelp = `Print the versions that this machine can be upgraded to, one a line: those that
the server (RSERV) has metadata for, in metadata/VERS/ROLE/. Behind each is what
the server (SERV) tells of its tree.

Exit status: 0 there are some; 1 there are none, or the server could not be
asked.`

func (p program) listCommand(machine *installed.Machine) *cobra.Command {
	return plainCommand("list", "Print the versions this machine can be upgraded to", listHelp,
		func(ctx context.Context) error { return p.list(ctx, *machine) })
}

func (p program) list(ctx context.Context, machine installed.Machine) error {
	conf, err := machine.Conf()
	if err != nil {
		return err
	}
	versions, err := installed.Upgrades(ctx, conf)
	if err != nil {
		return err
	}
	if len(versions) == 0 {
		return fmt.Errorf("the server %s has no upgrade of %s", conf.RServ, conf.Image)
	}
	return writeVersions(p.stdout, conf.Image.Role, versions, p.images(ctx, conf))
}

// images are what the server says of the role; nothing when it says nothing.
func (p program) images(ctx context.Context, conf wire.Installed) []api.Image {
	if conf.Serv == "" {
		return nil
	}
	server := p.system(installed.Machine{}, true).Files(conf)
	defer server.Close()
	found, err := server.Images(ctx)
	if err != nil {
		fmt.Fprintf(p.stderr, "edeploy: only the names are known: %v\n", err)
	}
	return found
}

func writeVersions(w io.Writer, role string, versions []string, images []api.Image) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range versions {
		line := v
		if images != nil {
			line += "\t" + describeImage(wire.ImageRef{Role: role, Version: v}, images)
		}
		fmt.Fprintln(table, line)
	}
	return table.Flush()
}

func describeImage(ref wire.ImageRef, images []api.Image) string {
	for _, i := range images {
		if i.ImageRef != ref || !i.Complete {
			continue
		}
		what := fmt.Sprintf("published %s", i.Published.Local().Format("2006-01-02 15:04"))
		if i.Bytes > 0 {
			what += fmt.Sprintf(", %d entries, %.0f MB", i.Entries, float64(i.Bytes)/1e6)
		}
		return what
	}
	return "not on the server yet: its tree or manifest is missing"
}

// completionTime is how long a shell waits for versions.
const completionTime = 3 * time.Second

func completeVersions(machine *installed.Machine) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		conf, err := machine.Conf()
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completionTime)
		defer cancel()
		versions, err := installed.Upgrades(ctx, conf)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var fitting []cobra.Completion
		for _, v := range versions {
			if strings.HasPrefix(v, typed) {
				fitting = append(fitting, v)
			}
		}
		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}
