package expectation

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// component is all that is known of one thing in a machine: a disk, a bank.
type component struct {
	category, id string
	fields       []field // sorted by name, each once
}

type field struct{ name, text string }

func compareFacts(a, b wire.Fact) int {
	return cmp.Or(cmp.Compare(a.Category, b.Category), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Text(), b.Text()))
}

// assemble makes components of sorted facts. Several values of one field are
// joined.
func assemble(sorted wire.Hardware) []component {
	var all []component
	for _, f := range sorted {
		if len(all) == 0 || all[len(all)-1].category != f.Category || all[len(all)-1].id != f.ID {
			all = append(all, component{category: f.Category, id: f.ID})
		}
		c := &all[len(all)-1]
		if n := len(c.fields); n > 0 && c.fields[n-1].name == f.Field {
			c.fields[n-1].text += ", " + f.Text()
			continue
		}
		c.fields = append(c.fields, field{f.Field, f.Text()})
	}
	return all
}

// mark is equal for components that are made alike, whatever they are called.
func (c component) mark() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", c.category)
	for _, f := range c.fields {
		fmt.Fprintf(&b, " %q=%q", f.name, f.text)
	}
	return b.String()
}

// moves: the kernel names these as it finds them.
func (c component) moves() bool { return c.category == "disk" || c.category == "network" }

// Machine is a description in the form in which it is compared.
type Machine struct{ facts wire.Hardware }

// Of prepares a description.
func Of(h wire.Hardware) Machine {
	var m Machine
	for _, f := range h {
		f.Value = f.Text() // a bill has texts, and both are told apart by the same rule
		if Identifies(f) {
			m.facts = append(m.facts, f)
		}
	}
	slices.SortFunc(m.facts, compareFacts)
	return m
}

// without are the facts that a bill does not ignore.
func (m Machine) without(ignore []Pattern) wire.Hardware {
	exact := map[Pattern]bool{}
	var wild []Pattern
	for _, p := range ignore {
		if p.exact() {
			exact[p] = true
		} else {
			wild = append(wild, p)
		}
	}
	return slices.DeleteFunc(slices.Clone(m.facts), func(f wire.Fact) bool {
		return exact[Pattern{f.Category, f.ID, f.Field}] || slices.ContainsFunc(wild, func(p Pattern) bool { return p.matches(f) })
	})
}

// Compare is what the machine has otherwise than the bill says, in the order of
// the bill, then what it has besides.
func (b *Bill) Compare(m Machine) []api.Difference {
	p := pairing{want: b.components, has: assemble(m.without(b.Ignore))}
	p.pair()
	return p.differences()
}

// pairing finds for each component of the bill the one of the machine that
// stands for it.
type pairing struct {
	want, has []component
	of        map[int]int  // index of want -> of has
	taken     map[int]bool // of has
}

func (p *pairing) take(want, has int) { p.of[want], p.taken[has] = has, true }

func (p *pairing) pair() {
	p.of, p.taken = map[int]int{}, map[int]bool{}
	byID, byMark := map[[2]string]int{}, map[string][]int{}
	for i, c := range p.has {
		byID[[2]string{c.category, c.id}] = i
	}
	for i, c := range p.want {
		if j, ok := byID[[2]string{c.category, c.id}]; ok && (!c.moves() || slices.Equal(c.fields, p.has[j].fields)) {
			p.take(i, j)
		}
	}
	for j, c := range p.has {
		if !p.taken[j] && c.moves() {
			byMark[c.mark()] = append(byMark[c.mark()], j)
		}
	}
	p.each(func(i int, c component) {
		if alike := byMark[c.mark()]; len(alike) > 0 {
			p.take(i, alike[0])
			byMark[c.mark()] = alike[1:]
		}
	})
	p.each(func(i int, c component) {
		if j, ok := byID[[2]string{c.category, c.id}]; ok && !p.taken[j] {
			p.take(i, j)
		}
	})
	p.nearest()
}

// each are the components of the bill that move and stand for none yet.
func (p *pairing) each(do func(int, component)) {
	for i, c := range p.want {
		if _, done := p.of[i]; !done && c.moves() {
			do(i, c)
		}
	}
}

// maxNearest bounds the components that are compared each with each.
const maxNearest = 64

// nearest pairs what is left and has most of its fields in common: the same
// disk with another firmware, under another name.
func (p *pairing) nearest() {
	var left []int
	for j, c := range p.has {
		if !p.taken[j] && c.moves() && len(left) < maxNearest {
			left = append(left, j)
		}
	}
	tried := 0
	p.each(func(i int, c component) {
		if tried++; tried > maxNearest {
			return
		}
		best, most := -1, len(c.fields)/2
		for _, j := range left {
			if n := common(c, p.has[j]); !p.taken[j] && n > most {
				best, most = j, n
			}
		}
		if best >= 0 {
			p.take(i, best)
		}
	})
}

func common(a, b component) int {
	n := 0
	if a.category != b.category {
		return n
	}
	for _, f := range a.fields {
		if slices.Contains(b.fields, f) {
			n++
		}
	}
	return n
}

func (p *pairing) differences() []api.Difference {
	var all []api.Difference
	for i, c := range p.want {
		if j, ok := p.of[i]; ok {
			all = append(all, c.differences(p.has[j])...)
		} else {
			all = append(all, api.Difference{Category: c.category, ID: c.id, Want: c.String()})
		}
	}
	for j, c := range p.has {
		if !p.taken[j] {
			all = append(all, api.Difference{Category: c.category, ID: c.id, Has: c.String()})
		}
	}
	return all
}

// String tells a component in a line.
func (c component) String() string {
	words := make([]string, len(c.fields))
	for i, f := range c.fields {
		words[i] = f.name + " " + f.text
	}
	return strings.Join(words, ", ")
}

// differences of two components; both have at least one field.
func (c component) differences(has component) []api.Difference {
	id := c.id
	if has.id != c.id {
		id += " (here " + has.id + ")"
	}
	var all []api.Difference
	differ := func(name, want, is string) {
		all = append(all, api.Difference{Category: c.category, ID: id, Field: name, Want: want, Has: is})
	}
	a, b := c.fields, has.fields
	for len(a)+len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].name < b[0].name:
			differ(a[0].name, a[0].text, "")
			a = a[1:]
		case len(a) == 0 || b[0].name < a[0].name:
			differ(b[0].name, "", b[0].text)
			b = b[1:]
		default:
			if a[0].text != b[0].text {
				differ(a[0].name, a[0].text, b[0].text)
			}
			a, b = a[1:], b[1:]
		}
	}
	return all
}

// Bounds of the differences that are kept with a machine.
const (
	maxKept = 40
	maxText = 120 // bytes of each of their texts
)

// Differing is what is kept and told about a machine that differs; nil: it
// does not.
func Differing(profile, bill string, all []api.Difference) *api.Differing {
	if len(all) == 0 {
		return nil
	}
	sum := sha256.New()
	for _, d := range append([]api.Difference{{ID: bill}}, all...) {
		for _, text := range []string{d.Category, d.ID, d.Field, d.Want, d.Has} {
			fmt.Fprintf(sum, "%d:%s", len(text), text)
		}
	}
	kept := all[:min(len(all), maxKept)]
	is := &api.Differing{Profile: profile, Bill: bill, More: len(all) - len(kept), Mark: hex.EncodeToString(sum.Sum(nil))}
	for _, d := range kept {
		for _, text := range []*string{&d.Category, &d.ID, &d.Field, &d.Want, &d.Has} {
			*text = refusal.Clip(*text, maxText)
		}
		is.Differences = append(is.Differences, d)
	}
	return is
}
