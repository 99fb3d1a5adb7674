package match

import "slices"

// The solver answers one question: can the specs from some point on all find a
// fact? It forgets the order of the facts. Every spec is a table: the facts
// that it accepts, each with the values it gives to the variables. Values that
// not all tables of a variable hold are struck out until nothing changes; a
// bipartite matching proves that there are facts enough; what is left is
// decided by trying the values of one variable after the other, independent
// groups of specs apart.

// table is one spec in the solver.
type table struct {
	number int
	vars   []int // distinct unbound variables
	rows   []row
}

// row is a fact and the values it gives to the variables of its table.
type row struct {
	fact int32
	vals []int32
}

// firstUnsatisfiable finds the first spec that cannot be satisfied together
// with all before it, given a choice for the first ones. The verdict is yes
// when all can be satisfied; then the outcome has a choice for all.
func (p *problem) firstUnsatisfiable(before []choice) outcome {
	failed := len(before)
	barren := p.barren(failed)
	if barren == failed {
		return outcome{verdict: no, failed: failed, taken: before}
	}
	v, taken := p.satisfiable(barren)
	if barren < len(p.s.specs) && v != no {
		// No search is needed to know that this spec fails.
		return outcome{verdict: no, failed: barren, taken: taken}
	}
	low, high := failed, barren // sizes of prefixes: low can be satisfied
	for v == no && high-low > 1 {
		middle := (low + high) / 2
		v2, taken := p.satisfiable(middle)
		if v2 == yes {
			low, before = middle, taken
		} else {
			high, v = middle, v2
		}
	}
	switch v {
	case yes:
		before = taken
	case no:
		failed = high - 1
	}
	return outcome{verdict: v, failed: failed, taken: before}
}

// barren is the first spec, from the given one on, that no fact fits at all.
func (p *problem) barren(from int) int {
	for i := from; i < len(p.s.specs); i++ {
		if accepted, exact := p.candidates(i); len(accepted) == 0 && len(exact) == 0 {
			return i
		}
	}
	return len(p.s.specs)
}

// satisfiable solves the first specs on their own.
func (p *problem) satisfiable(size int) (verdict, []choice) {
	lists := make([][]int32, size)
	for i := range lists {
		var exact []int32
		if lists[i], exact = p.candidates(i); len(exact) > 0 && p.s.specs[i].binds() {
			return unknown, nil
		}
	}
	v, taken := p.solve(0, lists, p.unbound(), false)
	if v == no && p.ix.mixed {
		// The original holds 1 and 1.0 equal, which differ as text.
		return p.solve(0, lists, p.unbound(), true)
	}
	return v, taken
}

// hopeless tells whether the specs from the given one on certainly cannot be
// satisfied in a state.
func (p *problem) hopeless(spec int, st state, exacting bool) bool {
	if p.exotic || spec >= len(p.s.specs) {
		return false
	}
	left := newBitset(len(p.ix.facts))
	for _, fact := range st.order {
		left.set(fact)
	}
	lists := make([][]int32, len(p.s.specs)-spec)
	for i := range lists {
		accepted, _ := p.candidates(spec + i)
		p.spend(len(accepted))
		lists[i] = slices.DeleteFunc(slices.Clone(accepted), func(fact int32) bool { return !left.has(fact) })
		if len(lists[i]) == 0 {
			return true
		}
	}
	v, _ := p.solve(spec, lists, st.bound, exacting)
	return v == no
}

// solve decides about the specs from the given one on, each with the facts
// left for it. With yes comes a fact for each.
func (p *problem) solve(spec int, lists [][]int32, bound []int32, exacting bool) (verdict, []choice) {
	sv := solver{problem: p, taken: make([]choice, len(lists))}
	mentioned := make([]bool, len(p.s.names))
	var tables []table
	for i, facts := range lists {
		t := p.table(spec+i, facts, bound, mentioned, exacting)
		t.number = i
		tables = append(tables, t)
		for _, u := range p.s.specs[spec+i].uses {
			mentioned[u.variable] = true
		}
	}
	if v := sv.solve(tables); v != yes {
		return v, nil
	}
	return yes, sv.taken
}

// table lists what a spec accepts given the bound variables. A variable that
// stands in the spec twice must be the same value in both places only when an
// earlier spec binds it; else the last place counts. Rows that depend on the
// spec alone are kept for other profiles.
func (p *problem) table(spec int, facts []int32, bound []int32, mentioned []bool, exacting bool) table {
	var t table
	uses := p.s.specs[spec].uses
	for j, u := range uses {
		if bound[u.variable] < 0 && !boundHere(uses[:j], u.variable) {
			t.vars = append(t.vars, u.variable)
		}
	}
	shape := p.s.specs[spec].shape
	general := !exacting && len(t.vars) == len(uses) && len(facts) == len(p.cands[spec]) && len(p.exact[spec]) == 0
	if rows, ok := p.ix.tables[shape]; ok && general {
		t.rows = rows
		return t
	}
	p.spend(len(facts))
	backing := make([]int32, len(t.vars)*len(facts))
	t.rows = make([]row, 0, len(facts))
	for _, fact := range facts {
		vals := backing[:len(t.vars):len(t.vars)]
		if !p.fits(spec, fact, bound, exacting) || !p.fillRow(uses, fact, t.vars, mentioned, vals, exacting) {
			continue
		}
		backing = backing[len(t.vars):]
		t.rows = append(t.rows, row{fact, vals})
	}
	if general {
		p.ix.tables[shape] = t.rows
	}
	return t
}

