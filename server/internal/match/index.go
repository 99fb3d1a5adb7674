package match

import (
	"edeploy/server/internal/literal"
	"edeploy/server/wire"
)

// Index is a hardware description prepared for many matches. It is not safe
// for concurrent use.
type Index struct {
	facts  wire.Hardware
	rows   [][4]int32 // for each fact, the numbers of its four texts
	typed  []int32    // for each fact, the number of its value where types count
	mixed  bool       // some value is no text
	values []value
	ids    map[string]int32
	byPair map[[2]int32][]int32 // category and field -> facts
	byKind map[int32][]int32    // category -> facts
	all    []int32
	cache  map[string][]int32 // spec key -> facts it accepts, whatever the variables are
	tables map[string][]row   // spec shape -> rows of its table in the solver
	scores []int32            // scratch of the solver, by number of a value
	units  int                // work left for searches, see budget
	disks  []selectable       // for selections, see selectables
	bare   *Index             // see kept
}

// kept is the index without what only a search needs.
func (ix *Index) kept() *Index {
	if ix.bare == nil {
		ix.bare = &Index{facts: ix.facts, rows: ix.rows, typed: ix.typed, mixed: ix.mixed, values: ix.values, all: ix.all}
	}
	return ix.bare
}

// NewIndex prepares a description.
func NewIndex(h wire.Hardware) *Index {
	ix := &Index{
		facts: h, rows: make([][4]int32, len(h)), typed: make([]int32, len(h)),
		ids: make(map[string]int32), byPair: make(map[[2]int32][]int32), byKind: make(map[int32][]int32),
		all: make([]int32, len(h)), cache: make(map[string][]int32), tables: make(map[string][]row), units: totalUnits,
	}
	for i, f := range h {
		row := [4]int32{ix.number(f.Category), ix.number(f.ID), ix.number(f.Field), ix.number(f.Text())}
		n := int32(i)
		ix.rows[i], ix.all[i], ix.typed[i] = row, n, row[3]
		if _, ok := f.Value.(string); !ok {
			ix.mixed = true
			ix.typed[i] = ix.number("\x00" + string(literal.KeyOf(f.Value))) // no text; True is 1, 1.0 is 1
		}
		ix.byPair[[2]int32{row[0], row[2]}] = append(ix.byPair[[2]int32{row[0], row[2]}], n)
		ix.byKind[row[0]] = append(ix.byKind[row[0]], n)
	}
	ix.scores = make([]int32, len(ix.values))
	return ix
}

func (ix *Index) number(text string) int32 {
	n, ok := ix.ids[text]
	if !ok {
		n = int32(len(ix.values))
		ix.ids[text] = n
		ix.values = append(ix.values, newValue(text))
	}
	return n
}

func (ix *Index) isText(fact int32) bool { return ix.typed[fact] == ix.rows[fact][3] }

// id is the number of a field of a fact: equal numbers are equal values.
func (ix *Index) id(fact int32, field int, exacting bool) int32 {
	if exacting && field == 3 {
		return ix.typed[fact]
	}
	return ix.rows[fact][field]
}

// candidates are the facts that a spec accepts whatever the variables are, in
// order.
func (ix *Index) candidates(s *spec) []int32 {
	if list, ok := ix.cache[s.key]; ok {
		return list
	}
	var list []int32
	for _, fact := range ix.near(s) {
		if ix.accepts(s, fact, false) {
			list = append(list, fact)
		}
	}
	ix.cache[s.key] = list
	return list
}

// near are facts among which all that the spec accepts are.
func (ix *Index) near(s *spec) []int32 {
	if s.fields[0].kind != text {
		return ix.all
	}
	category, ok := ix.ids[s.fields[0].literal]
	if !ok {
		return nil
	}
	if s.fields[2].kind != text {
		return ix.byKind[category]
	}
	field, ok := ix.ids[s.fields[2].literal]
	if !ok {
		return nil
	}
	return ix.byPair[[2]int32{category, field}]
}

// accepts tests the four fields without their variables. Exacting: as the
// original does, which knows types and no nested calls; else also as a reader
// of the specs expects.
func (ix *Index) accepts(s *spec, fact int32, exacting bool) bool {
	for i := range s.fields {
		f := &s.fields[i]
		v := &ix.values[ix.rows[fact][i]]
		switch f.kind {
		case nothing:
			return false
		case text:
			if v.text != f.literal || exacting && i == 3 && !ix.isText(fact) {
				return false
			}
		case helper:
			original := f.original != nil && f.original(v)
			if exacting && (!original || i == 3 && !ix.isText(fact)) {
				return false
			}
			if !original && !f.sane(v) {
				return false
			}
		}
	}
	return true
}

// equal are the facts that equal the whole spec, special characters included
// (the literal pass), in order.
func (ix *Index) equal(s *spec) []int32 {
	if s.whole == nil {
		return nil
	}
	var want [4]int32
	for i, t := range s.whole {
		n, ok := ix.ids[t]
		if !ok {
			return nil
		}
		want[i] = n
	}
	var list []int32
	for _, fact := range ix.byPair[[2]int32{want[0], want[2]}] {
		if ix.rows[fact] == want && ix.isText(fact) {
			list = append(list, fact)
		}
	}
	return list
}

type bitset []uint64

func newBitset(size int) bitset { return make(bitset, (size+63)/64) }

func (b bitset) set(n int32)      { b[n/64] |= 1 << (n % 64) }
func (b bitset) has(n int32) bool { return b[n/64]&(1<<(n%64)) != 0 }
