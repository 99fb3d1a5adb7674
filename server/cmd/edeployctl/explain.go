package main

import (
	"maps"
	"math"
	"slices"
	"strings"

	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/profile"
	"edeploy/server/wire"
)

// explained says why a machine fits a profile, or why not.
type explained struct {
	Profile   string         `json:"profile"`
	Fits      bool           `json:"fits"`
	Count     any            `json:"count,omitempty"`   // of the state file: a number or "*"
	Problem   string         `json:"problem,omitempty"` // the specs could not be read
	Variables match.Bindings `json:"variables,omitempty"`
	Lines     []specLine     `json:"lines"` // of the specs, up to the one that finds nothing
	GivenUp   bool           `json:"given_up,omitempty"`
	Refused   string         `json:"refused,omitempty"` // why a machine that fits gets nothing all the same
}

// specLine is one line of a specs file and what it took.
type specLine struct {
	Line    int            `json:"line"` // in the file
	Spec    string         `json:"spec"`
	Fact    *wire.Fact     `json:"fact,omitempty"`    // what it took; none: it finds nothing
	Binds   match.Bindings `json:"binds,omitempty"`   // variables that it bound first
	Why     string         `json:"why,omitempty"`     // it is a selection of disks, and why it finds none
	Closest *closest       `json:"closest,omitempty"` // of the line that finds nothing
}

// closest is the fact that came closest to a line, and what is wrong with it.
type closest struct {
	Fact wire.Fact `json:"fact"`
	Why  []string  `json:"why"`
}

// explain matches one profile; what is wrong with its files is part of the
// answer.
func explain(index *match.Index, dir *profile.Dir, name string) explained {
	out := explained{Profile: name, Lines: []specLine{}}
	specs, err := dir.Specs(name)
	if err != nil {
		out.Problem = err.Error()
		return out
	}
	trial := index.Try(specs)
	result := trial.Result()
	out.Fits, out.Variables = result.OK, result.Bindings
	out.GivenUp = result.Failure != nil && result.Failure.TooComplex
	for _, step := range trial.Steps(math.MaxInt) {
		line := specLine{Line: step.Line, Spec: step.Spec, Why: step.Why, Binds: match.Bindings{}}
		if step.Taken {
			line.Fact = &step.Fact
		}
		for name, v := range step.Bound {
			line.Binds[strings.TrimPrefix(name, "$")] = v // of $$x, too
		}
		if step.Nearest != nil {
			line.Closest = &closest{step.Nearest.Fact, step.Nearest.Why}
		}
		out.Lines = append(out.Lines, line)
	}
	return out
}

// bindingsText writes variables as "disk=vda mac=02:00:00:00:00:01".
func bindingsText(b map[string]any) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(b)) {
		words = append(words, name+"="+literal.Text(b[name]))
	}
	return strings.Join(words, " ")
}
