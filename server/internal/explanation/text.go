package explanation

import (
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/match"
	"edeploy/server/wire"
)

// Bounds of an explanation.
const (
	maxExplained = 20  // profiles
	maxDetailed  = 5   // of these, line by line
	maxLines     = 100 // of one profile
)

// pending is an explanation whose profiles are not written out yet.
type pending struct {
	api.Explanation
	tried    assign.Tries
	decision *assign.Decision // nil: no profile fits
	bytes    int              // about what it holds on to
}

// newPending keeps of an outcome what its explanation needs.
func newPending(out allocation.Outcome, bytes int, now time.Time) pending {
	p := pending{Explanation: api.Explanation{Time: now, Section: out.Record.Section}, tried: out.Tried.Kept(maxExplained), bytes: bytes}
	p.More = len(out.Tried) - len(p.tried)
	if out.Refused != nil {
		p.Refused = out.Refused.Error()
	}
	if out.Decision != nil {
		p.decision = &assign.Decision{Profile: out.Decision.Profile, Trial: out.Decision.Trial.Kept()}
	}
	if a := out.Record.Allocation; a != nil && out.Configuration != nil {
		p.Profile, p.Entry, p.Again = a.Profile, a.After, a.Asked > 1
	}
	return p
}

// explain writes the profiles out.
func (p pending) explain() api.Explanation {
	e := p.Explanation
	e.Profiles = []api.ExplainedProfile{}
	for i, try := range p.tried {
		e.Profiles = append(e.Profiles, explainTry(try, i < maxDetailed))
	}
	if d := p.decision; d != nil {
		e.Profiles = append(e.Profiles, api.ExplainedProfile{Profile: d.Profile, Fits: true, Lines: explainSteps(d.Trial.Steps(maxLines))})
	}
	return e
}

func explainTry(try assign.Try, detailed bool) api.ExplainedProfile {
	a := try.Attempt()
	p := api.ExplainedProfile{Profile: a.Profile, Reason: a.Reason, TooComplex: a.TooComplex}
	if a.Nearest != nil {
		p.Closest = &api.ClosestFact{Fact: factWords(a.Nearest.Fact), Equal: a.Nearest.Equal, Why: a.Nearest.Why}
	}
	if detailed {
		p.Lines = explainSteps(try.Steps(maxLines))
	}
	return p
}

func explainSteps(steps []match.Step) []api.ExplainedLine {
	var all []api.ExplainedLine
	for _, step := range steps {
		line := api.ExplainedLine{Line: step.Line, Spec: assign.Clip(step.Spec), Why: step.Why}
		if step.Taken {
			line.Fact = factWords(step.Fact)
		}
		if len(step.Bound) > 0 {
			line.Bound = map[string]string{}
		}
		for name, v := range step.Bound {
			line.Bound[assign.Clip(strings.TrimPrefix(name, "$"))] = assign.Clip(wire.Fact{Value: v}.Text())
		}
		all = append(all, line)
	}
	return all
}

// factWords are the four fields, long texts cut.
func factWords(f wire.Fact) []string {
	return []string{assign.Clip(f.Category), assign.Clip(f.ID), assign.Clip(f.Field), assign.Clip(f.Text())}
}
