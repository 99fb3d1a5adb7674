package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"edeploy/images/manifest"
)

// Diff writes what changed from build a to build b: packages, then files. Each
// is named by its archive or its manifest; the package lists are taken from
// beside them, and left out when one is missing.
func Diff(ctx context.Context, w io.Writer, a, b string) error {
	before, err := manifest.ReadFile(beside(a, ".mtree"))
	if err != nil {
		return err
	}
	after, err := manifest.ReadFile(beside(b, ".mtree"))
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := diffPackages(w, a, b); err != nil {
		return err
	}
	return diffFiles(w, manifest.Diff(before, after))
}

// beside is the name of a build's other file.
func beside(name, suffix string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, ".edeploy"), ".mtree") + suffix
}

// Read reads what is known of a build, named by its archive or its manifest:
// manifest and installed packages. A build without package list has none.
func Read(name string) (*manifest.Manifest, map[string]string, error) {
	m, err := manifest.ReadFile(beside(name, ".mtree"))
	if err != nil {
		return nil, nil, err
	}
	packages, err := readPackages(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return m, packages, err
}

func readPackages(name string) (map[string]string, error) {
	text, err := os.ReadFile(beside(name, ".packages"))
	if err != nil {
		return nil, err
	}
	packages := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		packages[name] = version
	}
	return packages, nil
}

func diffPackages(w io.Writer, a, b string) error {
	before, errA := readPackages(a)
	after, errB := readPackages(b)
	if errors.Is(errors.Join(errA, errB), fs.ErrNotExist) {
		return nil
	}
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	all := maps.Clone(before)
	maps.Copy(all, after)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	changed := 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if before[name] == after[name] {
			continue
		}
		if changed++; changed == 1 {
			fmt.Fprintln(table, "PACKAGE\tBEFORE\tAFTER")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", name, orDash(before[name]), orDash(after[name]))
	}
	fmt.Fprintf(table, "%d of %d packages differ\n\n", changed, len(all))
	return table.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// diffFiles writes one line a path: + new, - gone, * content, . attributes only.
func diffFiles(w io.Writer, diffs []manifest.Difference) error {
	out := bufio.NewWriter(w)
	paths := 0
	for i := 0; i < len(diffs); {
		end := i + 1
		for end < len(diffs) && diffs[end].Path == diffs[i].Path {
			end++
		}
		mark, words := summarize(diffs[i:end])
		fmt.Fprintf(out, "%s /%s %s\n", mark, manifest.Escape(diffs[i].Path), words)
		paths++
		i = end
	}
	fmt.Fprintf(out, "%d paths differ\n", paths)
	return out.Flush()
}

func summarize(diffs []manifest.Difference) (mark, words string) {
	mark = "."
	var attributes []string
	for _, d := range diffs {
		switch d.Attribute {
		case manifest.AttrMissing:
			return "-", "(" + d.Want + ")"
		case manifest.AttrExtra:
			return "+", "(" + d.Got + ")"
		case manifest.AttrSize, manifest.AttrContent, manifest.AttrLink, manifest.AttrType:
			mark = "*"
		}
		attributes = append(attributes, d.Attribute)
	}
	return mark, strings.Join(attributes, ",")
}
