package match

import (
	"fmt"
	"maps"
	"strings"

	"edeploy/server/internal/literal"
	"edeploy/server/wire"
)

// Step is a line of a specs file and what became of it in a match.
type Step struct {
	Line    int       // line in the specs file
	Spec    string    // as written there, blanks squeezed
	Fact    wire.Fact // that it took, when Taken
	Taken   bool
	Bound   Bindings // variables that it bound first; strict ones with their second dollar sign
	Nearest *Near    // of the line that found nothing; nil when the description holds nothing like it
}

// Near is the fact that came closest to a line that found none.
type Near struct {
	Fact  wire.Fact
	Equal int      // of its four fields that many fit
	Why   []string // what is wrong with the others, or with the fact
}

// Steps tells spec line by spec line what was taken; with a failed match it
// ends with the line that found nothing. At most the first lines are told;
// the failed one always is.
func (t Trial) Steps(most int) []Step {
	p, out := t.problem, t.outcome
	bound := Bindings{}
	var steps []Step
	for i, c := range out.taken[:min(len(out.taken), t.told())] {
		step := p.step(i)
		step.Fact, step.Taken = p.ix.facts[c.fact], true
		if !c.exact {
			step.Bound = p.fresh(i, c.fact, bound)
			maps.Copy(bound, step.Bound)
		}
		if len(steps) < most {
			steps = append(steps, step)
		}
	}
	if t.OK() {
		return steps
	}
	step := p.step(out.failed)
	step.Nearest = t.Nearest()
	return append(steps, step)
}

// told is the number of lines with a fact.
func (t Trial) told() int {
	if t.OK() {
		return len(t.problem.s.specs)
	}
	return t.outcome.failed
}

func (p *problem) step(i int) Step {
	s := &p.s.specs[i]
	return Step{Line: s.line, Spec: strings.Join(strings.Fields(s.text), " ")}
}

// Nearest finds the fact that comes closest to the line that found nothing,
// given what the lines before it took: most fields fit, and of such the one
// whose first fields do. nil: all fits, or no fact fits in any field.
func (t Trial) Nearest() *Near {
	if t.OK() {
		return nil
	}
	p, failed := t.problem, t.outcome.failed
	owner := map[int32]int{}
	bound := p.unbound()
	for i, c := range t.outcome.taken[:min(len(t.outcome.taken), failed)] {
		owner[c.fact] = i
		p.bindChoice(i, c, bound, false)
	}
	best, bestFit := int32(-1), fit{}
	for _, fact := range p.ix.all {
		f := p.fitOf(failed, fact, bound)
		if f.equal == 0 {
			continue
		}
		if _, f.taken = owner[fact]; best < 0 || f.better(bestFit) {
			best, bestFit = fact, f
		}
	}
	if best < 0 {
		return nil
	}
	near := &Near{Fact: p.ix.facts[best], Equal: bestFit.equal, Why: p.why(failed, best, bound)}
	if i, taken := owner[best]; taken {
		near.Why = append(near.Why, fmt.Sprintf("line %d has taken it", p.s.specs[i].line))
	}
	return near
}

// fit is how well a fact suits a spec.
type fit struct {
	equal int  // fields
	mask  int  // of these fields, the first one highest
	taken bool // by an earlier spec
}

func (f fit) better(than fit) bool {
	switch {
	case f.equal != than.equal:
		return f.equal > than.equal
	case f.mask != than.mask:
		return f.mask > than.mask
	}
	return !f.taken && than.taken
}

func (p *problem) fitOf(i int, fact int32, bound []int32) fit {
	var f fit
	for field := range 4 {
		if p.fieldFits(i, field, fact) && p.variableFits(i, field, fact, bound) {
			f.equal++
			f.mask |= 8 >> field
		}
	}
	return f
}

// fieldFits tests one field without its variable.
func (p *problem) fieldFits(i, field int, fact int32) bool {
	f := &p.s.specs[i].fields[field]
	v := &p.ix.values[p.ix.rows[fact][field]]
	switch f.kind {
	case anything:
		return true
	case text, bracketed:
		return v.text == f.literal
	case helper:
		return f.sane(v) || f.original != nil && f.original(v)
	}
	return false
}

// variableFits tests whether the variable of a field has this value already.
func (p *problem) variableFits(i, field int, fact int32, bound []int32) bool {
	for _, u := range p.s.specs[i].uses {
		if b := bound[u.variable]; u.field == field && b >= 0 && b != p.ix.id(fact, field, false) {
			return false
		}
	}
	return true
}

// why says what is wrong with a fact, field by field.
func (p *problem) why(i int, fact int32, bound []int32) []string {
	var all []string
	for field := range 4 {
		f := &p.s.specs[i].fields[field]
		is := literal.Repr(short(p.ix.values[p.ix.rows[fact][field]].text))
		switch {
		case f.kind == nothing:
			all = append(all, fmt.Sprintf("%s can never match", short(f.source)))
		case !p.fieldFits(i, field, fact) && f.kind == helper:
			all = append(all, fmt.Sprintf("%s is not %s", is, short(f.source)))
		case !p.fieldFits(i, field, fact):
			all = append(all, fmt.Sprintf("%s is not %s", is, literal.Repr(short(f.source))))
		case !p.variableFits(i, field, fact, bound):
			all = append(all, fmt.Sprintf("%s is not %s", is, p.boundAt(i, field, bound)))
		}
	}
	return all
}

// boundAt names the variable of a field and its value.
func (p *problem) boundAt(i, field int, bound []int32) string {
	for _, u := range p.s.specs[i].uses {
		if u.field == field && bound[u.variable] >= 0 {
			return fmt.Sprintf("$%s, which is %s", p.s.names[u.variable], literal.Repr(short(p.ix.values[bound[u.variable]].text)))
		}
	}
	return "free"
}
