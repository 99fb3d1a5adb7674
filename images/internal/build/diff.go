package build

import (
	"bufio"
	"cmp"
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
	before, had, err := Read(a)
	if err != nil {
		return err
	}
	after, has, err := Read(b)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := diffPackages(w, had, has); err != nil {
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
	text, err := os.ReadFile(beside(name, ".packages"))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil, nil
	}
	packages := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		packages[name] = version
	}
	return m, packages, err
}

func diffPackages(w io.Writer, before, after map[string]string) error {
	if before == nil || after == nil {
		return nil
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
		fmt.Fprintf(table, "%s\t%s\t%s\n", name, cmp.Or(before[name], "-"), cmp.Or(after[name], "-"))
	}
	fmt.Fprintf(table, "%d of %d packages differ\n\n", changed, len(all))
	return table.Flush()
}

// diffFiles writes one line a path: + new, - gone, * content, . attributes only.
func diffFiles(w io.Writer, diffs []manifest.Difference) error {
	out := bufio.NewWriter(w)
	paths := 0
	for of := range manifest.ByPath(diffs) {
		mark, words := summarize(of)
		fmt.Fprintf(out, "%s /%s %s\n", mark, manifest.Escape(of[0].Path), words)
		paths++
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
