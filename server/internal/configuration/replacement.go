// Package configuration replaces the configuration files of a deployment. CMDB
// entries that machines hold stay theirs.
package configuration

import (
	"cmp"
	"maps"
	"slices"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/lint"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
)

// Replacement is a wish to replace or remove configuration files together.
type Replacement struct {
	Deployment *allocation.Deployment
	Files      map[fileset.Name]string  // new texts
	Remove     []fileset.Name           // must be there
	Prune      bool                     // remove all other files of profiles
	Expect     func(store.Version) bool // of the only file's version, for compare and swap; nil: whatever it is
	Force      bool                     // store broken files, too
}

// New checks names and sizes.
func New(of *allocation.Deployment, set api.ConfigSet) (Replacement, error) {
	q := Replacement{Deployment: of, Files: map[fileset.Name]string{}, Prune: set.Prune}
	total := 0
	for file, text := range set.Files {
		name, err := fileset.ParseName(file)
		switch {
		case err != nil:
			return q, refusal.New(refusal.Input, "%v", err)
		case name.Kind == fileset.Original:
			return q, refusal.New(refusal.Input, "%s is written by the server: bring %s%s", name, name.Profile, fileset.CMDB)
		case len(text) > fileset.MaxFileBytes:
			return q, refusal.New(refusal.TooLarge, "%s may have %d bytes", name, fileset.MaxFileBytes)
		}
		total += len(text)
		q.Files[name] = text
	}
	switch {
	case total > fileset.MaxBytes:
		return q, refusal.New(refusal.TooLarge, "the files may have %d bytes in all", fileset.MaxBytes)
	case len(q.Files) == 0:
		return q, refusal.New(refusal.Input, "there are no files in the set")
	}
	return q, nil
}

// BrokenFiles refuses files that could not be used.
type BrokenFiles struct {
	Problems []api.Problem
	error    // a *refusal.Error
}

func (e *BrokenFiles) Unwrap() error { return e.error }

// Check reads the new files; mistakes refuse the whole replacement with
// *BrokenFiles, unless it is forced.
func (q Replacement) Check() (warnings []api.Problem, err error) {
	var inFiles, inScripts []api.Problem
	for _, name := range q.names() {
		text := q.Files[name]
		found := fileset.Check(name, text)
		for _, p := range found {
			inFiles = append(inFiles, api.Problem{Section: q.Deployment.Name, File: p.File, Line: p.Line, Column: p.Column, Text: p.Text, Warning: p.Warning || q.Force})
		}
		if name.Kind != fileset.Configure || len(found) > 0 {
			continue
		}
		// What specs and CMDB give a script is left to edeployctl, which sees all files.
		for _, m := range lint.Script(name.String(), text) {
			inScripts = append(inScripts, api.Problem{Section: q.Deployment.Name, File: m.File, Line: m.Line, Column: m.Column, Text: m.Where() + ": " + m.Text, Warning: q.Force})
		}
	}
	all := slices.Concat(inFiles, inScripts)
	if !q.Force && slices.Contains(q.Remove, fileset.Name{Kind: fileset.State}) {
		all = append(all, api.Problem{Section: q.Deployment.Name, File: "state", Text: "state: without this file no machine gets anything"})
	}
	warnings = slices.DeleteFunc(slices.Clone(all), func(p api.Problem) bool { return !p.Warning })
	broken := slices.DeleteFunc(all, func(p api.Problem) bool { return p.Warning })
	if len(broken) > 0 {
		return nil, &BrokenFiles{broken, refusal.New(refusal.Unusable, "nothing is changed: %s", broken[0].Text)}
	}
	return warnings, nil
}

// names are those of the new files.
func (q Replacement) names() []fileset.Name {
	return slices.SortedFunc(maps.Keys(q.Files), func(x, y fileset.Name) int { return cmp.Compare(x.String(), y.String()) })
}
