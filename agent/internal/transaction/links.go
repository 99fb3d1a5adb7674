package transaction

import (
	"maps"
	"slices"

	"edeploy/images/manifest"
)

// links decides which staged nodes are names of one file, and of which: of a
// member of the group that stays on the disk, or else of the first one that is
// staged. A group that lies on several file systems is one file on each.
func (a *arrangement) links() error {
	type group struct{ number, fs int }
	stay, leader := map[group]string{}, map[group]string{}
	wanted := map[int]bool{}
	for _, w := range a.wanted {
		wanted[w.entry.Group] = !w.own && w.entry.Group != 0
	}
	for i := range a.u.Target.Entries {
		e := &a.u.Target.Entries[i]
		if !wanted[e.Group] || a.mounts.pseudo(e.Path) {
			continue
		}
		g := group{e.Group, a.mounts.of(e.Path)}
		if stay[g] == "" && a.stays(e) {
			stay[g] = e.Path
		}
	}
	for _, p := range slices.Sorted(maps.Keys(a.wanted)) {
		w := a.wanted[p]
		if w.own || w.entry.Group == 0 {
			continue
		}
		g := group{w.entry.Group, a.mounts.of(p)}
		switch {
		case stay[g] != "":
			w.link = stay[g]
		case leader[g] != "":
			w.leader = leader[g]
		default:
			leader[g] = p
		}
	}
	return nil
}

// stays tells whether the disk's node at a path is the one of the target, or
// becomes it by a change of attributes.
func (a *arrangement) stays(e *manifest.Entry) bool {
	i, ok := a.index[e.Path]
	if !ok || a.wanted[e.Path] != nil || a.deleted[e.Path] {
		return false
	}
	for _, up := range ancestors(e.Path) {
		if a.wanted[up] != nil || a.deleted[up] {
			return false
		}
	}
	diffs := manifest.Compare(e, &a.u.Disk.Entries[i])
	if a.changes[e.Path] == nil {
		return len(diffs) == 0
	}
	return !slices.ContainsFunc(diffs, func(d manifest.Difference) bool {
		switch d.Attribute {
		case manifest.AttrType, manifest.AttrSize, manifest.AttrContent, manifest.AttrLink, manifest.AttrDevice:
			return true
		}
		return false
	})
}
