// Package assign decides which profile, variables and CMDB entry a machine
// gets, and what the files of the configuration directory must say afterwards
// (reference sections 4.3, 6.2, 6.3 and 7.5). It reads and decides; the caller
// holds the lock around the call and the writing of the Files.
package assign

import (
	"errors"
	"io/fs"
	"strings"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/state"
	"edeploy/server/wire"
)

// Source is where the decision reads from: a *profile.Dir. Specs is asked for
// every profile with a count left until one fits, the rest at most once.
type Source interface {
	Path() string
	State() (*state.State, error)
	Specs(profile string) (*match.Specs, error) // fs.ErrNotExist when there is none; last good version with the error of a broken edit
	CMDB(profile string) (*cmdb.File, error)    // nil when there is none
	Expect(profile string, f *cmdb.File)        // this version will be written
}

// File is a file of the configuration directory that is to be replaced.
type File struct {
	Name string // such as "state" or "vm.cmdb"
	Text string
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
	Tried    []Attempt      // profiles before this one, and why not
	Problems []string       // sentences about files that an operator must mend
	Files    []File         // to be replaced, in this order, before the answer is sent; empty when nothing changes
	Holding  Holding        // to be kept with the machine
}

// Others tells whether another machine than the asking one holds a CMDB entry
// of the profile; entry is written as Holding.After is. It may be nil.
type Others func(profile, entry string) bool

// Find decides for a machine that holds nothing: the first profile, in the
// order of the state file, that has a count left and fits. The error is an
// *Error.
func Find(src Source, h wire.Hardware, others Others) (Decision, error) {
	st, err := src.State()
	if err != nil {
		return Decision{}, &Error{Kind: ErrBadState, Message: err.Error(), Cause: err}
	}
	f := finder{src: src, index: match.NewIndex(h)}
	var names []string
	for i, pair := range st.Pairs() {
		if !pair.Available() {
			continue
		}
		names = append(names, pair.Profile)
		result := f.try(pair.Profile)
		if !result.OK {
			continue
		}
		holding := Holding{Profile: pair.Profile, Counted: !pair.Unlimited}
		return f.decide(st, st.Decrement(i), holding, result, others)
	}
	if len(names) == 0 {
		return Decision{}, f.fail(ErrStateExhausted, "", "No more role available in "+src.Path()+"/state", nil)
	}
	return Decision{}, f.fail(ErrNoMatch, "", "Unable to match requirements on the following available roles in "+
		src.Path()+"/: "+strings.Join(names, ", "), nil)
}

// Again decides for a machine that holds something: the same profile, no
// further count, the same CMDB entry with the bindings of now. The error is an
// *Error; ErrNoMatch: the machine does not fit its profile any more; ErrGone:
// the profile left the state file. In both cases Release what it holds, write
// that, and Find.
func Again(src Source, h wire.Hardware, holding Holding, others Others) (Decision, error) {
	st, err := src.State()
	if err != nil {
		return Decision{}, &Error{Kind: ErrBadState, Message: err.Error(), Cause: err}
	}
	f := finder{src: src, index: match.NewIndex(h)}
	if st.Find(holding.Profile) < 0 {
		return Decision{}, f.fail(ErrGone, holding.Profile, "profile "+holding.Profile+" is no longer in "+src.Path()+"/state", nil)
	}
	result := f.try(holding.Profile)
	if !result.OK {
		return Decision{}, f.fail(ErrNoMatch, holding.Profile, "machine no longer fits its profile "+holding.Profile+": "+f.tried[0].Reason, nil)
	}
	return f.decide(st, st, holding, result, others)
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
		file, err := src.CMDB(holding.Profile)
		if err != nil {
			return nil, f.fail(ErrBadCMDB, holding.Profile, err.Error(), err)
		}
		if file != nil {
			freed, _ := file.Free(before, after)
			files = f.changed(files, holding.Profile, file, freed)
		}
	}
	if !holding.Counted {
		return files, nil
	}
	st, err := src.State()
	if err != nil {
		return nil, f.fail(ErrBadState, "", err.Error(), err)
	}
	if given, ok := st.GiveBack(holding.Profile); ok {
		files = append(files, File{"state", given.Text()})
	}
	return files, nil
}

// finder is one decision under way.
type finder struct {
	src      Source
	index    *match.Index
	tried    []Attempt
	problems []string
}

// try matches one profile; one that does not fit is noted.
func (f *finder) try(profile string) match.Result {
	specs, err := f.src.Specs(profile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.problems = append(f.problems, err.Error())
	}
	if specs == nil {
		f.tried = append(f.tried, Attempt{Profile: profile, Reason: err.Error()})
		return match.Result{}
	}
	result := f.index.Match(specs)
	if !result.OK {
		f.tried = append(f.tried, newAttempt(profile, result.Failure))
	}
	return result
}

// decide completes the decision for a profile that fits: its CMDB entry and
// the files. Nothing has been written.
func (f *finder) decide(before, after *state.State, holding Holding, result match.Result, others Others) (Decision, error) {
	d := Decision{Profile: holding.Profile, Var: dict(result.Bindings), Bindings: result.Bindings, Tried: f.tried, Problems: f.problems}
	file, err := f.src.CMDB(holding.Profile)
	if err != nil {
		return Decision{}, f.fail(ErrBadCMDB, holding.Profile, err.Error(), err)
	}
	d.Holding = Holding{Profile: holding.Profile, Counted: holding.Counted}
	if file != nil && file.Len() > 0 {
		taken, err := f.entry(file, holding, d.Var, dict(result.Strict), others)
		if err != nil {
			return Decision{}, err
		}
		d.Var = taken.Var
		d.Holding.Before, d.Holding.After = literal.Repr(taken.Before), literal.Repr(taken.After)
		d.Files = f.changed(d.Files, holding.Profile, file, taken.File)
	}
	if after != before {
		d.Files = append(d.Files, File{"state", after.Text()})
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

// changed adds the files of a CMDB that was changed.
func (f *finder) changed(files []File, profile string, before, after *cmdb.File) []File {
	if after == before {
		return files
	}
	if text := before.Original(); text != "" {
		files = append(files, File{profile + ".cmdb.orig", text})
	}
	f.src.Expect(profile, after)
	return append(files, File{profile + ".cmdb", after.Text()})
}

// entries reads back the CMDB entry of a holding.
func (h Holding) entries() (before, after *literal.Dict, err error) {
	if before, err = parseDict(h.Before); err != nil {
		return nil, nil, err
	}
	after, err = parseDict(h.After)
	return before, after, err
}

func parseDict(text string) (*literal.Dict, error) {
	doc, err := literal.Parse("held CMDB entry", text)
	if err != nil {
		return nil, err
	}
	d, ok := doc.Node.Value.(*literal.Dict)
	if !ok {
		return nil, doc.ErrorAt(0, "want a dictionary")
	}
	return d, nil
}
