package plan

import (
	"path"
	"slices"

	"edeploy/agent/internal/filter"
	"edeploy/images/manifest"
)

// pass is the first pass: what is visible on both sides.
type pass struct {
	target, disk *manifest.Manifest
	protected    map[string]*manifest.Entry // hidden on the disk
	pins         map[string]string          // directories with something hidden in them, and what
	shared       map[string]bool            // paths of the disk that are hard links of something hidden
}

func newPass(target, disk *manifest.Manifest, exclude filter.List) (*pass, error) {
	wanted, _, err := visible(target, exclude)
	if err != nil {
		return nil, err
	}
	found, hidden, err := visible(disk, exclude)
	if err != nil {
		return nil, err
	}
	s := &pass{target: wanted, disk: found, protected: map[string]*manifest.Entry{}, pins: map[string]string{}, shared: map[string]bool{}}
	groups := map[int]bool{}
	for _, e := range hidden {
		groups[e.Group] = e.Group != 0
		s.protected[e.Path] = e
		for up := path.Dir(e.Path); up != "." && s.pins[up] == ""; up = path.Dir(up) {
			s.pins[up] = e.Path
		}
	}
	for i := range disk.Entries {
		s.shared[disk.Entries[i].Path] = groups[disk.Entries[i].Group]
	}
	return s, nil
}

func (s *pass) run(p *Plan) {
	var deletions []Operation
	for group := range manifest.ByPath(manifest.Diff(s.target, s.disk)) {
		name := group[0].Path
		if group[0].Attribute == manifest.AttrExtra {
			switch {
			case s.pins[name] == "":
				deletions = append(deletions, Operation{Path: name, Action: Delete, Pass: PassExclude, Type: group[0].Type, Differences: group})
			case !s.covered(name):
				p.Kept = append(p.Kept, name)
			}
			continue
		}
		if c, ok := s.conflict(name); ok {
			p.Conflicts = append(p.Conflicts, c)
			continue
		}
		entry, _ := s.target.Lookup(name)
		action := actionOf(group)
		if action == Change && s.shared[name] {
			action = Replace // what is one file with something protected is not changed in its place
		}
		p.Operations = append(p.Operations, Operation{Path: name, Action: action, Pass: PassExclude, Type: entry.Type, Entry: entry, Differences: group})
	}
	slices.Reverse(deletions) // the deepest first
	p.Operations = append(p.Operations, deletions...)
}

// covered tells whether a directory of the disk lies where the target has
// something else than a directory: the conflict says so already.
func (s *pass) covered(name string) bool {
	for up := path.Dir(name); up != "."; up = path.Dir(up) {
		if e, ok := s.target.Lookup(up); ok {
			return e.Type != manifest.Dir
		}
	}
	return false
}

// conflict tells whether something protected is in the way of a target path.
func (s *pass) conflict(name string) (Conflict, bool) {
	want, _ := s.target.Lookup(name)
	if hidden := s.protected[name]; hidden != nil {
		return Conflict{Path: name, Want: want.Type, Got: hidden.Type, Protected: name}, true
	}
	got, ok := s.disk.Lookup(name)
	if ok && got.Type == manifest.Dir && want.Type != manifest.Dir && s.pins[name] != "" {
		return Conflict{Path: name, Want: want.Type, Got: got.Type, Protected: s.pins[name]}, true
	}
	return Conflict{}, false
}

// actionOf tells what makes the differences of one path vanish.
func actionOf(diffs []manifest.Difference) Action {
	for _, d := range diffs {
		switch d.Attribute {
		case manifest.AttrMissing:
			return Create
		case manifest.AttrType, manifest.AttrSize, manifest.AttrContent, manifest.AttrLink, manifest.AttrDevice, manifest.AttrLinks:
			return Replace
		}
	}
	return Change
}
