package assign

import (
	"edeploy/server/internal/expectation"
	"edeploy/server/internal/match"
	"edeploy/server/wire"
)

// Facts is a machine's description with the matches that were made for it so
// far: a decision that is made twice, or was foreseen, does not match twice.
// It is not safe for concurrent use.
type Facts struct {
	hardware wire.Hardware
	index    *match.Index
	trials   map[*match.Specs]match.Trial
	machine  *expectation.Machine // once it was compared
	compared map[string]compared  // by profile

	// Anyway is the mark of the differences from a bill that the operator has
	// let pass (api.Differing); "": none.
	Anyway string
}

// NewFacts prepares a description.
func NewFacts(h wire.Hardware) *Facts {
	return &Facts{hardware: h, trials: map[*match.Specs]match.Trial{}, compared: map[string]compared{}}
}

// Hardware is the description.
func (facts *Facts) Hardware() wire.Hardware { return facts.hardware }

func (facts *Facts) finder(src Source) *finder { return &finder{src: src, facts: facts} }

func (facts *Facts) try(s *match.Specs) match.Trial {
	if t, ok := facts.trials[s]; ok {
		return t
	}
	if facts.index == nil {
		facts.index = match.NewIndex(facts.hardware)
	}
	t := facts.index.Try(s)
	facts.trials[s] = t
	return t
}

// Foresee makes the matches that a decision will most likely need: with the
// profile that the machine holds, if any, else with those that have a count
// left until one fits. It needs no lock; what is wrong with the files, the
// decision will say.
func (facts *Facts) Foresee(src Source, held string) {
	f := facts.finder(src)
	if held != "" {
		if _, fits := f.try(held); fits {
			_, _ = f.expected(held)
			return
		}
	}
	st, err := f.state()
	if err != nil {
		return
	}
	for _, pair := range st.Pairs() {
		if !pair.Available() {
			continue
		}
		if _, fits := f.try(pair.Profile); fits {
			_, _ = f.expected(pair.Profile)
			return
		}
	}
}
