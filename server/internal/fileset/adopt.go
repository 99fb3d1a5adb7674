package fileset

import (
	"slices"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
)

// Holder is a machine that holds an entry of a CMDB.
type Holder struct {
	ID     string
	Before *literal.Dict // the entry before the machine took it
	After  *literal.Dict // the entry as the machine holds it
}

// Adoption is a new CMDB with the entries that machines hold taken.
type Adoption struct {
	Text  string
	Moved []Holder // machines whose entry is another one now, with that entry
	Lost  []Holder // machines whose entry the new CMDB has not
}

// Adopt takes in a new CMDB the entries that machines hold, so that nobody
// else gets them. An entry belongs to a machine when it is as the machine
// holds it; or is used and has all that the machine wrote; or is not used and
// is the one that the machine once took: equal in all that tells the entries
// of the new CMDB apart. So a gateway may change in all entries, and the
// generate call that the file once was may come again.
func Adopt(f *cmdb.File, holders []Holder) (Adoption, error) {
	a := newAdopter(f)
	holders = a.keepers(holders, a.same)
	holders = a.keepers(holders, a.edited)
	out := Adoption{Text: f.Text()}
	for _, h := range holders {
		i := a.unused(h)
		if i < 0 {
			out.Lost = append(out.Lost, h)
			continue
		}
		out.Moved = append(out.Moved, a.take(i, h))
	}
	if len(out.Moved) == 0 {
		return out, nil
	}
	var err error
	out.Text, err = a.text()
	return out, err
}

// adopter is an Adopt under way.
type adopter struct {
	file    *cmdb.File
	varying []literal.Value          // keys that tell the entries apart
	index   map[string][]int         // value of the first of them -> entries
	claimed map[int]bool             // entries that belong to a machine
	taken   map[int]*literal.Dict    // entries that change
	wrote   map[int][]*literal.Dict  // entry as it stands and what is written into it
}

func newAdopter(f *cmdb.File) *adopter {
	a := &adopter{file: f, varying: varyingKeys(f), index: map[string][]int{}, claimed: map[int]bool{},
		taken: map[int]*literal.Dict{}, wrote: map[int][]*literal.Dict{}}
	if len(a.varying) == 0 {
		return a
	}
	for i := range f.Len() {
		if v, ok := f.Entry(i).Get(a.varying[0]); ok {
			a.index[literal.Repr(v)] = append(a.index[literal.Repr(v)], i)
		}
	}
	return a
}

// varyingKeys are the keys that have more than one value, the most telling
// first. In a list of one entry all keys count.
func varyingKeys(f *cmdb.File) []literal.Value {
	values := map[string]map[string]bool{} // key -> its values
	var keys []literal.Value
	for i := range f.Len() {
		for k, v := range f.Entry(i).All() {
			name := literal.Repr(k)
			if k == "used" {
				continue
			}
			if values[name] == nil {
				values[name] = map[string]bool{}
				keys = append(keys, k)
			}
			values[name][literal.Repr(v)] = true
		}
	}
	different := func(k literal.Value) int { return len(values[literal.Repr(k)]) }
	keys = slices.DeleteFunc(keys, func(k literal.Value) bool { return f.Len() > 1 && different(k) < 2 })
	slices.SortStableFunc(keys, func(x, y literal.Value) int { return different(y) - different(x) })
	return keys
}
