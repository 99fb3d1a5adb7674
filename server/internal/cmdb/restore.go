package cmdb

import (
	"slices"

	"edeploy/server/internal/literal"
)

// Restore gives a machine the entry that it held and has given back. False:
// the file has the entry no more, or taken says that another machine has it.
func (f *File) Restore(before, after *literal.Dict, taken func(*literal.Dict) bool) (*File, bool) {
	for i, e := range f.entries {
		if literal.Equal(e.dict, before) && (taken == nil || !taken(e.dict)) {
			return f.with(i, after), true
		}
	}
	return f, false
}

// Untake is the file with an entry as it was before a machine took it: when all
// free entries are still those of the original (nil: there is none), from that;
// else without the mark, and without the bound variables that no free entry has.
func (f *File) Untake(i int, original *File, bound []string) *File {
	if original != nil && f.SameFree(original) {
		return f.with(i, original.Entry(i))
	}
	before := f.Entry(i).Clone()
	before.Delete(usedKey)
	for _, name := range bound {
		if !slices.ContainsFunc(f.entries, func(e entry) bool { return has(e, name) && !has(e, usedKey) }) {
			before.Delete(name)
		}
	}
	return f.with(i, before)
}

func has(e entry, key string) bool {
	_, ok := e.dict.Get(key)
	return ok
}

// SameFree: the entries that are free are still those of the original.
func (f *File) SameFree(original *File) bool {
	if f.Len() != original.Len() {
		return false
	}
	for i := range f.Len() {
		if !f.Used(i) && !literal.Equal(f.Entry(i), original.Entry(i)) {
			return false
		}
	}
	return true
}
