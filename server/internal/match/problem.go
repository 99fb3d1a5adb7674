package match

import "slices"

// Bounds of the search, in units of one fact looked at; a unit is some
// nanoseconds. Every search of a profile (there are five at most) gets what is
// left of the total for a description, but never more than searchUnits and
// never less than leastUnits.
const (
	totalUnits  = 30_000_000
	searchUnits = 2_000_000
	leastUnits  = 50_000
)

// verdict is what a bounded search knows.
type verdict int

const (
	unknown verdict = iota // given up
	yes
	no
)

// choice is the fact that a spec takes; exact: it equals the whole spec, so
// that nothing is bound.
type choice struct {
	fact  int32
	exact bool
}

var noChoice = choice{fact: -1}

// problem is one match: a description and a specs file.
type problem struct {
	ix    *Index
	s     *Specs
	cands [][]int32 // for each spec, the facts it accepts; filled when asked for
	exact [][]int32
	known []bool
	units int

	given   []int32 // the variables as the selections set them, -1: not at all
	unmet   int     // the selection that finds no disks, when noDisks says why
	noDisks string

	// Set by prepare, for the searches behind the first pass.
	order  []int32  // facts that some spec accepts, in order
	accept []bitset // for each spec, tolerant
	strict []bitset // for each spec, exacting
	whole  []bitset // for each spec, facts equal to all of it; nil when none
	exotic bool     // some spec with variables equals a fact as text: the solver does not know such choices
}

func newProblem(ix *Index, s *Specs) *problem {
	n := len(s.specs)
	p := &problem{ix: ix, s: s, cands: make([][]int32, n), exact: make([][]int32, n), known: make([]bool, n)}
	p.refill()
	p.given = slices.Repeat([]int32{-1}, len(s.names))
	for i, sel := range s.selections {
		names, why := sel.choose(ix, p.given)
		if why != "" {
			p.unmet, p.noDisks = i, why
			break
		}
		for j, v := range sel.variables {
			p.given[v] = names[j]
		}
	}
	return p
}

// refill gives the next search its budget.
func (p *problem) refill() { p.units = max(min(p.ix.units, searchUnits), leastUnits) }

// spend takes units from the budget; false when it is used up.
func (p *problem) spend(units int) bool {
	p.units -= units
	p.ix.units -= units
	return p.units > 0
}

// candidates are the facts that a spec accepts and those that equal it.
func (p *problem) candidates(i int) (accepted, exact []int32) {
	if !p.known[i] {
		s := &p.s.specs[i]
		p.cands[i], p.exact[i], p.known[i] = p.ix.candidates(s), p.ix.equal(s), true
		if !s.binds() && len(p.exact[i]) > 0 {
			// Without variables it does not matter in which way a fact fits.
			p.cands[i] = union(p.cands[i], p.exact[i])
		}
	}
	return p.cands[i], p.exact[i]
}

// greedy takes for each spec the first fact that fits. It stops at the first
// spec that finds none.
func (p *problem) greedy(exacting bool) []choice {
	used := make(map[int32]bool, len(p.s.specs))
	bound := p.unbound()
	taken := make([]choice, 0, len(p.s.specs))
	for i := range p.s.specs {
		c := p.firstFree(i, used, bound, exacting)
		if c.fact < 0 {
			break
		}
		used[c.fact] = true
		p.bindChoice(i, c, bound, exacting)
		taken = append(taken, c)
	}
	return taken
}

func (p *problem) firstFree(i int, used map[int32]bool, bound []int32, exacting bool) choice {
	accepted, exact := p.candidates(i)
	for _, fact := range exact {
		if !used[fact] {
			return choice{fact, true}
		}
	}
	for _, fact := range accepted {
		if !used[fact] && p.fits(i, fact, bound, exacting) && (!exacting || p.ix.accepts(&p.s.specs[i], fact, true)) {
			return choice{fact, false}
		}
	}
	return noChoice
}

// unbound are the variables before the first spec.
func (p *problem) unbound() []int32 {
	return slices.Clone(p.given)
}

// fits tells whether a fact agrees with the variables bound so far.
func (p *problem) fits(i int, fact int32, bound []int32, exacting bool) bool {
	for _, u := range p.s.specs[i].uses {
		if b := bound[u.variable]; b >= 0 && b != p.ix.id(fact, u.field, exacting) {
			return false
		}
	}
	return true
}

// bindChoice binds the variables of a spec; it tells whether any is new. A
// variable that stands in the spec twice gets the last value.
func (p *problem) bindChoice(i int, c choice, bound []int32, exacting bool) (fresh bool) {
	if c.exact {
		return false
	}
	uses := p.s.specs[i].uses
	for j, u := range uses {
		if bound[u.variable] >= 0 && !boundHere(uses[:j], u.variable) {
			continue
		}
		bound[u.variable] = p.ix.id(c.fact, u.field, exacting)
		fresh = true
	}
	return fresh
}

func boundHere(before []use, variable int) bool {
	return slices.ContainsFunc(before, func(u use) bool { return u.variable == variable })
}

// prepare sets up what the searches behind the first pass need.
func (p *problem) prepare() {
	if p.accept != nil {
		return
	}
	size := len(p.ix.facts)
	relevant := newBitset(size)
	for i := range p.s.specs {
		accepted, exact := p.candidates(i)
		accept, strict := newBitset(size), newBitset(size)
		for _, fact := range accepted {
			accept.set(fact)
			relevant.set(fact)
			if p.ix.accepts(&p.s.specs[i], fact, true) {
				strict.set(fact)
			}
		}
		var whole bitset
		if len(exact) > 0 {
			whole = newBitset(size)
			for _, fact := range exact {
				whole.set(fact)
				relevant.set(fact)
			}
			p.exotic = p.exotic || p.s.specs[i].binds()
		}
		p.accept, p.strict, p.whole = append(p.accept, accept), append(p.strict, strict), append(p.whole, whole)
	}
	for _, fact := range p.ix.all {
		if relevant.has(fact) {
			p.order = append(p.order, fact)
		}
	}
}

func union(a, b []int32) []int32 {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// state is a point of a search: the facts left, in their present order, and
// the values of the variables.
type state struct {
	order []int32
	bound []int32
}

// choose finds the fact that the spec takes first.
func (p *problem) choose(i int, st state, exacting bool) choice {
	if p.whole[i] != nil {
		for _, fact := range st.order {
			if p.whole[i].has(fact) {
				return choice{fact, true}
			}
		}
	}
	accept := p.accept[i]
	if exacting {
		accept = p.strict[i]
	}
	for _, fact := range st.order {
		if accept.has(fact) && p.fits(i, fact, st.bound, exacting) {
			return choice{fact, false}
		}
	}
	return noChoice
}

func without(order []int32, fact int32) []int32 {
	return slices.DeleteFunc(slices.Clone(order), func(f int32) bool { return f == fact })
}

func (p *problem) start() state {
	p.prepare()
	return state{p.order, p.unbound()}
}
