package hardware

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"edeploy/server/wire"
)

// Kind is what machines of the same product have in common and not.
type Kind struct {
	Name    string    `json:"name"`               // vendor and product
	Groups  []Group   `json:"groups"`             // largest first
	Odd     []Outlier `json:"differs,omitempty"`  // properties that are not the same in all groups
	LeftOut []Key     `json:"left_out,omitempty"` // properties that are another value on most machines: measured, or an identity
}

// Group are machines that are alike.
type Group struct {
	Machines []string `json:"machines"`
}

// Outlier is a property with its values, the most frequent first.
type Outlier struct {
	Key
	Values []Value `json:"values"`
}

// Value is a value and who has it; "": those that have not the property.
type Value struct {
	Text     string   `json:"value"`
	Machines []string `json:"machines"`
}

// Groups sorts machines: by product, then into groups of machines that are
// alike. The zero value is ready. Time and memory grow with the facts that are
// added; a text is kept once.
type Groups struct {
	keys     numbers[Key]
	personal []bool // by key: its name says so
	texts    numbers[string]
	products map[string][]machine
}

// machine is a description in numbers: two for each property, its key and its
// text, sorted by key.
type machine struct {
	name  string
	facts []fact
}

type fact struct{ key, text uint32 }

// property is a fact whose text has no number yet.
type property struct {
	key  uint32
	text string
}

// numbers gives each value a number, in the order in which they come.
type numbers[T comparable] struct {
	of  map[T]uint32
	all []T
}

func (n *numbers[T]) number(v T) uint32 {
	i, ok := n.of[v]
	if !ok {
		if n.of == nil {
			n.of = map[T]uint32{}
		}
		i = uint32(len(n.all))
		n.of[v] = i
		n.all = append(n.all, v)
	}
	return i
}

// Add takes in a machine; names should differ.
func (g *Groups) Add(name string, h wire.Hardware) {
	texts := make([]property, 0, len(h))
	for _, f := range h {
		key := g.keys.number(keyOf(f))
		if int(key) == len(g.personal) {
			g.personal = append(g.personal, personalName(f.Category, f.ID, f.Field))
		}
		if !g.personal[key] && !personalValue(f.Field, f.Value) {
			texts = append(texts, property{key, f.Text()})
		}
	}
	slices.SortFunc(texts, func(a, b property) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.text, b.text)) })
	m := machine{name: name, facts: make([]fact, 0, len(texts))}
	for i := 0; i < len(texts); {
		n := 1
		text := texts[i].text
		for ; i+n < len(texts) && texts[i+n].key == texts[i].key; n++ {
			text += ", " + texts[i+n].text
		}
		m.facts = append(m.facts, fact{texts[i].key, g.texts.number(text)})
		i += n
	}
	if g.products == nil {
		g.products = map[string][]machine{}
	}
	kind := product(h)
	g.products[kind] = append(g.products[kind], m)
}

// Kinds are the machines so far, sorted; names are sorted everywhere.
func (g *Groups) Kinds() []Kind {
	kinds := make([]Kind, 0, len(g.products))
	for name, all := range g.products {
		kinds = append(kinds, g.kind(name, all))
	}
	slices.SortFunc(kinds, func(a, b Kind) int {
		return cmp.Or(cmp.Compare(b.size(), a.size()), cmp.Compare(a.Name, b.Name))
	})
	return kinds
}

func (k Kind) size() int {
	n := 0
	for _, g := range k.Groups {
		n += len(g.Machines)
	}
	return n
}

func product(h wire.Hardware) string {
	vendor, _ := h.Find("system", "product", "vendor")
	name, _ := h.Find("system", "product", "name")
	return cmp.Or(strings.TrimSpace(strings.TrimSpace(vendor)+" "+strings.TrimSpace(name)), "unknown product")
}

type alike struct {
	names []string
	facts []fact
}

func (g *Groups) kind(name string, all []machine) Kind {
	k := Kind{Name: name}
	without := g.different(all)
	for key := range without {
		k.LeftOut = append(k.LeftOut, g.keys.all[key])
	}
	slices.SortFunc(k.LeftOut, compareKeys)
	groups := group(all, without)
	for _, a := range groups {
		k.Groups = append(k.Groups, Group{a.names})
	}
	k.Odd = g.odd(groups)
	return k
}

// manyMachines is from how many machines on a property says nothing about the
// hardware when most have another value: it is measured, or an identity.
const manyMachines = 10

// different are the properties that are another value on most machines.
func (g *Groups) different(all []machine) map[uint32]bool {
	machines := map[uint32]int{}
	values := map[fact]bool{}
	distinct := map[uint32]int{}
	for _, m := range all {
		for _, f := range m.facts {
			machines[f.key]++
			if !values[f] {
				values[f] = true
				distinct[f.key]++
			}
		}
	}
	out := map[uint32]bool{}
	for key, n := range machines {
		if n >= manyMachines && 2*distinct[key] > n {
			out[key] = true
		}
	}
	return out
}

// group sorts machines that are alike but for some properties, the largest
// group first.
func group(all []machine, without map[uint32]bool) []*alike {
	found := map[string]*alike{}
	var groups []*alike
	for _, m := range all {
		facts := m.facts
		if len(without) > 0 {
			facts = slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return without[f.key] })
		}
		mark := make([]byte, 0, 8*len(facts))
		for _, f := range facts {
			mark = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(mark, f.key), f.text)
		}
		a := found[string(mark)]
		if a == nil {
			a = &alike{facts: facts}
			found[string(mark)] = a
			groups = append(groups, a)
		}
		a.names = append(a.names, m.name)
	}
	for _, a := range groups {
		slices.Sort(a.names)
	}
	slices.SortFunc(groups, func(a, b *alike) int { return moreMachines(a.names, b.names) })
	return groups
}

// moreMachines orders lists of names: the longer one first.
func moreMachines(a, b []string) int {
	return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a[0], b[0]))
}

// absent is the number of no text.
const absent = ^uint32(0)

// odd are the properties that groups differ in.
func (g *Groups) odd(groups []*alike) []Outlier {
	texts := map[uint32]map[uint32][]int{} // key, text -> groups
	for i, a := range groups {
		for _, f := range a.facts {
			if texts[f.key] == nil {
				texts[f.key] = map[uint32][]int{}
			}
			texts[f.key][f.text] = append(texts[f.key][f.text], i)
		}
	}
	var all []Outlier
	for key, values := range texts {
		for i, a := range groups {
			if _, has := slices.BinarySearchFunc(a.facts, key, func(f fact, key uint32) int { return cmp.Compare(f.key, key) }); !has {
				values[absent] = append(values[absent], i)
			}
		}
		if len(values) > 1 {
			all = append(all, g.outlier(key, values, groups))
		}
	}
	slices.SortFunc(all, func(a, b Outlier) int { return compareKeys(a.Key, b.Key) })
	return all
}

func (g *Groups) outlier(key uint32, values map[uint32][]int, groups []*alike) Outlier {
	o := Outlier{Key: g.keys.all[key]}
	for text, in := range values {
		v := Value{}
		if text != absent {
			v.Text = g.texts.all[text]
		}
		for _, i := range in {
			v.Machines = append(v.Machines, groups[i].names...)
		}
		slices.Sort(v.Machines)
		o.Values = append(o.Values, v)
	}
	slices.SortFunc(o.Values, func(a, b Value) int { return moreMachines(a.Machines, b.Machines) })
	return o
}
