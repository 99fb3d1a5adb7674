// Package hardware compares the hardware descriptions of machines: which are
// alike, and what the odd ones differ in.
//
// Facts that identify a machine (serials, addresses, UUIDs) and facts that
// change by themselves (temperatures, counters) are left out: two machines of
// the same order should be alike.
package hardware

import (
	"cmp"
	"slices"
	"strings"

	"edeploy/server/wire"
)

// Machine is a description with its name.
type Machine struct {
	Name  string
	Facts wire.Hardware
}

// Key names one property.
type Key struct {
	Category string `json:"category"`
	ID       string `json:"id"`
	Field    string `json:"field"`
}

func keyOf(f wire.Fact) Key { return Key{f.Category, f.ID, f.Field} }

// String is "disk sda size".
func (k Key) String() string { return k.Category + " " + k.ID + " " + k.Field }

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Field, b.Field))
}

// Difference is a property that two descriptions do not agree in. A property
// may have several values: they are joined by ", ". One that is not there is "".
type Difference struct {
	Key
	A string `json:"a"`
	B string `json:"b"`
}

// Diff is what b has otherwise than a, sorted by property. all includes the
// facts that identify a machine or change by themselves.
func Diff(a, b wire.Hardware, all bool) []Difference {
	left, right := values(a, all), values(b, all)
	diffs := []Difference{}
	for key := range union(left, right) {
		if left[key] != right[key] {
			diffs = append(diffs, Difference{key, left[key], right[key]})
		}
	}
	slices.SortFunc(diffs, func(x, y Difference) int { return compareKeys(x.Key, y.Key) })
	return diffs
}

func union(a, b map[Key]string) map[Key]bool {
	keys := map[Key]bool{}
	for key := range a {
		keys[key] = true
	}
	for key := range b {
		keys[key] = true
	}
	return keys
}

// values are the properties of a description. Values of one property are
// sorted: their order says nothing.
func values(h wire.Hardware, all bool) map[Key]string {
	lists := map[Key][]string{}
	for _, f := range h {
		if all || !Personal(f) {
			lists[keyOf(f)] = append(lists[keyOf(f)], f.Text())
		}
	}
	joined := make(map[Key]string, len(lists))
	for key, list := range lists {
		slices.Sort(list)
		joined[key] = strings.Join(list, ", ")
	}
	return joined
}

// Kind is what machines of the same product have in common and not.
type Kind struct {
	Name   string    `json:"name"`              // vendor and product
	Groups []Group   `json:"groups"`            // largest first
	Odd    []Outlier `json:"differs,omitempty"` // properties that are not the same in all groups
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
// alike. Names are sorted everywhere.
func Groups(machines []Machine) []Kind {
	byProduct := map[string][]Machine{}
	for _, m := range machines {
		name := product(m.Facts)
		byProduct[name] = append(byProduct[name], m)
	}
	kinds := make([]Kind, 0, len(byProduct))
	for name, all := range byProduct {
		kinds = append(kinds, newKind(name, all))
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

// product is vendor and name of the product.
func product(h wire.Hardware) string {
	vendor, _ := h.Find("system", "product", "vendor")
	name, _ := h.Find("system", "product", "name")
	return cmp.Or(strings.TrimSpace(strings.TrimSpace(vendor)+" "+strings.TrimSpace(name)), "unknown product")
}

func newKind(name string, all []Machine) Kind {
	k := Kind{Name: name}
	facts := make(map[string]map[Key]string, len(all))
	keys := map[Key]bool{}
	for _, m := range all {
		facts[m.Name] = values(m.Facts, false)
		for key := range facts[m.Name] {
			keys[key] = true
		}
	}
	alike := map[string][]string{}
	for machine, is := range facts {
		alike[fingerprint(is)] = append(alike[fingerprint(is)], machine)
	}
	for _, names := range alike {
		slices.Sort(names)
		k.Groups = append(k.Groups, Group{names})
	}
	slices.SortFunc(k.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(len(b.Machines), len(a.Machines)), cmp.Compare(a.Machines[0], b.Machines[0]))
	})
	for key := range keys {
		if o := outlier(key, facts); len(o.Values) > 1 {
			k.Odd = append(k.Odd, o)
		}
	}
	slices.SortFunc(k.Odd, func(a, b Outlier) int { return compareKeys(a.Key, b.Key) })
	return k
}

// fingerprint is equal for equal properties.
func fingerprint(is map[Key]string) string {
	lines := make([]string, 0, len(is))
	for key, value := range is {
		lines = append(lines, strings.Join([]string{key.Category, key.ID, key.Field, value}, "\x00"))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\x01")
}

// outlier sorts the machines by their value of one property.
func outlier(key Key, facts map[string]map[Key]string) Outlier {
	who := map[string][]string{}
	for machine, is := range facts {
		who[is[key]] = append(who[is[key]], machine)
	}
	o := Outlier{Key: key}
	for text, machines := range who {
		slices.Sort(machines)
		o.Values = append(o.Values, Value{text, machines})
	}
	slices.SortFunc(o.Values, func(a, b Value) int {
		return cmp.Or(cmp.Compare(len(b.Machines), len(a.Machines)), cmp.Compare(a.Machines[0], b.Machines[0]))
	})
	return o
}
