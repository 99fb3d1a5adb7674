package installed

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"edeploy/agent/internal/filter"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Excluded are the rules that the machine's version came with: what its
// `exclude` names was not brought by the upgrade to it and may be anything
// (reference section 10.5). A version without them excludes nothing.
func (m Machine) Excluded(image wire.ImageRef) (filter.List, error) {
	dir := filepath.Join(m.Path(path.Dir(wire.ConfPath)), image.Version)
	if _, err := os.Lstat(filepath.Join(dir, excludeName)); err != nil {
		return filter.List{}, nil
	}
	return readRules(dir, excludeName, filter.Exclude)
}

// Options of Compare.
type Options struct {
	Rules    Rules                   // paths that may differ
	Exclude  filter.List             // more of them, in rsync's language
	Progress func(done, total int64) // as in manifest.Options
}

// Comparison is the outcome of Compare.
type Comparison struct {
	Entries     int   // of the manifest
	Bytes       int64 // of the files among them
	Differences []manifest.Difference
}

// Compare compares the whole disk with the manifest, across mounted file
// systems. An error means that something could not be looked at; the
// comparison says what was found nevertheless.
func (m Machine) Compare(ctx context.Context, want *manifest.Manifest, o Options) (Comparison, error) {
	c := comparing{m, want, o}
	diffs, err := want.Verify(ctx, m.Root, manifest.Options{
		Exclude: c.excluded, Extras: true, SplitLinks: true, Progress: o.Progress})
	found := Comparison{Entries: len(want.Entries), Bytes: want.TotalBytes()}
	for _, d := range diffs {
		if !c.explained(d) {
			found.Differences = append(found.Differences, d)
		}
	}
	return found, err
}

type comparing struct {
	machine Machine
	want    *manifest.Manifest
	o       Options
}

// excluded tells whether rules name the path itself.
func (c comparing) excluded(name string) bool {
	if c.o.Rules.Match(name) {
		return true
	}
	if c.o.Exclude.Len() == 0 {
		return false
	}
	if e, ok := c.want.Lookup(name); ok {
		return c.o.Exclude.Excludes(name, e.Type == manifest.Dir)
	}
	info, err := os.Lstat(c.machine.at(name))
	return err == nil && c.o.Exclude.Excludes(name, info.IsDir())
}

// explained tells that a difference follows from what the rules allow.
func (c comparing) explained(d manifest.Difference) bool {
	switch {
	case c.o.Rules.explains(d):
		return true
	case c.o.Exclude.Len() == 0:
		return false
	case d.Type == manifest.Dir && d.Attribute == manifest.AttrTime:
		return c.holdsExcluded(d.Path)
	case d.Attribute == manifest.AttrExtra && d.Got == string(manifest.Dir):
		return c.onlyExcluded(d.Path)
	}
	return false
}

// holdsExcluded tells whether something excluded lies, or is to lie, directly
// in a directory.
func (c comparing) holdsExcluded(dir string) bool {
	for i := range c.want.Entries {
		if e := &c.want.Entries[i]; path.Dir(e.Path) == dir && e.Path != "." && c.excluded(e.Path) {
			return true
		}
	}
	there, _ := os.ReadDir(c.machine.at(dir))
	for _, e := range there {
		if c.excluded(path.Join(dir, e.Name())) {
			return true
		}
	}
	return false
}

// onlyExcluded tells whether a directory that the manifest does not have is
// there for what is excluded in it, and holds nothing else.
func (c comparing) onlyExcluded(dir string) bool {
	holds, only := false, true
	err := filepath.WalkDir(c.machine.at(dir), func(full string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(c.machine.Root, full)
		switch {
		case err != nil:
			return err
		case c.excluded(name):
			holds = true
			if e.IsDir() {
				return fs.SkipDir
			}
		case !e.IsDir():
			only = false
		}
		return nil
	})
	return err == nil && holds && only
}
