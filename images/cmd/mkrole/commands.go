package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"edeploy/images/internal/build"
	"edeploy/images/internal/role"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "mkrole",
		Short:         "Build and examine role trees",
		Version:       wire.Release(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	roles := root.PersistentFlags().String("roles", builtIn, "directory of your own role definitions and versions; those of "+builtIn+" are known, too")
	root.AddCommand(newListCommand(roles), newBuildCommand(roles), newCheckCommand(), newDiffCommand(), newMetadataCommand(roles), newPackCommand())
	root.SetVersionTemplate("mkrole {{.Version}}\n")
	strict(root)
	return root
}

// builtIn are the role definitions that come with the product.
const builtIn = "images/roles"

// rolePath are the directories of role definitions.
func rolePath(own string) role.Path {
	if filepath.Clean(own) == builtIn {
		return role.Path{own}
	}
	return role.Path{own, builtIn}
}

func newListCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the roles that can be built",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			roles, err := rolePath(*dir).List()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ROLE\tFROM\tPACKAGES\tDESCRIPTION")
			for _, r := range roles {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", r.Name, r.Suite+r.Base, len(r.InstallPackages()), r.Description)
				if err := listVersions(w, r); err != nil {
					return err
				}
			}
			return w.Flush()
		},
	}
}

// listVersions shows the versions that are defined beside the role.
func listVersions(w io.Writer, d role.Definition) error {
	names, err := d.Versions()
	for _, name := range names {
		v, versionErr := d.LoadVersion(name)
		if versionErr != nil {
			return versionErr
		}
		from := v.From
		if from == "" {
			from = d.Suite + d.Base
		}
		fmt.Fprintf(w, "  %s\t%s\t%d\t%s\n", name, from, len(v.InstallPackages()), v.Description)
	}
	return err
}

func newBuildCommand(dir *string) *cobra.Command {
	b := build.Build{}
	var epoch string
	cmd := &cobra.Command{
		Use:   "build ROLE VERSION",
		Short: "Build one version of a role: archive, manifest, package list",
		Long: `Builds the role as role.yaml says, with what versions/VERSION/version.yaml adds.
A version that starts from another one (from there, or --from here) is that one's
tree with changes; metadata for the upgrade to it is made too, as by mkrole metadata.

The tree is built twice, at the same time, with other random numbers and on a host
of another name: what differs belongs to one machine, all would share it, and there
is no image. What is known of Debian's packages is taken out before, and each machine
makes its own (machine and shared in role.yaml, see images/README.md).`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return completeBuild(*dir, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := wire.NewImageRef(args[0], args[1])
			if err != nil {
				return err
			}
			if b.Epoch, err = parseEpoch(epoch, time.Now()); err != nil {
				return err
			}
			b.Roles, b.Image = rolePath(*dir), ref
			return runBuild(cmd, b)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&b.Out, "out", "out/install", "directory that gets VERSION/ROLE-VERSION.edeploy")
	flags.StringVar(&b.Base, "base", "", "version of the base role to start from (default: VERSION)")
	flags.StringVar(&b.From, "from", "", "version of the same role to start from: packages become the newest, or what versions/VERSION says")
	flags.StringVar(&b.Kernel, "kernel", "", "kernel package instead of the role's own, e.g. linux-image-amd64")
	flags.BoolVar(&b.Once, "once", false, "do not build a second time to find what belongs to one machine (about a third faster)")
	flags.StringVar(&epoch, "epoch", os.Getenv("SOURCE_DATE_EPOCH"), "no file is newer than this (Unix seconds or YYYY-MM-DD; default: today 00:00 UTC)")
	return cmd
}

// completeBuild answers roles, then the versions that are defined of one.
func completeBuild(dir string, args []string) (words []string, directive cobra.ShellCompDirective) {
	directive = cobra.ShellCompDirectiveNoFileComp
	roles, err := rolePath(dir).List()
	if err != nil {
		return nil, directive
	}
	for _, d := range roles {
		switch {
		case len(args) == 0:
			words = append(words, d.Name+"\t"+d.Description)
		case len(args) == 1 && args[0] == d.Name:
			words, _ = d.Versions()
		}
	}
	return words, directive
}

// completeArchives answers names of archives.
func completeArchives(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"edeploy"}, cobra.ShellCompDirectiveFilterFileExt
}

