package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/plan"
	"edeploy/agent/internal/upgrade"
	"edeploy/images/manifest"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const testUpgradeHelp = `Tell what an upgrade to VERSION would do to this machine, path by path. Nothing
is changed.

The server (RSERV) says how to get from this machine's version to the other:
metadata/FROM/ROLE/VERSION/exclude names what the upgrade leaves alone, add_only
what it adds there nevertheless if the disk does not have it. Both are written
in rsync's pattern language, and the upgrade touches what

    rsync -a --delete-after --exclude-from=exclude
    rsync -a --ignore-existing --include-from=add_only

would touch; files are compared by content (SHA-256), hard links and extended
attributes too. Never touched is what the installation itself wrote
(` + wire.LocalPath + `), and what edeploy keeps: /var/lib/edeploy,
/var/log/edeploy, /.edeploy.

First comes what is lost of this machine's own: what the tree of its version does
not have, or has otherwise. A rollback brings it back.

Users and groups are merged: what was changed on this machine in passwd, group,
shadow, gshadow, subuid and subgid stays, what is new in the tree comes. Ids
that would then belong to two make the upgrade impossible. Only an exclude list
that names all of these files leaves them alone.

Each further line is one path, as rsync --itemize-changes prints it, then the
differences in words, disk -> new version:

    >f+++++++++ usr/bin/new
    >fc.t...... etc/issue  (content differs, time ... -> ...)
    .f...p..... usr/bin/su  (mode 0755 -> 4755)
    cd+++++++++ var/lib/new  (add_only)
    *deleting   usr/bin/gone

    c content  s size  t time  p mode  o owner  g group  a ACL  x attribute

Exit status: 0 the upgrade is possible, 1 it is not: no such upgrade, or
something excluded is in its way.`

func (p program) testUpgradeCommand(machine *installed.Machine) *cobra.Command {
	var asJSON bool
	c := versionCommand(machine, "test-upgrade", "Tell what an upgrade would change", testUpgradeHelp,
		func(ctx context.Context, to string) error { return p.testUpgrade(ctx, *machine, to, asJSON) })
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (p program) testUpgrade(ctx context.Context, machine installed.Machine, to string, asJSON bool) error {
	conf, err := machine.Conf()
	if err != nil {
		return upgrade.CannotLook{Cause: err}
	}
	dir, err := os.MkdirTemp("", "edeploy-metadata-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r, err := p.system(machine, true).Prepare(ctx, conf, to, dir)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := p.show(asJSON, newPlanReport(r), func() string { return planText(r) }); err != nil {
		return err
	}
	return r.Possible()
}

// describe is one operation, disk -> new version.
func describe(o plan.Operation) installed.Item {
	item := installed.Itemize(o.Differences)[0]
	item.Differences = []manifest.Difference{}
	if o.Action == plan.Create || o.Action == plan.Delete {
		return item // the flags say it all
	}
	for _, d := range o.Differences {
		d.Want, d.Got = d.Got, d.Want
		item.Differences = append(item.Differences, d)
	}
	return item
}

func planText(r *upgrade.Preparation) string {
	var b strings.Builder
	for _, l := range r.Losses {
		fmt.Fprintln(&b, l)
	}
	if s := r.LossSentence(); s != "" {
		b.WriteString(s + "\n\n")
	}
	for _, o := range r.Plan.Operations {
		line := describe(o).String()
		if o.Pass == plan.PassAddOnly {
			line += "  (add_only)"
		}
		fmt.Fprintln(&b, line)
	}
	for _, m := range r.Merged {
		fmt.Fprintln(&b, m)
	}
	for _, c := range r.Conflicts() {
		fmt.Fprintln(&b, "conflict:", c)
	}
	fmt.Fprintln(&b, totals(r.Conf.Image, r.To.Version, r.Plan))
	return b.String()
}

func totals(from wire.ImageRef, to string, p *plan.Plan) string {
	t := p.Totals()
	return fmt.Sprintf("%s -> %s: %d new, %d replaced, %d attributes only, %d deleted; %d files, %.1f MB to fetch",
		from, to, t.Create, t.Replace, t.Change, t.Delete, t.Files, float64(t.Bytes)/1e6)
}

// planReport is what test-upgrade --json prints.
type planReport struct {
	Image     wire.ImageRef     `json:"image"`
	To        string            `json:"to"`
	Possible  bool              `json:"possible"`
	Files     int               `json:"fetch_files"`
	Bytes     int64             `json:"fetch_bytes"`
	Conflicts []string          `json:"conflicts"`
	Lost      []upgrade.Loss    `json:"lost"`   // of this machine's own
	Merged    []upgrade.Merge   `json:"merged"` // files of users and groups
	Paths     []operationReport `json:"paths"`
}

type operationReport struct {
	installed.Item
	Action plan.Action `json:"action"`
	Pass   int         `json:"pass"` // 1 exclude, 2 add_only
	Bytes  int64       `json:"bytes,omitempty"`
}

func newPlanReport(r *upgrade.Preparation) planReport {
	t, conflicts, losses := r.Plan.Totals(), r.Conflicts(), []upgrade.Loss{}
	for _, l := range r.Losses {
		l.Path = manifest.Escape(l.Path)
		losses = append(losses, l)
	}
	report := planReport{r.Conf.Image, r.To.Version, len(conflicts) == 0, t.Files, t.Bytes, conflicts, losses, append([]upgrade.Merge{}, r.Merged...), []operationReport{}}
	for _, o := range r.Plan.Operations {
		found := operationReport{Item: describe(o), Action: o.Action, Pass: o.Pass}
		if o.NeedsContent() {
			found.Bytes = o.Entry.Size
		}
		report.Paths = append(report.Paths, found)
	}
	return report
}
