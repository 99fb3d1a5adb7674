// Package assign decides which profile, variables and CMDB entry a machine
// gets, and what the files of the configuration directory must say afterwards
// (reference sections 4.3, 6.2, 6.3 and 7.5). It reads and decides; the caller
// holds the lock around the call and the writing of the Files.
package assign

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/expectation"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/state"
)

// Source is where the decision reads from: a *profile.Dir. Specs is asked for
// every profile with a count left until one fits, the rest at most once. All
// answer the last good version, if there is one, together with the error of a
// broken edit.
type Source interface {
	Path() string
	State() (*state.State, error)
	Specs(profile string) (*match.Specs, error) // fs.ErrNotExist when there is none
	CMDB(profile string) (*cmdb.File, error)    // nil when there is none
	Bill(name string) (*expectation.Bill, error)
}

// File is a file of the configuration directory that is to be replaced.
type File struct {
	Name    string       // such as "state" or "vm.cmdb"
	Text    string       // of a file that is neither of those below
	State   *state.State // it is the state file
	CMDB    *cmdb.File   // it is a CMDB
	Profile string       // of the CMDB
}

// Content is the new text. That of a long CMDB takes its time, so it is made
// when it is asked for.
func (f File) Content() string {
	switch {
	case f.State != nil:
		return f.State.Text()
	case f.CMDB != nil:
		return f.CMDB.Text()
	}
	return f.Text
}

// Holding is what a machine took. It is kept with the machine's record, so
// that the machine gets the same again and can give it back.
type Holding struct {
	Profile string `json:"profile"`
	Counted bool   `json:"counted,omitempty"` // a count of the state file was taken
	Before  string `json:"before,omitempty"`  // CMDB entry before it was taken, as a Python literal; "" without CMDB
	After   string `json:"after,omitempty"`   // the entry as the machine holds it
}

// Decision is what a machine gets.
type Decision struct {
	Profile  string
	Var      *literal.Dict  // bindings, CMDB entry, used; without edeploy-profile
	Bindings match.Bindings // what the specs bound
	Trial    match.Trial    // the match itself
	Tried    Tries          // profiles before this one, and why not
	Problems []string       // sentences about files that an operator must mend
	Files    []File         // to be replaced, in this order, before the answer is sent; empty when nothing changes
	Holding  Holding        // to be kept with the machine
	Differs  *api.Differing // from the expected hardware, which the operator has let pass; nil: it does not
}

// Others tells whether another machine than the asking one holds a CMDB entry
// of the profile; entry is written as Holding.After is. It may be nil.
type Others func(profile, entry string) bool

// Find decides for a machine that holds nothing: the first profile, in the
// order of the state file, that has a count left and fits. The error is an
// *Error.
func (facts *Facts) Find(src Source, others Others) (Decision, error) {
	f := facts.finder(src)
	st, err := f.state()
	if err != nil {
		return Decision{}, err
	}
	var names []string
	for i, pair := range st.Pairs() {
		if !pair.Available() {
			continue
		}
		names = append(names, pair.Profile)
		trial, fits := f.try(pair.Profile)
		if !fits {
			continue
		}
		holding := Holding{Profile: pair.Profile, Counted: !pair.Unlimited}
		return f.decide(st, st.Decrement(i), holding, trial, others)
	}
	failure := f.fail(ErrNoMatch, "", "Unable to match requirements on the following available roles in "+src.Path()+"/: "+listed(names), nil)
	if len(names) == 0 {
		failure = f.fail(ErrStateExhausted, "", "No more role available in "+src.Path()+"/state", nil)
	}
	failure.Full = f.full(st)
	return Decision{}, failure
}

// Bounds of the profiles of which is told that only their count is missing.
const (
	maxFull      = 5
	maxFullTried = 50 // that are looked at
)

// full are profiles that fit and take no more machines.
func (f *finder) full(st *state.State) []string {
	var all []string
	tried := 0
	for _, pair := range st.Pairs() {
		if pair.Available() || len(all) == maxFull || tried == maxFullTried || slices.Contains(all, pair.Profile) {
			continue
		}
		tried++
		if specs, _ := f.src.Specs(pair.Profile); specs != nil && f.facts.try(specs).OK() {
			all = append(all, pair.Profile)
		}
	}
	return all
}

// maxListed bounds the names in a sentence.
const maxListed = 200

