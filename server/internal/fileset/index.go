package fileset

import (
	"slices"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
)

// tellingKeys are the keys of the chosen entries that have more than one value
// in the whole file, the one with the most values first. In a file of one
// entry all its keys count.
func tellingKeys(f *cmdb.File, chosen func(int) bool) []literal.Value {
	values := map[string]map[string]bool{} // key -> its values
	asked := map[string]bool{}
	var keys []literal.Value
	for i := range f.Len() {
		for k, v := range f.Entry(i).All() {
			name := literal.Repr(k)
			if k == usedKey {
				continue
			}
			if values[name] == nil {
				values[name] = map[string]bool{}
				keys = append(keys, k)
			}
			values[name][literal.Repr(v)] = true
			asked[name] = asked[name] || chosen(i)
		}
	}
	different := func(k literal.Value) int { return len(values[literal.Repr(k)]) }
	keys = slices.DeleteFunc(keys, func(k literal.Value) bool {
		return !asked[literal.Repr(k)] || f.Len() > 1 && different(k) < 2
	})
	slices.SortStableFunc(keys, func(x, y literal.Value) int { return different(y) - different(x) })
	return keys
}

// index finds entries by the value of one key.
type index struct {
	key     literal.Value
	entries map[string][]int
	all     []int // every entry
}

func newIndex(f *cmdb.File, keys []literal.Value) index {
	var x index
	for i := range f.Len() {
		x.all = append(x.all, i)
	}
	if len(keys) == 0 {
		return x
	}
	x.key, x.entries = keys[0], map[string][]int{}
	for i := range f.Len() {
		if v, ok := f.Entry(i).Get(x.key); ok {
			value := literal.Repr(v)
			x.entries[value] = append(x.entries[value], i)
		}
	}
	return x
}

// candidates are the entries that can be equal to d in the key.
func (x index) candidates(d *literal.Dict) []int {
	if x.entries == nil {
		return x.all
	}
	v, ok := d.Get(x.key)
	if !ok {
		return x.all
	}
	return x.entries[literal.Repr(v)]
}
