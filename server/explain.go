package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/match"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// Bounds of an explanation.
const (
	maxExplained = 20  // profiles
	maxDetailed  = 5   // of these, line by line
	maxLines     = 100 // of one profile
)

// untold is an explanation whose profiles are not written out yet.
type untold struct {
	api.Explanation
	tried    assign.Tries
	decision *assign.Decision // nil: no profile fits
}

// newUntold keeps of an outcome what its explanation needs.
func newUntold(out allocation.Outcome, now time.Time) untold {
	u := untold{Explanation: api.Explanation{Time: now, Section: out.Record.Section}, tried: out.Tried.Kept(maxExplained)}
	u.More = len(out.Tried) - len(u.tried)
	if out.Refused != nil {
		u.Refused = out.Refused.Error()
	}
	if out.Decision != nil {
		u.decision = &assign.Decision{Profile: out.Decision.Profile, Trial: out.Decision.Trial.Kept()}
	}
	if a := out.Record.Allocation; a != nil && out.Configuration != nil {
		u.Profile, u.Entry, u.Again = a.Profile, a.After, a.Asked > 1
	}
	return u
}

// tell writes the explanation out.
func (u untold) tell() api.Explanation {
	e := u.Explanation
	e.Profiles = []api.ExplainedProfile{}
	for i, try := range u.tried {
		e.Profiles = append(e.Profiles, explainTry(try, i < maxDetailed))
	}
	if d := u.decision; d != nil {
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
		line := api.ExplainedLine{Line: step.Line, Spec: assign.Clip(step.Spec)}
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

func (s *Server) showExplanation(w http.ResponseWriter, r *http.Request) {
	rec, err := s.named(r.PathValue("id"))
	if err != nil {
		s.answerError(w, err)
		return
	}
	text, err := s.explanationOf(rec.ID)
	if err == nil && text == nil {
		err = refusal.New(refusal.NoFile, "there is no explanation of machine %s: it has not uploaded its description, or the server was killed soon after", rec.ID)
	}
	var e api.Explanation
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		s.answerError(w, err)
		return
	}
	e.Now, _ = s.activity.Of(rec, s.config.Now())
	answerJSON(w, http.StatusOK, e)
}
