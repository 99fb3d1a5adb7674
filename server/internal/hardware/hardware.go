// Package hardware compares the hardware descriptions of machines: which are
// alike (groups.go), and what two differ in.
//
// Facts that identify a machine (serials, addresses, UUIDs) and facts that
// are measured (temperatures, counters, benchmarks) are left out: two machines
// of the same order should be alike.
package hardware

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"edeploy/server/wire"
)

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
	both := maps.Clone(left)
	maps.Copy(both, right)
	for key := range both {
		if left[key] != right[key] {
			diffs = append(diffs, Difference{key, left[key], right[key]})
		}
	}
	slices.SortFunc(diffs, func(x, y Difference) int { return compareKeys(x.Key, y.Key) })
	return diffs
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