func listed(names []string) string {
	if more := len(names) - maxListed; more > 0 {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}

// Again decides for a machine that holds something: the same profile, no
// further count, the same CMDB entry with the bindings of now. The error is an
// *Error; ErrNoMatch: the machine does not fit its profile any more; ErrGone:
// the profile left the state file. In both cases Release what it holds, write
// that, and Find.
func (facts *Facts) Again(src Source, holding Holding, others Others) (Decision, error) {
	f := facts.finder(src)
	st, err := f.state()
	if err != nil {
		return Decision{}, err
	}
	if st.Find(holding.Profile) < 0 {
		return Decision{}, f.fail(ErrGone, holding.Profile, "profile "+holding.Profile+" is no longer in "+src.Path()+"/state", nil)
	}
	trial, fits := f.try(holding.Profile)
	if !fits {
		return Decision{}, f.fail(ErrNoMatch, holding.Profile, "machine no longer fits its profile "+holding.Profile+": "+f.tried[0].Attempt().Reason, nil)
	}
	return f.decide(st, st, holding, trial, others)
}

// Release gives back what a machine holds: one count, if it took one, and its
// CMDB entry, which becomes what it was before. It answers the files to
// replace; none when nothing is left to give back. The error is an *Error.
func Release(src Source, holding Holding) ([]File, error) {
	var files []File
	f := finder{src: src}
	if holding.After != "" {
		before, after, err := holding.entries()
		if err != nil {
			return nil, f.fail(ErrBadCMDB, holding.Profile, err.Error(), err)
		}
		file, err := f.cmdb(holding.Profile)
		if err != nil {
			return nil, err
		}
		if file != nil {
			freed, _ := file.Free(before, after)
			files = changed(files, holding.Profile, file, freed)
		}
	}
	if !holding.Counted {
		return files, nil
	}
	st, err := f.state()
	if err != nil {
		return nil, err
	}
	if given, ok := st.GiveBack(holding.Profile); ok {
		files = append(files, File{Name: "state", State: given})
	}
	return files, nil
}

type finder struct {
	src      Source
	facts    *Facts
	tried    Tries
	problems []string
}

// state reads the state file; the last good version will do.
func (f *finder) state() (*state.State, error) {
	st, err := f.src.State()
	if st == nil {
		return nil, f.fail(ErrBadState, "", err.Error(), err)
	}
	f.complain(err)
	return st, nil
}

// cmdb reads a CMDB; the last good version will do.
func (f *finder) cmdb(profile string) (*cmdb.File, error) {
	file, err := f.src.CMDB(profile)
	if file == nil && err != nil {
		return nil, f.fail(ErrBadCMDB, profile, err.Error(), err)
	}
	f.complain(err)
	return file, nil
}

func (f *finder) complain(err error) {
	if err != nil {
		f.problems = append(f.problems, err.Error())
	}
}

// try matches one profile; one that does not fit is noted.
func (f *finder) try(profile string) (match.Trial, bool) {
	specs, err := f.src.Specs(profile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.complain(err)
	}
	if specs == nil {
		f.tried = append(f.tried, Try{Profile: profile, err: err})
		return match.Trial{}, false
	}
	trial := f.facts.try(specs)
	if !trial.OK() {
		f.tried = append(f.tried, Try{Profile: profile, trial: trial})
	}
	return trial, trial.OK()
}

// decide completes the decision for a profile that fits: its CMDB entry and
// the files. Nothing has been written.
func (f *finder) decide(before, after *state.State, holding Holding, trial match.Trial, others Others) (Decision, error) {
	passed, err := f.expected(holding.Profile)
	if err != nil {
		return Decision{}, err
	}
	result := trial.Result()
	d := Decision{Profile: holding.Profile, Var: result.Bindings.Dict(), Bindings: result.Bindings, Trial: trial, Tried: f.tried, Differs: passed}
	file, err := f.cmdb(holding.Profile)
	if err != nil {
		return Decision{}, err
	}
	d.Problems = f.problems
	d.Holding = Holding{Profile: holding.Profile, Counted: holding.Counted}
	if file != nil && file.Len() > 0 {
		taken, err := f.entry(file, holding, d.Var, result.Strict.Dict(), others)
		if err != nil {
			return Decision{}, err
		}
		d.Var = taken.After
		d.Holding.Before, d.Holding.After = literal.Repr(taken.Before), literal.Repr(taken.After)
		d.Files = changed(d.Files, holding.Profile, file, taken.File)
	}
	if after != before {
		d.Files = append(d.Files, File{Name: "state", State: after})
	}
	return d, nil
}

// entry takes a CMDB entry: the one that the machine holds unless its strict
// variables ask for another.
func (f *finder) entry(file *cmdb.File, holding Holding, vars, strict *literal.Dict, others Others) (cmdb.Allocation, error) {
	if holding.After != "" {
		before, after, err := holding.entries()
		if err != nil {
			return cmdb.Allocation{}, f.fail(ErrBadCMDB, holding.Profile, err.Error(), err)
		}
		if cmdb.IsIncluded(strict, before) {
			if taken, ok := file.Retake(before, after, vars); ok {
				return taken, nil
			}
		}
		file, _ = file.Free(before, after)
	}
	preferred, forced := strict, true
	if strict.Len() == 0 {
		preferred, forced = nil, false
	}
	taken, err := file.Allocate(vars, preferred, forced, func(entry *literal.Dict) bool {
		return others != nil && others(holding.Profile, literal.Repr(entry))
	})
	switch {
	case errors.Is(err, cmdb.ErrNoEntry):
		return taken, f.fail(ErrCMDBNoEntry, holding.Profile, err.Error(), err)
	case errors.Is(err, cmdb.ErrExhausted):
		return taken, f.fail(ErrCMDBExhausted, holding.Profile, err.Error(), err)
	case err != nil:
		return taken, f.fail(ErrBadCMDB, holding.Profile, holding.Profile+".cmdb: "+err.Error(), err)
	}
	return taken, nil
}

func changed(files []File, profile string, before, after *cmdb.File) []File {
	if after == before {
		return files
	}
	if text := before.Original(); text != "" {
		files = append(files, File{Name: profile + ".cmdb.orig", Text: text})
	}
	return append(files, File{Name: profile + ".cmdb", CMDB: after, Profile: profile})
}

// entries reads back the CMDB entry of a holding.
func (h Holding) entries() (before, after *literal.Dict, err error) {
	var entries [2]*literal.Dict
	for i, text := range []string{h.Before, h.After} {
		doc, err := literal.Parse("held CMDB entry", text)
		if err != nil {
			return nil, nil, err
		}
		var ok bool
		if entries[i], ok = doc.Node.Value.(*literal.Dict); !ok {
			return nil, nil, doc.ErrorAt(0, "want a dictionary")
		}
	}
	return entries[0], entries[1], nil
}
