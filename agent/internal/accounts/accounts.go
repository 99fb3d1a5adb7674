// Package accounts merges the users and groups of a machine with those of a new
// version of its tree: passwd, group, shadow, gshadow, subuid and subgid belong
// together, and both the machine and the tree have entries in them.
//
// An entry is merged by its name, from three versions: that of the tree that the
// machine was made of, the machine's, and the new tree's. What one of the two
// sides changed, field by field, is taken; where both did, the machine's stays,
// so passwords do. The formats are those of passwd(5), group(5), shadow(5),
// gshadow(5), subuid(5).
package accounts

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Paths are the files that belong together.
var Paths = []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid"}

// MaxBytes bounds one of the files.
const MaxBytes = 8 << 20

// Set is the text of the files by path; one that is not there is absent.
type Set map[string]string

// Merge merges the files that the machine has. Without base, which is empty then,
// nothing counts as taken away, and what differs as changed by the machine. The
// error names ids that would belong to two, one a line.
func Merge(base, machine, tree Set) (Set, error) {
	merged := Set{}
	var errs []error
	for _, path := range Paths {
		if _, ok := machine[path]; !ok {
			continue
		}
		f := formats[path]
		v := versions{f.parse(base[path]), f.parse(machine[path]), f.parse(tree[path])}
		found := f.merge(v)
		merged[path] = text(found)
		for _, whole := range []struct {
			file
			text string
		}{{v.machine, machine[path]}, {v.tree, tree[path]}} {
			if merged[path] == text(whole.all) {
				merged[path] = whole.text // with its comments and odd lines
			}
		}
		switch {
		case f.id > 0:
			errs = append(errs, f.collisions(path, found, v)...)
		case f.lines:
			errs = append(errs, overlaps(path, found, v)...)
		}
	}
	return merged, errors.Join(errs...)
}

// Own are the names that a set has in one of the files and a tree has not.
func Own(path string, set, tree Set) []string {
	names := []string{}
	theirs := formats[path].parse(tree[path]).index
	for _, e := range formats[path].parse(set[path]).all {
		if theirs[e.key] == nil {
			names = append(names, e.fields[0])
		}
	}
	return names
}

// format is how the lines of a file are read.
type format struct {
	id    int    // field with a number that only one entry may have; 0: none
	what  string // such a number
	lists []int  // fields that are lists of names
	lines bool   // a line as a whole is an entry
}

var formats = map[string]format{
	"etc/passwd":  {id: 2, what: "uid"},
	"etc/group":   {id: 2, what: "gid", lists: []int{3}},
	"etc/shadow":  {},
	"etc/gshadow": {lists: []int{2, 3}},
	"etc/subuid":  {lines: true},
	"etc/subgid":  {lines: true},
}

type entry struct {
	key    string
	fields []string
}

// at is a field, "" when there is none.
func (e *entry) at(i int) string {
	if e == nil || i >= len(e.fields) {
		return ""
	}
	return e.fields[i]
}

type file struct {
	all   []*entry
	index map[string]*entry
}

// versions are those of one file.
type versions struct{ base, machine, tree file }

func text(es []*entry) string {
	var b strings.Builder
	for _, e := range es {
		b.WriteString(strings.Join(e.fields, ":") + "\n")
	}
	return b.String()
}

// parse reads a file. A name counts once, as for getpwnam(3).
func (f format) parse(text string) file {
	read := file{index: map[string]*entry{}}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		e := &entry{fields: strings.Split(line, ":")}
		if e.key = e.fields[0]; f.lines || len(e.fields) == 1 {
			e.key = line
		}
		if line != "" && read.index[e.key] == nil {
			read.index[e.key] = e
			read.all = append(read.all, e)
		}
	}
	return read
}

// merge keeps the tree's order; what is the machine's own comes after, in its
// order.
func (f format) merge(v versions) []*entry {
	var merged []*entry
	seen := map[string]bool{}
	for _, e := range slices.Concat(v.tree.all, v.machine.all) {
		if seen[e.key] {
			continue
		}
		seen[e.key] = true
		if chosen := f.choose(v.base.index[e.key], v.machine.index[e.key], v.tree.index[e.key]); chosen != nil {
			merged = append(merged, chosen)
		}
	}
	return merged
}

