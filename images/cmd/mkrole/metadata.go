package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/images/internal/build"
	"edeploy/images/internal/metadata"
	"edeploy/images/internal/role"
	"edeploy/images/manifest"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

// proposal is one upgrade whose metadata is to be made.
type proposal struct {
	roles  role.Path
	out    string // builds
	dir    string // of all metadata; "": metadata beside out
	verify string // file with the output of `edeploy verify --json`
	force  bool
}

func newMetadataCommand(roles *string) *cobra.Command {
	var p proposal
	cmd := &cobra.Command{
		Use:   "metadata FROM TO [ROLE...]",
		Short: "Propose what upgrades from one version to another leave alone, add and run",
		Long: `Writes metadata/FROM/ROLE/TO/ beside the builds:

  exclude   what the upgrade leaves alone: the patterns of the role and of its bases
            (exclude in role.yaml), and with --verify what differs on a machine
  add_only  what it adds even there: everything below /var that is missing
  pre post  scripts, where packages differ that the role says something about
            (changed in role.yaml), or the version does (version.yaml)

Comments in the files say why each line is there. A file that somebody changed is
left as it is. Without ROLE: all roles that are defined, and built in both versions.
Publish it with: edeployctl push-metadata out/metadata/FROM`,
		Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return p.complete(args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p.roles = rolePath(*roles)
			names := args[2:]
			if len(names) == 0 {
				built, err := builtInBoth(p.out, args[0], args[1])
				if err != nil {
					return err
				}
				if names, err = p.defined(cmd.ErrOrStderr(), built); err != nil {
					return err
				}
			}
			return p.run(cmd.OutOrStdout(), names, args[0], args[1])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.out, "out", "out/install", "directory that has VERSION/ROLE-VERSION.mtree")
	flags.StringVar(&p.dir, "metadata", "", "directory that gets FROM/ROLE/TO (default: metadata beside --out)")
	flags.StringVar(&p.verify, "verify", "", "file with a machine's `edeploy verify --json`: what differs there is excluded")
	flags.BoolVar(&p.force, "force", false, "write over files that somebody changed")
	return cmd
}

// complete answers versions that are built, then roles that are built in both.
func (p proposal) complete(args []string) (words []string, directive cobra.ShellCompDirective) {
	directive = cobra.ShellCompDirectiveNoFileComp
	if len(args) >= 2 {
		words, _ = builtInBoth(p.out, args[0], args[1])
		return words, directive
	}
	entries, _ := os.ReadDir(p.out)
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(args, e.Name()) {
			words = append(words, e.Name())
		}
	}
	return words, directive
}

// builtInBoth names the roles that both versions were built of.
func builtInBoth(out, from, to string) ([]string, error) {
	if _, err := wire.NewImageRef("x", from); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(out, from, "*-"+from+".mtree"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), "-"+from+".mtree")
		if ref, err := wire.NewImageRef(name, to); err != nil {
			return nil, err
		} else if _, err := os.Stat(filepath.Join(out, ref.Manifest())); err == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no role is built in %s and in %s below %s", from, to, out)
	}
	return names, nil
}

// defined leaves the roles out of which nothing but a build is known.
func (p proposal) defined(w io.Writer, built []string) (names []string, err error) {
	for _, name := range built {
		_, err := p.roles.Chain(name)
		if errors.Is(err, role.ErrUnknown) {
			fmt.Fprintf(w, "left out: %v\n", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("none of the roles that are built in both versions is defined in %s: give --roles DIR", p.roles)
	}
	return names, nil
}

// run writes the metadata of all roles, or of none when one cannot be.
func (p proposal) run(w io.Writer, names []string, from, to string) error {
	var questions []metadata.Question
	for _, name := range names {
		q, err := p.question(name, from, to)
		if err != nil {
			return err
		}
		questions = append(questions, q)
	}
	for _, q := range questions {
		if err := p.write(w, q); err != nil {
			return err
		}
	}
	return nil
}

func (p proposal) write(w io.Writer, q metadata.Question) error {
	dir := p.dir
	if dir == "" {
		dir = filepath.Join(filepath.Dir(filepath.Clean(p.out)), "metadata")
	}
	dir = filepath.Join(dir, wire.UpgradePath(q.From, q.To.Version))
	outcomes, err := metadata.Write(dir, metadata.Propose(q), p.force)
	if err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	var words []string
	for _, name := range metadata.Names(outcomes) {
		words = append(words, name+" "+string(outcomes[name]))
	}
	fmt.Fprintf(w, "%s to %s: %s\n%s\n", q.From, q.To.Version, strings.Join(words, ", "), dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := metadata.Check(root); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return nil
}

// question reads what is known of the two versions.
func (p proposal) question(name, from, to string) (q metadata.Question, err error) {
	if q.From, err = wire.NewImageRef(name, from); err != nil {
		return q, err
	}
	if q.To, err = wire.NewImageRef(name, to); err != nil {
		return q, err
	}
	if from == to {
		return q, fmt.Errorf("an upgrade from %s to itself", q.From)
	}
	if q.Chain, err = p.roles.Chain(name); err != nil {
		return q, err
	}
	if q.Machines, err = role.Machines(q.Chain); err != nil {
		return q, err
	}
	for _, version := range []string{from, to} {
		v, err := q.Chain[len(q.Chain)-1].LoadVersion(version)
		if err != nil {
			return q, err
		}
		q.Versions = append(q.Versions, v)
	}
	if q.Before.Manifest, q.Before.Packages, err = build.Read(filepath.Join(p.out, q.From.Archive())); err != nil {
		return q, err
	}
	if q.After.Manifest, q.After.Packages, err = build.Read(filepath.Join(p.out, q.To.Archive())); err != nil {
		return q, err
	}
	if p.verify != "" {
		q.Differing, err = readVerify(p.verify, q.From)
	}
	return q, err
}

// readVerify reads what `edeploy verify --json` printed on a machine.
func readVerify(file string, image wire.ImageRef) ([]metadata.Deviation, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var report struct {
		Image wire.ImageRef `json:"image"`
		Paths []struct {
			Path        string `json:"path"`
			Differences []struct {
				Attribute string `json:"attribute"`
			} `json:"differences"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return nil, fmt.Errorf("%s is not the output of edeploy verify --json: %w", file, err)
	}
	if report.Image != image {
		return nil, fmt.Errorf("%s is about %q, not about %s", file, report.Image, image)
	}
	var found []metadata.Deviation
	for _, p := range report.Paths {
		name, err := manifest.Unescape(p.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: path %q: %w", file, p.Path, err)
		}
		d := metadata.Deviation{Path: name}
		for _, difference := range p.Differences {
			d.How = append(d.How, difference.Attribute)
		}
		found = append(found, d)
	}
	return found, nil
}
