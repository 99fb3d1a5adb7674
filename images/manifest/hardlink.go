package manifest

import "slices"

// FileID is what makes two paths the same file.
type FileID struct{ Dev, Inode uint64 }

// Groups are the indexes of the members of every hard-link group.
func (m *Manifest) Groups() [][]int {
	var groups [][]int
	for i := range m.Entries {
		g := m.Entries[i].Group
		if g == 0 {
			continue
		}
		for len(groups) < g {
			groups = append(groups, nil)
		}
		groups[g-1] = append(groups[g-1], i)
	}
	return groups
}

// CompareLinks reports paths that should be one file and are not, and paths
// that should not be one file and are. found answers the identity of an entry,
// false when it cannot take part. With split, members of a group on different
// devices are not expected to be one file.
func (m *Manifest) CompareLinks(found func(i int) (FileID, bool), split bool) []Difference {
	var diffs []Difference
	report := func(i int, want, got string) {
		e := &m.Entries[i]
		diffs = append(diffs, Difference{e.Path, e.Type, AttrLinks, want, got})
	}
	same := map[FileID][]int{}
	for i := range m.Entries {
		if id, ok := found(i); ok {
			same[id] = append(same[id], i)
		}
	}
	for _, names := range same {
		rightful, strangers := m.strangers(names)
		for _, i := range strangers {
			report(i, "not the same file as "+Escape(m.Entries[rightful].Path), "the same file")
		}
	}
	for _, members := range m.Groups() {
		for _, part := range LinkParts(members, found, split) {
			chief := part[0]
			chiefID, _ := found(chief)
			for _, i := range part {
				if id, _ := found(i); id != chiefID {
					report(i, "same file as "+Escape(m.Entries[chief].Path), "a file of its own")
				}
			}
		}
	}
	return diffs
}

// strangers are, of paths that were found to be one file, those that should
// not be: all but the group with most paths among them, or all but the first
// when none is in a group.
func (m *Manifest) strangers(names []int) (rightful int, strangers []int) {
	count := map[int]int{}
	rightful = names[0]
	for _, i := range names {
		g := m.Entries[i].Group
		if g == 0 {
			continue
		}
		if count[g]++; count[g] > count[m.Entries[rightful].Group] {
			rightful = i
		}
	}
	for _, i := range names {
		if g := m.Entries[i].Group; i != rightful && (g == 0 || g != m.Entries[rightful].Group) {
			strangers = append(strangers, i)
		}
	}
	return rightful, strangers
}

// LinkParts are the members of a group that can and must be one file: all that
// were found, or with split one part for each device. The first one of a part is
// of the largest set that are one file already.
func LinkParts(members []int, found func(i int) (FileID, bool), split bool) [][]int {
	var parts [][]int
	part := map[uint64]int{}
	for _, i := range members {
		id, ok := found(i)
		if !ok {
			continue
		}
		key := uint64(0)
		if split {
			key = id.Dev
		}
		n, ok := part[key]
		if !ok {
			n = len(parts)
			part[key] = n
			parts = append(parts, nil)
		}
		parts[n] = append(parts[n], i)
	}
	for _, part := range parts {
		n := slices.Index(part, chiefOf(part, found))
		part[0], part[n] = part[n], part[0]
	}
	return parts
}

// chiefOf is the first member of the largest set of members that are one file.
func chiefOf(members []int, found func(i int) (FileID, bool)) int {
	count := map[FileID]int{}
	for _, i := range members {
		id, _ := found(i)
		count[id]++
	}
	chief := members[0]
	best, _ := found(chief)
	for _, i := range members {
		if id, _ := found(i); count[id] > count[best] {
			chief, best = i, id
		}
	}
	return chief
}
