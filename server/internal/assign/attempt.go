package assign

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/refusal"
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
	ErrDiffers        = errors.New("the hardware is not the expected one")
	ErrBadBill        = errors.New("bill of materials is unusable") // it is missing, or has a mistake
	ErrGone           = errors.New("profile is no longer in the state file")
)

// Error is a decision that could not be made. Nothing may be written.
type Error struct {
	Kind    error          // one of the errors above
	Message string         // one sentence for the machine's console; the original's text where it has one
	Profile string         // the profile that matched or was held, or ""
	Tried   Tries          // the profiles that did not fit, in order
	Full    []string       // profiles that fit and whose count is 0, some of them
	Cause   error          // may be nil
	Differs *api.Differing // with ErrDiffers
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
	return &Error{Kind: kind, Message: message, Profile: profile, Tried: f.tried, Cause: cause}
}

// Tries are profiles that do not fit. Most are never told about, so words are
// made when they are asked for. Not safe for concurrent use.
type Tries []Try

// Try is one of them.
type Try struct {
	Profile string
	trial   match.Trial
	err     error // there are no specs
}

// Attempts says why the first ones do not fit.
func (t Tries) Attempts(most int) []Attempt {
	var all []Attempt
	for _, one := range t[:min(len(t), most)] {
		all = append(all, one.Attempt())
	}
	return all
}

// Kept are the first ones, to be told about later: they hold little memory.
func (t Tries) Kept(most int) Tries {
	kept := make(Tries, 0, min(len(t), most))
	for _, one := range t[:cap(kept)] {
		if one.err == nil {
			one.trial = one.trial.Kept()
		}
		kept = append(kept, one)
	}
	return kept
}

// Attempt says why it does not fit.
func (t Try) Attempt() Attempt {
	if t.err != nil {
		return Attempt{Profile: t.Profile, Reason: t.err.Error()}
	}
	failure := t.trial.Result().Failure
	a := Attempt{Profile: t.Profile, TooComplex: failure.TooComplex, Nearest: t.trial.Nearest()}
	spec := strings.Join(strings.Fields(failure.Spec), " ")
	if failure.TooComplex {
		a.Reason = fmt.Sprintf("%s.specs: too many combinations to try; given up at line %d: %s", t.Profile, failure.Line, spec)
		return a
	}
	if failure.Why != "" {
		a.Reason = fmt.Sprintf("%s.specs line %d: %s: %s", t.Profile, failure.Line, spec, failure.Why)
		return a
	}
	a.Reason = fmt.Sprintf("%s.specs line %d finds nothing: %s", t.Profile, failure.Line, spec)
	var words []string
	for _, name := range slices.Sorted(maps.Keys(failure.Bound)) {
		words = append(words, name+"="+Clip(wire.Fact{Value: failure.Bound[name]}.Text()))
	}
	if len(words) > 0 {
		a.Reason += " with " + strings.Join(words, ", ")
	}
	return a
}

// Steps tells it line by line, at most the first ones and the one that found
// nothing; none when there are no specs.
func (t Try) Steps(most int) []match.Step {
	if t.err != nil {
		return nil
	}
	return t.trial.Steps(most)
}

// Attempt is one profile that was tried and did not fit.
type Attempt struct {
	Profile    string
	Reason     string      // one sentence
	TooComplex bool        // the search was given up at its bound
	Nearest    *match.Near // the fact that came closest to the first spec that found nothing; may be nil
}

// Closest says in a few words which fact came closest and why it does not fit;
// "" when none did.
func (a Attempt) Closest() string {
	if a.Nearest == nil {
		return ""
	}
	return FactText(a.Nearest.Fact) + ": " + strings.Join(a.Nearest.Why, ", ")
}

// FactText writes a fact as a specs file would, long texts cut.
func FactText(f wire.Fact) string {
	words := make([]string, 0, 4)
	for _, field := range []string{f.Category, f.ID, f.Field, f.Text()} {
		words = append(words, literal.Repr(Clip(field)))
	}
	return "(" + strings.Join(words, ", ") + ")"
}

// Clip cuts a text from the network for a message.
func Clip(s string) string { return refusal.Clip(s, 100) }