// choose merges one entry; nil is none.
func (f format) choose(base, machine, tree *entry) *entry {
	switch {
	case same(machine, tree), same(tree, base):
		return machine
	case same(machine, base):
		return tree
	case machine == nil || tree == nil || base == nil || len(machine.fields) != len(tree.fields) || len(machine.fields) != len(base.fields):
		return machine // both changed it, or one of them took it away: as the machine has it
	}
	merged := &entry{machine.key, slices.Clone(machine.fields)}
	for i := range merged.fields {
		switch {
		case slices.Contains(f.lists, i):
			merged.fields[i] = mergeNames(base.fields[i], machine.fields[i], tree.fields[i])
		case machine.fields[i] == base.fields[i]:
			merged.fields[i] = tree.fields[i]
		}
	}
	return merged
}

func same(a, b *entry) bool {
	return a == nil && b == nil || a != nil && b != nil && slices.Equal(a.fields, b.fields)
}

// mergeNames merges lists with commas: the machine's, without what the tree took
// out and with what it added.
func mergeNames(base, machine, tree string) string {
	names := func(s string) []string { return strings.FieldsFunc(s, func(c rune) bool { return c == ',' }) }
	b, t := names(base), names(tree)
	merged := slices.DeleteFunc(names(machine), func(n string) bool { return slices.Contains(b, n) && !slices.Contains(t, n) })
	for _, n := range t {
		if !slices.Contains(b, n) && !slices.Contains(merged, n) {
			merged = append(merged, n)
		}
	}
	return strings.Join(merged, ",")
}

const mend = "(usermod or groupmod, and chown of its files), then run this again"

// collisions are ids that two names get, when neither side had it so, and names
// that get another id than the one that the new tree's files have.
func (f format) collisions(path string, merged []*entry, v versions) []error {
	var errs []error
	first := map[string]*entry{}
	for _, e := range merged {
		id := e.at(f.id)
		if id == "" {
			continue
		}
		if t := v.tree.index[e.key].at(f.id); t != "" && t != id && t != v.base.index[e.key].at(f.id) {
			errs = append(errs, fmt.Errorf("%s: %s has %s %s on this machine and %s in the new version: give it that one here %s", path, e.key, f.what, id, t, mend))
		}
		other := first[id]
		if other == nil {
			first[id] = e
			continue
		}
		both := func(in file) bool { return in.index[other.key].at(f.id) == id && in.index[e.key].at(f.id) == id }
		if both(v.machine) || both(v.tree) {
			continue
		}
		mine, theirs := other.key, e.key
		if v.tree.index[mine] != nil {
			mine, theirs = theirs, mine
		}
		errs = append(errs, fmt.Errorf("%s: %s %s is that of %s on this machine, and of %s in the new version: give %s another one %s", path, f.what, id, mine, theirs, mine, mend))
	}
	return errs
}

// overlaps are ranges of subordinate ids that the merge gives to two names.
func overlaps(path string, merged []*entry, v versions) []error {
	type span struct {
		*entry
		first, last uint64
	}
	var spans []span
	for _, e := range merged {
		first, err := strconv.ParseUint(e.at(1), 10, 32)
		count, err2 := strconv.ParseUint(e.at(2), 10, 32)
		if err == nil && err2 == nil && count > 0 {
			spans = append(spans, span{e, first, first + count - 1})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var errs []error
	for i := 1; i < len(spans); i++ {
		a, b := spans[i-1], spans[i]
		both := func(in file) bool { return in.index[a.key] != nil && in.index[b.key] != nil }
		if b.first <= a.last && a.fields[0] != b.fields[0] && !both(v.machine) && !both(v.tree) {
			errs = append(errs, fmt.Errorf("%s: %s and %s overlap, one of this machine and one of the new version: change this machine's, then run this again", path, a.key, b.key))
		}
	}
	return errs
}
