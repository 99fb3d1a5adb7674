package match

// complete searches through every choice of every spec, in the original's
// order, rotation included. It finds what the original misses: choices of
// specs without a new variable, and more than fifty candidates.
func (p *problem) complete() outcome {
	p.refill()
	w := walker{problem: p, taken: make([]choice, len(p.s.specs))}
	switch {
	case w.walk(0, p.start()):
		return outcome{verdict: yes, taken: w.taken}
	case p.units <= 0:
		return outcome{verdict: unknown, failed: w.deepest}
	}
	return outcome{verdict: no, failed: w.deepest}
}

type walker struct {
	*problem
	taken   []choice
	deepest int // the furthest spec that found nothing
}

func (w *walker) walk(i int, st state) bool {
	if i == len(w.s.specs) {
		return true
	}
	w.deepest = max(w.deepest, i)
	for _, c := range w.choices(i, st) {
		if !w.spend(len(st.order) + 1) {
			return false
		}
		bound := append([]int32(nil), st.bound...)
		fresh := w.bindChoice(i, c, bound, false)
		rest := without(st.order, c.fact)
		if w.taken[i] = c; !w.hopeless(i+1, state{rest, bound}, false) && w.walk(i+1, state{rest, bound}) {
			return true
		}
		if fresh {
			st.order = append(rest, c.fact)
		}
	}
	return false
}

// choices are all facts that a spec can take, in order.
func (w *walker) choices(i int, st state) []choice {
	var list []choice
	for _, fact := range st.order {
		if w.whole[i] != nil && w.whole[i].has(fact) {
			list = append(list, choice{fact, true})
		}
	}
	once := !w.s.specs[i].binds() // then an equal fact need not be tried twice
	for _, fact := range st.order {
		if once && w.whole[i] != nil && w.whole[i].has(fact) {
			continue
		}
		if w.accept[i].has(fact) && w.fits(i, fact, st.bound, false) {
			list = append(list, choice{fact, false})
		}
	}
	return list
}
