package installed

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"edeploy/agent/internal/filter"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"
)

// LeftPath is the exclude list of the upgrade that the machine's version came
// with. It is part of that upgrade's transaction: a rollback takes it away.
const LeftPath = "/var/lib/edeploy/left"

// Excluded are the rules of what may differ because edeploy left it alone: what
// the last upgrade excluded, or what the tree itself says that upgrades of its
// role exclude. No list excludes nothing.
func (m Machine) Excluded(image wire.ImageRef) (Excluded, error) {
	for _, list := range []struct {
		name string
		rule func(filter.List) Excluded
	}{
		{LeftPath, func(l filter.List) Excluded { return Excluded{list: l, upgraded: true} }},
		{path.Join(path.Dir(wire.ConfPath), image.Version, excludeName), func(l filter.List) Excluded { return Excluded{list: l} }},
	} {
		file := m.Path(list.name)
		if _, err := os.Lstat(file); err == nil {
			found, err := readRules(filepath.Dir(file), filepath.Base(file), filter.Exclude)
			return list.rule(found), err
		}
	}
	return Excluded{}, nil
}

// Excluded are rules for upgrades that also say what may differ from the
// manifest. What an upgrade left alone may be anything (reference section 10.5).
// An installation leaves nothing alone: there they stand for what a running
// system makes and changes, which is what lies below /var, and what the tree does
// not have.
type Excluded struct {
	list     filter.List
	upgraded bool
}

// match tells whether a path may differ; there is its entry in the manifest.
func (x Excluded) match(name string, dir, there bool) bool {
	switch {
	case x.list.Len() == 0:
		return false
	case x.upgraded:
		return x.list.Excludes(name, dir)
	}
	return (!there || strings.HasPrefix(name, "var/")) && x.list.Hides(name, dir)
}

// Reason is why a path is not compared.
type Reason string

// The reasons.
const (
	ByInstallation Reason = "installation" // it wrote them (wire.LocalPath)
	ByProgram      Reason = "edeploy"      // its own state
	ByUpgrade      Reason = "excluded"     // the last upgrade left them alone, or the role leaves them to the machine
	ByNature       Reason = "running"      // every running system changes them
)

// Rule is a group of rules.
type Rule struct {
	Reason  Reason
	Rules   Rules
	Exclude Excluded
}

// Allowed are the rules of what may differ on this machine.
func (m Machine) Allowed(image wire.ImageRef) ([]Rule, error) {
	local, err := m.localNames()
	if err != nil {
		return nil, err
	}
	own, err := m.state()
	if err != nil {
		return nil, err
	}
	excluded, err := m.Excluded(image)
	return []Rule{
		{ByInstallation, literals(local), Excluded{}}, {ByProgram, literals(own), Excluded{}},
		{ByNature, m.Followed(Volatile), Excluded{}}, {ByUpgrade, nil, excluded},
	}, err
}

// Options of Compare.
type Options struct {
	Allowed  []Rule                  // what may differ; the first that names a path counts
	All      bool                    // compare it nevertheless
	Progress func(done, total int64) // as in fstree.Options
}

// Comparison is the outcome of Compare.
type Comparison struct {
	Entries     int   // of the manifest
	Bytes       int64 // of the files among them
	Differences []manifest.Difference

	// LeftOut are the paths that were not compared, each with all below it; with
	// All the paths that differ and otherwise would not have been compared.
	LeftOut map[string]Reason
}

// Compare compares the whole disk with the manifest, across mounted file
// systems. An error means that something could not be looked at; the
// comparison says what was found nevertheless.
func (m Machine) Compare(ctx context.Context, want *manifest.Manifest, o Options) (Comparison, error) {
	c := &comparing{machine: m, want: want, o: o, leftOut: map[string]Reason{}}
	verify := fstree.Options{Exclude: c.leaveOut, Extras: true, SplitLinks: true, Progress: o.Progress}
	if o.All {
		verify.Exclude = nil
	}
	diffs, err := fstree.Verify(ctx, want, m.Root, verify)
	found := Comparison{Entries: len(want.Entries), Bytes: want.TotalBytes(), LeftOut: maps.Clone(c.leftOut)}
	for _, d := range diffs {
		switch {
		case o.All:
			if why := c.explain(d); why != "" {
				found.LeftOut[d.Path] = why
			}
			found.Differences = append(found.Differences, d)
		case !c.explained(d):
			found.Differences = append(found.Differences, d)
		}
	}
	for name := range maps.Clone(found.LeftOut) {
		if !o.All && c.leftOut[path.Dir(name)] != "" {
			delete(found.LeftOut, name)
		}
	}
	return found, err
}

type comparing struct {
	machine Machine
	want    *manifest.Manifest
	o       Options

	mu      sync.Mutex
	leftOut map[string]Reason
}

// reason tells why a path itself is not compared, "" when it is.
func (c *comparing) reason(name string) Reason {
	e, there := c.want.Lookup(name)
	for _, rule := range c.o.Allowed {
		if rule.Rules.Match(name) {
			return rule.Reason
		}
		if rule.Exclude.list.Len() == 0 {
			continue
		}
		dir := there && e.Type == manifest.Dir
		if !there {
			info, err := os.Lstat(c.machine.at(name))
			dir = err == nil && info.IsDir()
		}
		if rule.Exclude.match(name, dir, there) {
			return rule.Reason
		}
	}
	return ""
}

func (c *comparing) excluded(name string) bool { return c.reason(name) != "" }

// leaveOut is fstree.Options.Exclude.
func (c *comparing) leaveOut(name string) bool {
	why := c.reason(name)
	if why == "" {
		return false
	}
	c.mu.Lock()
	c.leftOut[name] = why
	c.mu.Unlock()
	return true
}

// explain tells why a difference would not have been compared.
func (c *comparing) explain(d manifest.Difference) (why Reason) {
	for up := d.Path; up != "."; up = path.Dir(up) {
		if above := c.reason(up); above != "" {
			why = above
		}
	}
	if why == "" && c.explained(d) {
		return ByNature
	}
	return why
}

// explained tells that a difference follows from what may differ: the time of a
// directory in which it lies, and directories that are there for it.
func (c *comparing) explained(d manifest.Difference) bool {
	switch {
	case d.Type == manifest.Dir && d.Attribute == manifest.AttrTime:
		return c.named(d.Path, false) || c.holdsExcluded(d.Path)
	case d.Attribute == manifest.AttrExtra && d.Got == string(manifest.Dir):
		return c.named(d.Path, true) || c.onlyExcluded(d.Path)
	}
	return false
}

// named tells whether a rule names something in a directory, with deep also
// further below, be it there or not.
func (c *comparing) named(dir string, deep bool) bool {
	return slices.ContainsFunc(c.o.Allowed, func(r Rule) bool { return r.Rules.anyIn(dir, deep) })
}

// holdsExcluded tells whether something excluded lies, or is to lie, directly
// in a directory.
func (c *comparing) holdsExcluded(dir string) bool {
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
func (c *comparing) onlyExcluded(dir string) bool {
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