// fillRow gives the open variables their values by a fact; false when the fact
// gives one variable two values that must agree.
func (p *problem) fillRow(uses []use, fact int32, open []int, mentioned []bool, vals []int32, exacting bool) bool {
	for j, u := range uses {
		place := slices.Index(open, u.variable)
		if place < 0 {
			continue
		}
		id := p.ix.id(fact, u.field, exacting)
		if mentioned[u.variable] && boundHere(uses[:j], u.variable) && vals[place] != id {
			return false
		}
		vals[place] = id
	}
	return true
}

type solver struct {
	*problem
	taken []choice // by number of the table
}

func (sv *solver) solve(tables []table) verdict {
	if !sv.propagate(tables) {
		return no
	}
	if sv.units <= 0 {
		return unknown
	}
	rows := sv.matching(tables)
	switch {
	case rows == nil && sv.units <= 0:
		return unknown
	case rows == nil:
		return no
	}
	if consistent(tables, rows) {
		for i, t := range tables {
			sv.taken[t.number] = choice{fact: t.rows[rows[i]].fact}
		}
		return yes
	}
	groups := components(tables)
	if len(groups) == 1 {
		return sv.branch(tables, rows)
	}
	result := yes
	for _, group := range groups {
		switch sv.solve(group) {
		case no:
			return no
		case unknown:
			result = unknown
		}
	}
	return result
}

// byVariable lists, for every variable that several tables hold, the tables
// and the place of the variable in each.
func (sv *solver) byVariable(tables []table) [][][2]int {
	uses := make([][][2]int, len(sv.s.names))
	for i, t := range tables {
		for place, variable := range t.vars {
			uses[variable] = append(uses[variable], [2]int{i, place})
		}
	}
	return slices.DeleteFunc(uses, func(places [][2]int) bool { return len(places) < 2 })
}

// propagate strikes out rows whose values another table of the same variable
// does not hold, until nothing changes. It changes the tables, and answers
// false when one is empty.
func (sv *solver) propagate(tables []table) bool {
	if slices.ContainsFunc(tables, func(t table) bool { return len(t.rows) == 0 }) {
		return false
	}
	shared := sv.byVariable(tables)
	for changed := true; changed; {
		changed = false
		for _, places := range shared {
			c, ok := sv.agree(tables, places)
			if !ok || sv.units <= 0 {
				return ok
			}
			changed = changed || c
		}
	}
	return true
}

// agree keeps, in the tables of one variable, the rows whose value all of them
// hold.
func (sv *solver) agree(tables []table, places [][2]int) (changed, ok bool) {
	scores := sv.ix.scores
	for k, pl := range places {
		for _, r := range tables[pl[0]].rows {
			if v := r.vals[pl[1]]; scores[v] == int32(k) {
				scores[v]++
			}
		}
	}
	visited := 0
	ok = true
	before := make([][]row, len(places))
	for k, pl := range places {
		rows, place := tables[pl[0]].rows, pl[1]
		strange := func(r row) bool { return scores[r.vals[place]] != int32(len(places)) }
		if before[k] = rows; slices.ContainsFunc(rows, strange) {
			rows = slices.DeleteFunc(slices.Clone(rows), strange) // tables of other searches share them
			tables[pl[0]].rows, changed = rows, true
		}
		visited += len(before[k])
		ok = ok && len(rows) > 0
	}
	for k, pl := range places {
		for _, r := range before[k] {
			scores[r.vals[pl[1]]] = 0
		}
	}
	sv.spend(3*visited + 1)
	return changed, ok
}

// branch tries the values of the variable that has the fewest, first the one
// that the matching suggests.
func (sv *solver) branch(tables []table, rows []int) verdict {
	t, place, values := sv.smallest(tables)
	first := tables[t].rows[rows[t]].vals[place]
	result := no
	if i := slices.Index(values, first); i > 0 {
		values[0], values[i] = values[i], values[0]
	}
	for _, v := range values {
		switch sv.solve(assign(tables, tables[t].vars[place], v)) {
		case yes:
			return yes
		case unknown:
			result = unknown
		}
		if sv.units <= 0 {
			return unknown
		}
	}
	return result
}

// smallest finds the open variable with the fewest values.
func (sv *solver) smallest(tables []table) (t, place int, values []int32) {
	for i := range tables {
		for pl := range tables[i].vars {
			distinct := sv.distinct(tables[i].rows, pl)
			if len(distinct) > 1 && (values == nil || len(distinct) < len(values)) {
				t, place, values = i, pl, distinct
			}
		}
	}
	return t, place, values
}

func (sv *solver) distinct(rows []row, place int) []int32 {
	var values []int32
	for _, r := range rows {
		if v := r.vals[place]; sv.ix.scores[v] == 0 {
			sv.ix.scores[v] = 1
			values = append(values, v)
		}
	}
	for _, v := range values {
		sv.ix.scores[v] = 0
	}
	sv.spend(len(rows))
	return values
}

// assign is the tables with one variable set.
func assign(tables []table, variable int, v int32) []table {
	out := slices.Clone(tables)
	for i, t := range tables {
		if place := slices.Index(t.vars, variable); place >= 0 {
			out[i].rows = slices.DeleteFunc(slices.Clone(t.rows), func(r row) bool { return r.vals[place] != v })
		}
	}
	return out
}
