package plan

import (
	"path"

	"edeploy/agent/internal/filter"
	"edeploy/images/manifest"
)

// addOnly adds the second pass: what the rules let through and the disk does
// not have after the first. Directories that are there get the target's
// attributes, as rsync --ignore-existing does it: files alone are left alone.
func (p *Plan) addOnly(target, disk *manifest.Manifest, rules filter.List) {
	there := p.types(disk)
	touched := map[string]bool{}
	for _, o := range p.Operations {
		touched[o.Path] = true
	}
	shut := map[string]bool{} // directories whose content does not come
	for i := range target.Entries {
		e := &target.Entries[i]
		dir := e.Type == manifest.Dir
		if e.Path != "." && shut[path.Dir(e.Path)] || rules.Excludes(e.Path, dir) {
			shut[e.Path] = true
			continue
		}
		got, exists := there[e.Path]
		switch {
		case !exists:
			p.Operations = append(p.Operations, Operation{Path: e.Path, Action: Create, Pass: PassAddOnly, Type: e.Type, Entry: e, Differences: manifest.Compare(e, nil)})
		case dir && got == manifest.Dir:
			is, found := disk.Lookup(e.Path)
			if !found || touched[e.Path] {
				continue
			}
			if diffs := manifest.Compare(e, is); len(diffs) > 0 {
				p.Operations = append(p.Operations, Operation{Path: e.Path, Action: Change, Pass: PassAddOnly, Type: e.Type, Entry: e, Differences: diffs})
			}
		default:
			shut[e.Path] = true
		}
	}
}

// types are the paths on the disk after the operations so far.
func (p *Plan) types(disk *manifest.Manifest) map[string]manifest.Type {
	there := make(map[string]manifest.Type, len(disk.Entries))
	for i := range disk.Entries {
		there[disk.Entries[i].Path] = disk.Entries[i].Type
	}
	for _, o := range p.Operations {
		if o.Action == Delete {
			// A path that was deleted to make way is in the operations before.
			delete(there, o.Path)
		} else {
			there[o.Path] = o.Type
		}
	}
	return there
}
