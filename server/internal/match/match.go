// Package match finds which facts of a machine fit the lines of a specs file
// (reference section 5).
//
// A spec line is a tuple of four fields. Each is literal text, a variable
// ($name, or $$name which selects the CMDB entry), a helper such as gt(4), or
// a variable with a helper ($size=gt(4)). Every line takes one fact of the
// description; a fact is taken once; a variable has one value everywhere.
//
// Which facts are taken decides which disk is formatted, so the result is the
// original's wherever the original finds one: its search, with the rejected
// fact moved to the end of the list, is followed exactly (original.go). What
// the original cannot find is found by a complete search (complete.go). Both
// are guided by a solver that proves quickly that no choice can fit
// (solve.go), so that a failing profile is cheap.
package match

import (
	"maps"
	"slices"
	"strings"

	"edeploy/server/internal/literal"
	"edeploy/server/wire"
)

// Bindings are the variables of a match: name without its dollar sign -> value
// as it stands in the fact (string, int64, float64, bool or nil).
type Bindings map[string]any

// Dict are the bindings as a dictionary, keys in order.
func (b Bindings) Dict() *literal.Dict {
	d := new(literal.Dict)
	for _, name := range slices.Sorted(maps.Keys(b)) {
		v := b[name]
		switch v.(type) {
		case nil, bool, int64, float64:
		default: // other values of facts are texts
			v = wire.Fact{Value: v}.Text()
		}
		d.Set(name, v)
	}
	return d
}

// Equations are the bindings as words: mac='02:00:00:00:00:01' and tag=1.
func (b Bindings) Equations() string {
	var words []string
	for name, v := range b.Dict().All() {
		words = append(words, literal.Text(name)+"="+literal.Repr(v))
	}
	return strings.Join(words, " and ")
}

// Result is the outcome of matching one machine against one specs file.
type Result struct {
	OK       bool
	Bindings Bindings // all variables
	Strict   Bindings // those written $$name: they select the CMDB entry
	Facts    []int    // for every spec, the index of the fact it took
	Failure  *Failure // why not; nil when OK
}

// Failure says why a machine does not fit a specs file.
type Failure struct {
	Line       int      // line in the specs file of the first spec that finds no fact, whatever the specs before it take; or of a selection
	Spec       string   // the spec as written there
	Why        string   // a selection finds no disks; "": it is a spec
	Bound      Bindings // what the specs before it bound
	TooComplex bool     // the search was given up at its bound
	First      Bindings // bindings of the first attempt; strict ones with their second dollar sign, as the original leaves them
}

// Match finds facts for all specs.
func Match(h wire.Hardware, s *Specs) Result { return NewIndex(h).Try(s).Result() }

// Trial is a finished search whose result has not been written out yet: of
// hundreds of profiles that do not fit, few are ever told about. It belongs to
// its Index and is not safe for concurrent use.
type Trial struct {
	problem *problem
	outcome outcome
}

// Kept is the trial without what only the search needed: it can be told about
// later without holding much memory.
func (t Trial) Kept() Trial {
	p := t.problem
	return Trial{&problem{ix: p.ix.kept(), s: p.s, given: p.given, unmet: p.unmet, noDisks: p.noDisks}, t.outcome}
}

// Try searches facts for all specs.
func (ix *Index) Try(s *Specs) Trial {
	p := newProblem(ix, s)
	if p.noDisks != "" {
		return Trial{p, outcome{verdict: no}}
	}
	return Trial{p, p.search()}
}

// OK tells whether all specs have found a fact.
func (t Trial) OK() bool { return t.outcome.verdict == yes }

// Result writes the outcome out.
func (t Trial) Result() Result {
	p, out := t.problem, t.outcome
	if t.OK() {
		r := Result{OK: true}
		r.Bindings, r.Strict = p.result(out.taken)
		for _, c := range out.taken {
			r.Facts = append(r.Facts, int(c.fact))
		}
		return r
	}
	if p.noDisks != "" {
		sel := p.s.selections[p.unmet]
		return Result{Failure: &Failure{Line: sel.line, Spec: sel.text, Why: p.noDisks, Bound: Bindings{}, First: Bindings{}}}
	}
	line := p.s.specs[out.failed]
	bound, _ := p.result(out.taken)
	return Result{Failure: &Failure{
		Line: line.line, Spec: line.text, Bound: bound, TooComplex: out.verdict == unknown, First: p.bind(out.first),
	}}
}

// outcome is what a search found.
type outcome struct {
	verdict verdict  // unknown: the search was given up
	taken   []choice // a fact for every spec, or for those before the failed one
	failed  int      // the first spec that cannot be satisfied together with those before it
	first   []choice // what the first attempt took
}

// search finds a fact for every spec, cheap ways first.
func (p *problem) search() outcome {
	n := len(p.s.specs)
	exacting := p.ix.mixed || p.s.differs
	first := p.greedy(exacting)
	if len(first) == n {
		return outcome{verdict: yes, taken: first}
	}
	tolerant := first
	if exacting {
		tolerant = p.greedy(false)
	}
	solved := outcome{verdict: yes, taken: tolerant}
	if len(tolerant) < n {
		solved = p.firstUnsatisfiable(tolerant)
	}
	if solved.verdict == no {
		solved.first = first
		return solved
	}
	if taken := p.retrace(exacting, len(tolerant) == n); taken != nil {
		return outcome{verdict: yes, taken: taken}
	}
	if solved.verdict == yes && len(tolerant) == n {
		return solved
	}
	out := p.complete()
	if out.verdict == unknown && solved.verdict == yes {
		return solved // not the original's order, but a good answer
	}
	if out.verdict != yes {
		out.first, out.failed, out.taken = first, max(out.failed, len(tolerant)), tolerant
	}
	return out
}

// retrace follows the original, first exactly, then with our reading of types
// and helpers (unless a single pass is known to do), then without its limit.
func (p *problem) retrace(exacting, passes bool) []choice {
	p.prepare()
	if exacting {
		if taken := p.original(true, originalDepth); taken != nil || passes {
			return taken
		}
	}
	if taken := p.original(false, originalDepth); taken != nil {
		return taken
	}
	return p.original(false, originalDepth+len(p.order))
}

// result turns taken facts into bindings.
func (p *problem) result(taken []choice) (all, strict Bindings) {
	all, strict = p.bind(taken), Bindings{}
	for name, v := range all {
		if plain, ok := strings.CutPrefix(name, "$"); ok {
			strict[plain] = v
			delete(all, name)
		}
	}
	maps.Copy(all, strict)
	return all, strict
}

// bind replays the choices: names as in the search, strict ones with a dollar
// sign.
func (p *problem) bind(taken []choice) Bindings {
	bound := p.selected()
	for i, c := range taken {
		if c.exact {
			continue
		}
		maps.Copy(bound, p.fresh(i, c.fact, bound))
	}
	return bound
}

// selected are the disks that selections have given to variables.
func (p *problem) selected() Bindings {
	bound := Bindings{}
	for v, n := range p.given {
		if n >= 0 {
			bound[p.s.names[v]] = p.ix.values[n].text
		}
	}
	return bound
}

// fresh are the variables that a spec binds with a fact, when others are bound.
func (p *problem) fresh(i int, fact int32, bound Bindings) Bindings {
	fresh := Bindings{}
	for _, u := range p.s.specs[i].uses {
		name := p.s.names[u.variable]
		if _, ok := bound[name]; !ok {
			f := p.ix.facts[fact]
			fresh[name] = []any{f.Category, f.ID, f.Field, f.Value}[u.field]
		}
	}
	return fresh
}
