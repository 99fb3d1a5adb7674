package cmdb

import (
	"slices"

	"edeploy/server/internal/literal"
)

// Allocation is an entry that a machine takes.
type Allocation struct {
	File   *File         // the file to be written; the same one when nothing changes
	Index  int           // which entry
	Before *literal.Dict // the entry before
	After  *literal.Dict // the entry as the machine holds it, and its variables: bindings, entry, used = 1
}

// Allocate takes an entry for a machine (reference section 7.5): the first one
// that holds all preferred values, used or not; else, unless forced, the first
// that is not used. Values of the machine win over those of the entry.
//
// Preferred are the bindings of $$ variables, and forced is true, when there
// are any; else nil, which means all of vars. taken, if not nil, tells which
// entries other machines hold; they are never given.
func (f *File) Allocate(vars, preferred *literal.Dict, forced bool, taken func(*literal.Dict) bool) (Allocation, error) {
	if preferred == nil {
		preferred = vars
	}
	if preferred.Len() == 0 {
		return Allocation{}, ErrNoVariable
	}
	wanted, free := new(wanted), -1
	for k, v := range preferred.All() {
		wanted.keys, wanted.values = append(wanted.keys, literal.KeyOf(k)), append(wanted.values, v)
	}
	for i, e := range f.entries {
		if wanted.in(e.dict) && (taken == nil || !taken(e.dict)) {
			return f.take(i, e.dict, vars), nil
		}
		if free < 0 && !f.Used(i) {
			free = i
		}
	}
	switch {
	case forced:
		return Allocation{}, ErrNoEntry
	case free < 0:
		return Allocation{}, ErrExhausted
	}
	return f.take(free, f.entries[free].dict, vars), nil
}

// wanted is values that are looked for in many entries. Machines of one rack
// differ in few of them (the MAC address), so the one that told the last entry
// apart is looked at first.
type wanted struct {
	keys   []literal.Key
	values []literal.Value
}

func (w *wanted) in(d *literal.Dict) bool {
	for i, k := range w.keys {
		if is, ok := d.Lookup(k); !ok || !literal.Equal(w.values[i], is) {
			w.keys[0], w.keys[i] = w.keys[i], w.keys[0]
			w.values[0], w.values[i] = w.values[i], w.values[0]
			return false
		}
	}
	return true
}

// take gives an entry, which was as before says, to a machine.
func (f *File) take(i int, before, vars *literal.Dict) Allocation {
	after := before.Clone()
	after.Update(vars)
	after.Set(usedKey, int64(1))
	return Allocation{File: f.with(i, after), Index: i, Before: before, After: after}
}

// Retake gives the entry that a machine holds to it again, with its variables
// of now; false when the file no longer holds that entry.
func (f *File) Retake(before, after, vars *literal.Dict) (Allocation, bool) {
	i := f.held(before, after)
	if i < 0 {
		return Allocation{}, false
	}
	return f.take(i, returned(f.entries[i].dict, before, after), vars), true
}

// Free gives back the entry that a machine holds: what the machine changed is
// undone, what an operator changed since stays. False: the file no longer
// holds that entry, or somebody freed it.
func (f *File) Free(before, after *literal.Dict) (*File, bool) {
	i := f.held(before, after)
	if i < 0 {
		return f, false
	}
	return f.with(i, returned(f.entries[i].dict, before, after)), true
}

// held finds the entry that a machine holds: the one that is as the machine
// left it, else the first used one that still has all that the machine wrote.
func (f *File) held(before, after *literal.Dict) int {
	for i, e := range f.entries {
		if literal.Equal(e.dict, after) {
			return i
		}
	}
	wrote := new(literal.Dict)
	for k, v := range after.All() {
		if old, ok := before.Get(k); k != usedKey && (!ok || !literal.Equal(old, v)) {
			wrote.Set(k, v)
		}
	}
	if wrote.Len() == 0 {
		return -1
	}
	for i, e := range f.entries {
		if f.Used(i) && IsIncluded(wrote, e.dict) {
			return i
		}
	}
	return -1
}

// returned is an entry without what a machine wrote into it.
func returned(now, before, after *literal.Dict) *literal.Dict {
	out := now.Clone()
	for k, v := range after.All() {
		current, ok := now.Get(k)
		if !ok || !literal.Equal(current, v) {
			continue
		}
		if old, ok := before.Get(k); ok {
			out.Set(k, old)
		} else {
			out.Delete(k)
		}
	}
	return out
}

// With is the first entry that holds all these values; -1: none does.
func (f *File) With(values *literal.Dict) int {
	return slices.IndexFunc(f.entries, func(e entry) bool { return IsIncluded(values, e.dict) })
}

// IsIncluded tells whether every key of a is in b with an equal value.
func IsIncluded(a, b *literal.Dict) bool {
	for k, v := range a.All() {
		other, ok := b.Get(k)
		if !ok || !literal.Equal(v, other) {
			return false
		}
	}
	return true
}

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
		if !slices.ContainsFunc(f.entries, func(e entry) bool { return e.has(name) && !e.has(usedKey) }) {
			before.Delete(name)
		}
	}
	return f.with(i, before)
}

func (e entry) has(key string) bool {
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
