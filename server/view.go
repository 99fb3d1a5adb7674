package server

import (
	"errors"
	"fmt"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/match"
	"edeploy/server/internal/state"
	"edeploy/server/internal/store"
)

// view is a configuration directory as one decision sees it: files as they
// were first read, with the changes that the decision has made so far. It is
// an assign.Source.
type view struct {
	*deployment
	read  map[string]store.Version // of the files that were read
	files map[string]string        // changed files
	order []string                 // their names, in the order of the changes
}

func newView(d *deployment) *view {
	return &view{deployment: d, read: map[string]store.Version{}, files: map[string]string{}}
}

// Path is the directory.
func (v *view) Path() string { return v.dir.Path() }

// State reads the state file.
func (v *view) State() (*state.State, error) {
	if text, ok := v.files["state"]; ok {
		return state.Parse("state", text)
	}
	s, err := v.dir.State()
	if err == nil {
		v.saw("state", s.Text())
	}
	return s, err
}

// Specs reads NAME.specs.
func (v *view) Specs(profile string) (*match.Specs, error) { return v.dir.Specs(profile) }

// CMDB reads NAME.cmdb.
func (v *view) CMDB(profile string) (*cmdb.File, error) {
	name := profile + ".cmdb"
	if text, ok := v.files[name]; ok {
		return cmdb.Parse(name, text)
	}
	f, err := v.dir.CMDB(profile)
	if err == nil && f != nil {
		v.saw(name, f.Text())
	}
	return f, err
}

// Expect hands on which version of a CMDB will be written.
func (v *view) Expect(profile string, f *cmdb.File) { v.dir.Expect(profile, f) }

func (v *view) saw(name, text string) {
	if _, ok := v.read[name]; !ok {
		v.read[name] = store.VersionOf([]byte(text))
	}
}

// apply takes the changes of a decision on.
func (v *view) apply(files []assign.File) {
	for _, f := range files {
		if _, ok := v.files[f.Name]; !ok {
			v.order = append(v.order, f.Name)
		}
		v.files[f.Name] = f.Text
	}
}

// changes are the changed files for the store. A file that was not read, such
// as NAME.cmdb.orig, is replaced whatever it holds.
func (v *view) changes(documents store.Store) ([]store.Change, error) {
	var all []store.Change
	for _, name := range v.order {
		document := configCollection(v.name) + "/" + name
		was, ok := v.read[name]
		if !ok {
			doc, err := documents.Get(document)
			if err != nil && !errors.Is(err, store.ErrNotExist) {
				return nil, fmt.Errorf("replace %s: %w", name, err)
			}
			was = doc.Version
		}
		all = append(all, store.Change{Name: document, Was: was, Text: []byte(v.files[name])})
	}
	return all, nil
}

// forget takes all changes of the decision back.
func (v *view) forget() { v.files, v.order = map[string]string{}, nil }
