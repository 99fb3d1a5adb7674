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
	Why     string   // it is a selection, and why it finds no disks
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
	p := t.problem
	steps := p.chosen()
	if p.noDisks != "" {
		return steps
	}
	bound := p.selected()
	for i, c := range t.told() {
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
	step := p.step(t.outcome.failed)
	step.Nearest = t.Nearest()
	return append(steps, step)
}

// chosen are the selections, up to one that finds no disks.
func (p *problem) chosen() []Step {
	var steps []Step
	for i, sel := range p.s.selections {
		step := Step{Line: sel.line, Spec: sel.text, Bound: Bindings{}}
		if p.noDisks != "" && i == p.unmet {
			step.Why = p.noDisks
			return append(steps, step)
		}
		for _, v := range sel.variables {
			step.Bound[p.s.names[v]] = p.ix.values[p.given[v]].text
		}
		steps = append(steps, step)
	}
	return steps
}

// told are the choices for all lines, or for those before the failed one.
func (t Trial) told() []choice {
	taken := t.outcome.taken
	if t.OK() {
		return taken
	}
	return taken[:min(len(taken), t.outcome.failed)]
}

func (p *problem) step(i int) Step {
	s := &p.s.specs[i]
	return Step{Line: s.line, Spec: strings.Join(strings.Fields(s.text), " ")}
}

// Nearest finds the fact that comes closest to the line that found nothing,
// given what the lines before it took: most fields fit, and of such the one
// whose first fields do. nil: all fits, or no fact fits in any field.
func (t Trial) Nearest() *Near {
	if t.OK() || t.problem.noDisks != "" {
		return nil
	}
	p, failed := t.problem, t.outcome.failed
	owner := map[int32]int{}
	bound := p.unbound()
	for i, c := range t.told() {
		owner[c.fact] = i
		p.bindChoice(i, c, bound, false)
	}
	var best, bestScore int32
	for _, fact := range p.ix.all {
		score := p.score(failed, fact, bound)
		if _, taken := owner[fact]; score > 0 && !taken {
			score++ // better than one that an earlier line has taken
		}
		if score > bestScore {
			best, bestScore = fact, score
		}
	}
	if bestScore == 0 {
		return nil
	}
	near := &Near{Fact: p.ix.facts[best], Equal: int(bestScore >> 5), Why: p.why(failed, best, bound)}
	if i, taken := owner[best]; taken {
		near.Why = append(near.Why, fmt.Sprintf("line %d has taken it", p.s.specs[i].line))
	}
	return near
}

// score is how well a fact suits a spec: the number of fields that fit, then
// which, the first one highest; its lowest bit is 0.
func (p *problem) score(i int, fact int32, bound []int32) (score int32) {
	for field := range 4 {
		if p.fieldFits(i, field, fact) && p.clash(i, field, fact, bound) < 0 {
			score += 1<<5 + 16>>field
		}
	}
	return score
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

// clash is the variable of a field that has another value already; -1: none.
func (p *problem) clash(i, field int, fact int32, bound []int32) int {
	for _, u := range p.s.specs[i].uses {
		if b := bound[u.variable]; u.field == field && b >= 0 && b != p.ix.id(fact, field, false) {
			return u.variable
		}
	}
	return -1
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
		default:
			if v := p.clash(i, field, fact, bound); v >= 0 {
				all = append(all, fmt.Sprintf("%s is not $%s, which is %s", is, p.s.names[v], literal.Repr(short(p.ix.values[bound[v]].text))))
			}
		}
	}
	return all
}
