package assign

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/wire"
)

// Kinds of errors; branch on them with errors.Is.
var (
	ErrBadState       = errors.New("state file is unusable")
	ErrStateExhausted = errors.New("all counts of the state file are used up")
	ErrNoMatch        = errors.New("no profile fits the machine")
	ErrCMDBExhausted  = errors.New("all CMDB entries are used")
	ErrCMDBNoEntry    = errors.New("no CMDB entry has the values of the machine")
	ErrBadCMDB        = errors.New("CMDB is unusable") // a syntax error, or a profile with a CMDB and without variables
	ErrGone           = errors.New("profile is no longer in the state file")
)

// Error is a decision that could not be made. Nothing may be written.
type Error struct {
	Kind     error     // one of the errors above
	Message  string    // one sentence for the machine's console; the original's text where it has one
	Profile  string    // the profile that matched or was held, or ""
	Tried    []Attempt // the profiles that did not fit, in order
	Problems []string  // sentences about files that an operator must mend
	Cause    error     // may be nil
}

func (e *Error) Error() string { return e.Message }

// Unwrap are the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

func (f *finder) fail(kind error, profile, message string, cause error) *Error {
	return &Error{Kind: kind, Message: message, Profile: profile, Tried: f.tried, Problems: f.problems, Cause: cause}
}

// Attempt is one profile that was tried and did not fit.
type Attempt struct {
	Profile    string         `json:"profile"`
	Reason     string         `json:"reason"`                // one sentence
	Line       int            `json:"line,omitempty"`        // line in the specs file of the first spec that found nothing
	Spec       string         `json:"spec,omitempty"`        // that spec as written
	Bound      match.Bindings `json:"bound,omitempty"`       // what the specs before it bound
	TooComplex bool           `json:"too_complex,omitempty"` // the search was given up at its bound
}

func newAttempt(profile string, failure *match.Failure) Attempt {
	a := Attempt{Profile: profile, Line: failure.Line, Spec: failure.Spec, Bound: failure.Bound, TooComplex: failure.TooComplex}
	spec := strings.Join(strings.Fields(failure.Spec), " ")
	if failure.TooComplex {
		a.Reason = fmt.Sprintf("%s.specs: too many combinations to try; given up at line %d: %s", profile, a.Line, spec)
		return a
	}
	a.Reason = fmt.Sprintf("%s.specs line %d finds nothing: %s", profile, a.Line, spec)
	if len(a.Bound) > 0 {
		a.Reason += " with " + boundText(a.Bound)
	}
	return a
}

// boundText writes bindings as "d=vda, n=ens1".
func boundText(b match.Bindings) string {
	words := make([]string, 0, len(b))
	for _, name := range slices.Sorted(maps.Keys(b)) {
		words = append(words, name+"="+wire.Fact{Value: b[name]}.Text())
	}
	return strings.Join(words, ", ")
}

// dict turns bindings into a dictionary.
func dict(b match.Bindings) *literal.Dict {
	d := new(literal.Dict)
	for _, name := range slices.Sorted(maps.Keys(b)) {
		d.Set(name, plain(b[name]))
	}
	return d
}

// plain is the value of a fact as a Python value.
func plain(v any) literal.Value {
	switch v := v.(type) {
	case nil, bool, int64, float64:
		return v
	}
	return wire.Fact{Value: v}.Text()
}
