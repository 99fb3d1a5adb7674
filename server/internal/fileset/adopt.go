package fileset

import (
	"maps"
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

// NewHolder reads the entries as a machine's record has them, in Python syntax.
func NewHolder(id, before, after string) (Holder, error) {
	h := Holder{ID: id}
	for _, entry := range []struct {
		text string
		dict **literal.Dict
	}{{before, &h.Before}, {after, &h.After}} {
		doc, err := literal.Parse("held CMDB entry", entry.text)
		if err != nil {
			return h, err
		}
		d, ok := doc.Node.Value.(*literal.Dict)
		if !ok {
			return h, doc.ErrorAt(0, "want a dictionary")
		}
		*entry.dict = d
	}
	return h, nil
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
	out := Adoption{Text: f.Text()}
	if len(holders) == 0 {
		return out, nil
	}
	a := newAdopter(f)
	holders = a.without(holders, a.same)
	holders = a.without(holders, a.edited)
	for _, h := range holders {
		i := a.free(h)
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
	file      *cmdb.File
	used      []int // entries that are used as the file stands
	all       index
	freeKeys  []literal.Value // keys of free entries that tell entries apart
	freeIndex index
	claimed   map[int]bool          // entries that belong to a machine
	wrote     map[int]*literal.Dict // what is written into entries
}

func newAdopter(f *cmdb.File) *adopter {
	a := &adopter{file: f, claimed: map[int]bool{}, wrote: map[int]*literal.Dict{}}
	for i := range f.Len() {
		if f.Used(i) {
			a.used = append(a.used, i)
		}
	}
	a.all = newIndex(f, tellingKeys(f, func(int) bool { return true }))
	a.freeKeys = tellingKeys(f, func(i int) bool { return !f.Used(i) })
	a.freeIndex = newIndex(f, a.freeKeys)
	return a
}

// without answers the holders for whom find has no entry; the entries of the
// others are claimed.
func (a *adopter) without(holders []Holder, find func(Holder) int) []Holder {
	var left []Holder
	for _, h := range holders {
		if i := find(h); i >= 0 {
			a.claimed[i] = true
		} else {
			left = append(left, h)
		}
	}
	return left
}

// same finds the entry that is as the machine holds it.
func (a *adopter) same(h Holder) int {
	for _, i := range a.all.candidates(h.After) {
		if !a.claimed[i] && a.file.Used(i) && literal.Equal(a.file.Entry(i), h.After) {
			return i
		}
	}
	return -1
}

// edited finds a used entry that has all that the machine wrote.
func (a *adopter) edited(h Holder) int {
	wrote := h.wrote()
	if wrote.Len() == 0 {
		return -1
	}
	for _, i := range a.used {
		if !a.claimed[i] && cmdb.IsIncluded(wrote, a.file.Entry(i)) {
			return i
		}
	}
	return -1
}

// free finds the free entry that the machine once took.
func (a *adopter) free(h Holder) int {
	for _, i := range a.freeIndex.candidates(h.Before) {
		if !a.claimed[i] && !a.file.Used(i) && a.isEntry(i, h.Before) {
			return i
		}
	}
	return -1
}

// isEntry: the entry and the one of before have telling keys in common, and
// agree in all of them.
func (a *adopter) isEntry(i int, before *literal.Dict) bool {
	common := 0
	for _, k := range a.freeKeys {
		now, ok := a.file.Entry(i).Get(k)
		then, had := before.Get(k)
		if !ok || !had {
			continue
		}
		if !literal.Equal(now, then) {
			return false
		}
		common++
	}
	return common > 0
}

// take gives a free entry to its machine.
func (a *adopter) take(i int, h Holder) Holder {
	a.claimed[i], a.wrote[i] = true, h.wrote()
	return Holder{h.ID, a.file.Entry(i), taken(a.file.Entry(i), a.wrote[i])}
}

func taken(entry, wrote *literal.Dict) *literal.Dict {
	after := entry.Clone()
	after.Update(wrote)
	after.Set(usedKey, int64(1))
	return after
}

// usedKey marks an entry that a machine took (reference section 7.5).
const usedKey = "used"

// wrote is what the machine brought into its entry.
func (h Holder) wrote() *literal.Dict {
	out := new(literal.Dict)
	for k, v := range h.After.All() {
		if old, ok := h.Before.Get(k); k != usedKey && (!ok || !literal.Equal(old, v)) {
			out.Set(k, v)
		}
	}
	return out
}

// text writes the file with the taken entries: around the comments, if it has
// some, else as pprint does.
func (a *adopter) text() (string, error) {
	doc, err := literal.ParseCall("", a.file.Text(), "generate")
	if err != nil {
		return "", err
	}
	if doc.Comments && a.file.Original() == "" {
		return a.spliced(), nil
	}
	list := make(literal.List, a.file.Len())
	for i := range list {
		list[i] = a.file.Entry(i)
		if wrote, ok := a.wrote[i]; ok {
			list[i] = taken(a.file.Entry(i), wrote)
		}
	}
	return literal.Format(list), nil
}

// spliced changes one entry after the other.
func (a *adopter) spliced() string {
	f := a.file
	for _, i := range slices.Sorted(maps.Keys(a.wrote)) {
		entry := a.file.Entry(i)
		if t, ok := f.Retake(entry, entry, a.wrote[i]); ok { // it is in the file as it stands
			f = t.File
		}
	}
	return f.Text()
}
