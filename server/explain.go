package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/match"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// Explanation says why a machine got what it got at its last upload, and why
// not the profiles before.
type Explanation struct {
	Time     time.Time          `json:"time"`
	Section  string             `json:"section"`
	Profile  string             `json:"profile,omitempty"` // that it got; "": it was refused
	Again    bool               `json:"again,omitempty"`   // it held the profile before
	Refused  string             `json:"refused,omitempty"` // the sentence that the machine got
	Now      string             `json:"now,omitempty"`     // what the machine is doing now, see Machine
	Entry    string             `json:"cmdb,omitempty"`    // its CMDB entry, in Python syntax
	Profiles []ExplainedProfile `json:"profiles"`          // in the order of the state file, as far as they were tried
	More     int                `json:"more,omitempty"`    // profiles that were tried and are not listed
}

// ExplainedProfile is one profile of it.
type ExplainedProfile struct {
	Profile    string          `json:"profile"`
	Fits       bool            `json:"fits"`
	Reason     string          `json:"reason,omitempty"` // why not, in one sentence
	TooComplex bool            `json:"too_complex,omitempty"`
	Lines      []ExplainedLine `json:"lines,omitempty"`
	Closest    *ClosestFact    `json:"closest,omitempty"` // to the line that found nothing
}

// ExplainedLine is one line of a specs file.
type ExplainedLine struct {
	Line  int               `json:"line"`
	Spec  string            `json:"spec"`
	Fact  []string          `json:"fact,omitempty"`  // that it took; none: it found nothing
	Bound map[string]string `json:"bound,omitempty"` // variables that it bound
}

// ClosestFact is a fact that a line nearly took.
type ClosestFact struct {
	Fact  []string `json:"fact"`
	Equal int      `json:"equal"` // of its four fields that many fit
	Why   []string `json:"why"`   // what is wrong with the others
}

// Bounds of an explanation.
const (
	maxExplained = 20  // profiles
	maxDetailed  = 5   // of these, line by line
	maxLines     = 100 // of one profile
)

// untold is an explanation whose profiles are not written out yet.
type untold struct {
	Explanation
	tried    assign.Tries
	decision *assign.Decision // nil: no profile fits
}

// newUntold keeps of an outcome what its explanation needs.
func newUntold(out allocation.Outcome, now time.Time) untold {
	u := untold{Explanation: Explanation{Time: now, Section: out.Record.Section}, tried: out.Tried.Kept(maxExplained)}
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
func (u untold) tell() Explanation {
	e := u.Explanation
	e.Profiles = []ExplainedProfile{}
	for i, try := range u.tried {
		e.Profiles = append(e.Profiles, explainTry(try, i < maxDetailed))
	}
	if d := u.decision; d != nil {
		e.Profiles = append(e.Profiles, ExplainedProfile{Profile: d.Profile, Fits: true, Lines: explainSteps(d.Trial.Steps(maxLines))})
	}
	return e
}

func explainTry(try assign.Try, detailed bool) ExplainedProfile {
	a := try.Attempt()
	p := ExplainedProfile{Profile: a.Profile, Reason: a.Reason, TooComplex: a.TooComplex}
	if a.Nearest != nil {
		p.Closest = &ClosestFact{Fact: factWords(a.Nearest.Fact), Equal: a.Nearest.Equal, Why: a.Nearest.Why}
	}
	if detailed {
		p.Lines = explainSteps(try.Steps(maxLines))
	}
	return p
}

func explainSteps(steps []match.Step) []ExplainedLine {
	var all []ExplainedLine
	for _, step := range steps {
		line := ExplainedLine{Line: step.Line, Spec: assign.Clip(step.Spec)}
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
	var e Explanation
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		s.answerError(w, err)
		return
	}
	e.Now = s.now(rec)
	answerJSON(w, http.StatusOK, e)
}
