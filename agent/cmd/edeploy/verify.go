package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"edeploy/agent/internal/installed"
	"edeploy/agent/internal/source"
	"edeploy/agent/internal/upgrade"
	"edeploy/images/manifest"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const verifyHelp = `Compare the whole disk, across its mounted file systems, with the manifest of the
installed role: type, mode with setuid bits, owner, time, size, content
(SHA-256), links, devices and extended attributes of every path, and paths that
the manifest does not have. Nothing is changed.

Each line is one path: what rsync would do to make it right again, as rsync
--itemize-changes prints it, then the differences in words, manifest -> disk.

    .f...p..... usr/bin/su  (mode 4755 -> 0755)
    >fc.t...... etc/issue  (content differs, time ... -> ...)
    >f+++++++++ usr/bin/less  (missing)
    *deleting   usr/local/bin/new  (extra file)

    c content  s size  t time  p mode  o owner  g group  a ACL  x attribute

Not compared is

  - what the installation itself wrote (` + wire.LocalPath + `, one
    path a line), and what edeploy keeps (/.edeploy, /boot/edeploy, ...)
  - what every running system changes, listed below
  - after an upgrade: what it left alone (exclude)
  - before any upgrade, of what exclude in /var/lib/edeploy/VERSION/ names: what
    lies below /var, and what the role's tree does not have

How many paths that were is said at the end, each with all below it. --all
compares them too, and says so of those that differ.

%s
A directory's time is not compared when one of these lies in it.

Exit status: 0 the disk is equal, 1 it differs, 2 it could not be compared.`

const verifyName = "verify"

type verifyOptions struct {
	fetch, all, json bool
	manifest         string
}

func (p program) verifyCommand(machine *installed.Machine) *cobra.Command {
	var o verifyOptions
	c := plainCommand(verifyName, "Compare the disk with the manifest of the installed role", fmt.Sprintf(verifyHelp, columns(installed.Volatile)),
		func(ctx context.Context) error { return p.verify(ctx, *machine, o) })
	c.Flags().BoolVar(&o.fetch, "fetch", false, "compare with the server's manifest (RSERV) instead of the one kept on this machine")
	c.Flags().StringVar(&o.manifest, "manifest", "", "compare with this mtree(5) file instead")
	c.Flags().BoolVar(&o.all, "all", false, "also compare what is expected to differ")
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	c.MarkFlagsMutuallyExclusive("fetch", "manifest")
	return c
}

// columns writes the rules as an indented block of lines.
func columns(rules installed.Rules) string {
	var b strings.Builder
	line := "   "
	for _, rule := range rules {
		if len(line)+1+len(rule) > 78 {
			b.WriteString(line + "\n")
			line = "   "
		}
		line += " /" + rule
	}
	return b.String() + line + "\n"
}

func (p program) verify(ctx context.Context, machine installed.Machine, o verifyOptions) error {
	conf, err := machine.Conf()
	if err != nil && o.manifest == "" {
		return err
	}
	want, err := wantedManifest(ctx, machine, conf, o)
	if err != nil {
		return err
	}
	allowed, err := machine.Allowed(conf.Image)
	if err != nil {
		return err
	}
	start := time.Now()
	bar := bar{out: p.stderr, title: "verify", on: p.terminal, now: time.Now, start: start}
	var found installed.Comparison
	err = upgrade.Undisturbed(p.system(machine, true).Transaction(), func() error {
		defer bar.clear()
		found, err = machine.Compare(ctx, want, installed.Options{Allowed: allowed, All: o.all, Progress: bar.show})
		return err
	})
	var mixed upgrade.CannotLook
	if err != nil && (found.Differences == nil || upgrade.Stopped(ctx, err) || errors.As(err, &mixed)) {
		return err
	}
	report := report{Image: conf.Image, Root: machine.Root, Equal: err == nil && len(found.Differences) == 0, Entries: found.Entries,
		Bytes: found.Bytes, Seconds: time.Since(start).Seconds(), Paths: []pathReport{}, LeftOut: map[installed.Reason]int{}, all: o.all}
	for _, item := range installed.Itemize(found.Differences) {
		report.Paths = append(report.Paths, pathReport{item, found.LeftOut[item.Differences[0].Path]})
	}
	for _, why := range found.LeftOut {
		report.LeftOut[why]++
	}
	if err := errors.Join(err, p.show(o.json, report, report.text)); err != nil {
		return err
	}
	if !report.Equal {
		return errSaid
	}
	return nil
}

func wantedManifest(ctx context.Context, machine installed.Machine, conf wire.Installed, o verifyOptions) (*manifest.Manifest, error) {
	switch {
	case o.fetch:
		return source.Client{Installed: conf}.Manifest(ctx, conf.Image)
	case o.manifest != "":
		return manifest.ReadFile(o.manifest)
	}
	return machine.Manifest()
}

type report struct {
	Image   wire.ImageRef `json:"image"`
	Root    string        `json:"root"`
	Equal   bool          `json:"equal"`
	Entries int           `json:"entries"` // of the manifest
	Bytes   int64         `json:"bytes"`   // of its files
	Seconds float64       `json:"seconds"`
	Paths   []pathReport  `json:"paths"` // that differ

	// LeftOut counts the paths that were not compared, each with all below it;
	// with --all those of Paths that otherwise would not have been.
	LeftOut map[installed.Reason]int `json:"left_out"`
	all     bool
}

type pathReport struct {
	installed.Item
	LeftOut installed.Reason `json:"left_out,omitempty"` // why it is compared with --all only
}

func (r report) text() string {
	var b strings.Builder
	var missing, extra int
	for _, path := range r.Paths {
		fmt.Fprint(&b, path.Item)
		if path.LeftOut != "" {
			fmt.Fprintf(&b, "  [%s]", reasons[path.LeftOut])
		}
		fmt.Fprintln(&b)
		switch path.Differences[0].Attribute {
		case manifest.AttrMissing:
			missing++
		case manifest.AttrExtra:
			extra++
		}
	}
	verdict := "equal"
	if !r.Equal {
		verdict = fmt.Sprintf("%d changed, %d missing, %d extra", len(r.Paths)-missing-extra, missing, extra)
	}
	fmt.Fprintf(&b, "%s: %d entries, %.0f MB compared in %.1f s: %s\n", r.Image, r.Entries, float64(r.Bytes)/1e6, r.Seconds, verdict)
	if line := r.without(); line != "" {
		fmt.Fprintln(&b, line)
	}
	return b.String()
}

// reasons are those for which a path is not compared, in words.
var reasons = map[installed.Reason]string{
	installed.ByInstallation: "written by the installation", installed.ByProgram: "of edeploy itself",
	installed.ByNature: "changed by every running system", installed.ByUpgrade: "left to this machine (exclude)",
}

// without says what was not compared.
func (r report) without() string {
	var parts []string
	for _, why := range []installed.Reason{installed.ByInstallation, installed.ByProgram, installed.ByNature, installed.ByUpgrade} {
		if n := r.LeftOut[why]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, reasons[why]))
		}
	}
	switch {
	case len(parts) == 0:
		return ""
	case r.all:
		return "Of these are compared with --all only: " + strings.Join(parts, ", ")
	}
	return "Paths not compared, each with all below it (--all compares them): " + strings.Join(parts, ", ")
}