// parseEpoch reads Unix seconds or a date; "" is the start of today.
func parseEpoch(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now.UTC().Truncate(24 * time.Hour), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return time.Unix(n, 0).UTC(), nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, fmt.Errorf("epoch %q: want Unix seconds or a date like 2025-01-31", text)
	}
	return t, nil
}

func runBuild(cmd *cobra.Command, b build.Build) error {
	start := time.Now()
	b.Observe = newProgress(cmd.ErrOrStderr(), start).event
	r, err := b.Run(cmd.Context())
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d entries, %d packages, %s, archive %s, %.0f s, epoch %d\n%s\n",
		r.Image, r.Entries, r.Packages, megabytes(r.Bytes), megabytes(r.Size), time.Since(start).Seconds(), b.Epoch.Unix(), r.Archive)
	if b.Once {
		fmt.Fprintln(cmd.OutOrStdout(), "built once: nobody knows whether it holds keys, names or numbers of one machine")
	}
	if r.From == "" {
		return nil
	}
	return proposal{roles: b.Roles, out: b.Out}.run(cmd.OutOrStdout(), []string{r.Image.Role}, r.From, r.Image.Version)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// progress shows a build's events, a line for each phase and each tenth of it.
type progress struct {
	w     io.Writer
	start time.Time
	last  string
}

func newProgress(w io.Writer, start time.Time) *progress { return &progress{w: w, start: start} }

func (p *progress) event(e build.Event) {
	line := e.Phase
	if e.Total > 0 {
		line = fmt.Sprintf("%s %d%% (of %d)", e.Phase, e.Done*10/e.Total*10, e.Total)
	}
	if line != p.last {
		p.last = line
		fmt.Fprintf(p.w, "%4.0f s  %s\n", time.Since(p.start).Seconds(), line)
	}
}

func newCheckCommand() *cobra.Command {
	var treeOnly bool
	cmd := &cobra.Command{
		Use:   "check ARCHIVE",
		Short: "Say whether a tree will boot and is free of one machine's traces",
		Long: `Looks for what a machine needs in order to boot and to be upgraded, and for what
belongs to one machine: passwords, private keys, host keys, leases, names of network
cards. Whether a second build was the same is taken from ROLE-VERSION.machine beside
the archive; only then it says good.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeArchives,
		RunE: func(cmd *cobra.Command, args []string) error {
			record, compared, err := build.ReadRecord(args[0])
			if err != nil {
				return err
			}
			findings, err := build.CheckFile(args[0], wire.ImageRef{}, !treeOnly, record.Shared)
			if err != nil {
				return err
			}
			if len(findings) > 0 {
				return fmt.Errorf("%s:\n  %s", args[0], strings.Join(findings, "\n  "))
			}
			if !compared {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: nothing is wrong, as far as one build tells; it was not compared with a second one,\n"+
					"so it may hold keys, names or numbers of one machine that are not known (mkrole build without --once looks for them)\n", args[0])
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: good; a second build, on a host of another name, was the same\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVar(&treeOnly, "not-bootable", false, "do not look for kernel, boot loader and client (tool trees such as pxe)")
	return cmd
}

func newDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff A B",
		Short: "Show what changed between two archives: packages, then files",
		Long: `A and B are archives or manifests of builds. Packages come first, then paths, one a line:

    + new   - gone   * content   . attributes only`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeArchives,
		RunE: func(cmd *cobra.Command, args []string) error {
			return build.Diff(cmd.Context(), cmd.OutOrStdout(), args[0], args[1])
		},
	}
}
