// Package plan decides what an upgrade does to a disk: which paths it
// creates, replaces, changes and deletes, so that the disk becomes the target
// tree everywhere but where the upgrade's metadata say otherwise (reference
// section 10.3).
//
// The decision is pure. Its two passes touch what two calls of rsync touch:
//
//  1. rsync -a --numeric-ids --delete-after --exclude-from=exclude
//  2. rsync -a --numeric-ids --ignore-existing --include-from=add_only
//
// with four differences: hard links, extended attributes and times below a
// second count too; files are compared by content, not by size and time; where
// rsync would have to remove something excluded to make way, the plan has a
// Conflict instead; and a file where the second pass finds a directory of the
// target keeps its time.
package plan

import (
	"fmt"
	"path"

	"edeploy/agent/internal/filter"
	"edeploy/images/manifest"
)

// Action is what happens to a path.
type Action string

// The actions.
const (
	Create  Action = "create"  // the disk has no such path
	Replace Action = "replace" // another type, content, link target, device or hard link
	Change  Action = "change"  // mode, owner, time or extended attributes only
	Delete  Action = "delete"  // the target has no such path
)

// The passes.
const (
	PassExclude = 1 // everything that `exclude` does not hide
	PassAddOnly = 2 // what `add_only` names and the disk does not have
)

// Operation is what happens to one path.
type Operation struct {
	Path   string
	Action Action
	Pass   int // PassExclude or PassAddOnly
	Type   manifest.Type
	Entry  *manifest.Entry // what the path becomes; nil for Delete

	// Differences are target -> disk, as manifest.Diff reports them.
	Differences []manifest.Difference
}

// Conflict is a path that cannot become the target's without touching
// something that `exclude` protects.
type Conflict struct {
	Path      string        // what is in the way
	Want, Got manifest.Type // of Path
	Protected string        // the excluded path: Path itself or one below it
}

// String is one sentence.
func (c Conflict) String() string {
	name, protected := manifest.Escape(c.Path), manifest.Escape(c.Protected)
	if c.Path == c.Protected {
		return fmt.Sprintf("%s is to become a %s, but the %s there is excluded", name, c.Want, c.Got)
	}
	return fmt.Sprintf("%s is to become a %s, but %s in it is excluded", name, c.Want, protected)
}

// Plan is all that an upgrade does.
type Plan struct {
	// Operations are in the order of the passes; within one, deletions come
	// last, deepest path first, and the others in path order.
	Operations []Operation

	// Conflicts forbid the upgrade; Operations are not complete then.
	Conflicts []Conflict

	// Kept are directories that the target does not have and that stay,
	// because something excluded lies in them.
	Kept []string
}

// Totals are what a plan comes to.
type Totals struct {
	Create, Replace, Change, Delete int

	// Files and Bytes are what has to be fetched: the content of created and
	// replaced files, each content once.
	Files int
	Bytes int64
}

// Totals counts the operations.
func (p *Plan) Totals() Totals {
	var t Totals
	fetched := map[[32]byte]bool{}
	for _, o := range p.Operations {
		switch o.Action {
		case Create:
			t.Create++
		case Replace:
			t.Replace++
		case Change:
			t.Change++
		case Delete:
			t.Delete++
		}
		if o.NeedsContent() && !fetched[o.Entry.SHA256] {
			fetched[o.Entry.SHA256] = true
			t.Files++
			t.Bytes += o.Entry.Size
		}
	}
	return t
}

// NeedsContent tells whether the operation makes a file that is not empty.
func (o Operation) NeedsContent() bool {
	return (o.Action == Create || o.Action == Replace) && o.Type == manifest.File && o.Entry.Size > 0
}

// New plans an upgrade of a disk to the target. The disk is described by
// fstree.Walk; of what exclude hides, only paths that exist in the target
// and what they lie in have to be there, but then protected content in the way
// of the target is not seen either. Neither manifest is changed.
func New(target, disk *manifest.Manifest, exclude, addOnly filter.List) (*Plan, error) {
	first, err := newPass(target, disk, exclude)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	first.run(p)
	p.addOnly(target, disk, addOnly)
	return p, nil
}

// visible is the part of a manifest that the rules do not hide.
func visible(m *manifest.Manifest, rules filter.List) (seen *manifest.Manifest, hidden []*manifest.Entry, err error) {
	var entries []manifest.Entry
	above := map[string]bool{} // hidden directories
	for i := range m.Entries {
		e := &m.Entries[i]
		dir := e.Type == manifest.Dir
		if above[path.Dir(e.Path)] && e.Path != "." || rules.Excludes(e.Path, dir) {
			above[e.Path] = above[e.Path] || dir
			hidden = append(hidden, e)
			continue
		}
		entries = append(entries, *e)
	}
	seen, err = manifest.New(entries)
	return seen, hidden, err
}
