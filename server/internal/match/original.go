package match

import (
	"encoding/binary"
	"slices"
)

// originalDepth is how deep the original's retries nest (reference section
// 5.4): with more than fifty rejected facts in a row it gives up.
const originalDepth = 50

// original follows the search of the original step by step: every spec takes
// the first fact that fits; when a spec finds none, the newest spec that bound
// a new variable is tried again with the fact it had taken moved to the end of
// the list. Retries that the solver proves hopeless are left out, and a state
// that failed is not tried again with less depth left; neither changes the
// result. nil: nothing found, or the bound was reached.
func (p *problem) original(exacting bool, depth int) []choice {
	p.refill()
	r := retracer{problem: p, exacting: exacting, depth: depth, taken: make([]choice, len(p.s.specs)), failed: make(map[string]int)}
	if r.run(0, p.start(), 0) {
		return r.taken
	}
	return nil
}

type retracer struct {
	*problem
	exacting bool
	depth    int
	taken    []choice
	failed   map[string]int // state -> smallest level it failed at
}

// retry is a point to come back to.
type retry struct {
	spec  int
	state state
}

func (r *retracer) run(spec int, st state, level int) bool {
	if level == r.depth {
		return false
	}
	b, _ := binary.Append(nil, binary.LittleEndian, slices.Concat([]int32{int32(spec)}, st.bound, st.order)) // no error: numbers
	key := string(b)
	if least, ok := r.failed[key]; ok && level >= least {
		return false
	}
	if !r.spend(len(st.order) + 1) {
		return false
	}
	if r.attempt(spec, st, level) {
		return true
	}
	if r.units > 0 {
		r.failed[key] = level
	}
	return false
}

// attempt is one pass over the specs from the given one on, and then the
// retries from its points, the newest first.
func (r *retracer) attempt(spec int, st state, level int) bool {
	var points []retry
	bound := st.bound
	for i := spec; i < len(r.s.specs); i++ {
		if !r.spend(len(st.order) + 1) {
			return false
		}
		c := r.choose(i, st, r.exacting)
		if c.fact < 0 {
			return r.retryFrom(points, level)
		}
		r.taken[i] = c
		rest := without(st.order, c.fact)
		after := append([]int32(nil), bound...)
		if r.bindChoice(i, c, after, r.exacting) {
			rotated := append(rest[:len(rest):len(rest)], c.fact)
			points = append(points, retry{i, state{rotated, bound}})
			bound = after
		}
		st = state{rest, bound}
	}
	return true
}

func (r *retracer) retryFrom(points []retry, level int) bool {
	for len(points) > 0 {
		last := points[len(points)-1]
		points = points[:len(points)-1]
		if r.hopeless(last.spec, last.state, r.exacting) {
			continue
		}
		if r.run(last.spec, last.state, level+1) {
			return true
		}
		if r.units <= 0 {
			return false
		}
	}
	return false
}
