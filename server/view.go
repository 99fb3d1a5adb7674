package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/match"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/state"
	"edeploy/server/internal/store"
)

// view is a configuration directory as one decision sees it: files as they
// were first read, with the changes that the decisions of its draft have made
// so far. It is an assign.Source.
type view struct {
	*deployment
	drafted *view                    // as the decisions before left it; nil: as on the disk
	states  readState                // once it was read
	cmdbs   map[string]readCMDB      // by profile
	read    map[string]store.Version // of the files that were read
	broken  map[string]string        // what files hold whose last good version is in use
	files   map[string]assign.File   // changed files
	order   []string                 // their names, in the order of the changes
}

// readState is the answer of profile.Dir, kept.
type readState struct {
	known bool
	state *state.State
	err   error
}

// readCMDB is the same of a CMDB.
type readCMDB struct {
	file *cmdb.File
	err  error
}

// newView is a deployment's configuration directory, on top of what was
// drafted before; that may be nil.
func newView(d *deployment, drafted *view) *view {
	v := &view{deployment: d, drafted: drafted}
	v.forget()
	return v
}

// forget takes all changes of the decision back.
func (v *view) forget() {
	from := v.drafted
	if from == nil {
		from = &view{}
	}
	v.states, v.order = from.states, slices.Clone(from.order)
	v.cmdbs, v.read, v.broken, v.files = copied(from.cmdbs), copied(from.read), copied(from.broken), copied(from.files)
}

func copied[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}

// Path is the directory.
func (v *view) Path() string { return v.dir.Path() }

// State reads the state file.
func (v *view) State() (*state.State, error) {
	if f, ok := v.files["state"]; ok {
		return f.State, nil
	}
	if !v.states.known {
		s, err := v.dir.State()
		v.states = readState{true, s, err}
		if s != nil {
			v.saw("state", s.Text, err)
		}
	}
	return v.states.state, v.states.err
}

// Specs reads NAME.specs.
func (v *view) Specs(profile string) (*match.Specs, error) { return v.dir.Specs(profile) }

// CMDB reads NAME.cmdb.
func (v *view) CMDB(profile string) (*cmdb.File, error) {
	name := profile + ".cmdb"
	if f, ok := v.files[name]; ok {
		return f.CMDB, nil
	}
	if is, ok := v.cmdbs[profile]; ok {
		return is.file, is.err
	}
	f, err := v.dir.CMDB(profile)
	v.cmdbs[profile] = readCMDB{f, err}
	if f != nil {
		v.saw(name, f.Text, err)
	}
	return f, err
}

// saw notes which version of a file was read. Of a broken one, that is what
// it holds, not its last good version.
func (v *view) saw(name string, text func() string, err error) {
	var broken *profile.Broken
	if errors.As(err, &broken) {
		v.broken[name] = broken.Text
		v.read[name] = store.VersionOf([]byte(broken.Text))
		return
	}
	v.read[name] = store.VersionOf([]byte(text()))
}

// apply takes the changes of a decision on.
func (v *view) apply(files []assign.File) {
	for _, f := range files {
		if _, ok := v.files[f.Name]; !ok {
			v.order = append(v.order, f.Name)
		}
		v.files[f.Name] = f
	}
}

// changes are the changed files for the store. A file that was not read, such
// as NAME.cmdb.orig, is replaced whatever it holds. A broken one is put aside
// before, so that nobody's edit is lost.
func (v *view) changes(documents store.Store) ([]store.Change, error) {
	var all []store.Change
	for _, name := range v.order {
		if text, ok := v.broken[name]; ok {
			aside, err := v.putAside(documents, name, text)
			if err != nil {
				return nil, err
			}
			all = append(all, aside...)
		}
		was, ok := v.read[name]
		if !ok {
			doc, err := documents.Get(v.document(name))
			if err != nil && !errors.Is(err, store.ErrNotExist) {
				return nil, fmt.Errorf("replace %s: %w", name, err)
			}
			was = doc.Version
		}
		all = append(all, store.Change{Name: v.document(name), Was: was, Text: []byte(v.files[name].Content())})
	}
	return all, nil
}

func (v *view) document(name string) string { return configCollection(v.name) + "/" + name }

// maxAside bounds the broken edits of one file that are put aside.
const maxAside = 9

// putAside keeps a broken edit as NAME.broken, or NAME.broken2 and so on when
// there is another one already.
func (v *view) putAside(documents store.Store, name, text string) ([]store.Change, error) {
	for n := 1; n <= maxAside; n++ {
		aside := name + ".broken"
		if n > 1 {
			aside += fmt.Sprint(n)
		}
		doc, err := documents.Get(v.document(aside))
		switch {
		case errors.Is(err, store.ErrNotExist):
			return []store.Change{{Name: v.document(aside), Text: []byte(text)}}, nil
		case err != nil:
			return nil, fmt.Errorf("put the broken %s aside: %w", name, err)
		case string(doc.Text) == text:
			return nil, nil
		}
	}
	return nil, fmt.Errorf("%s is broken, and %d broken edits of it were put aside already: mend it, and remove the files %s.broken", name, maxAside, name)
}

// keep tells the directory what was written.
func (v *view) keep() {
	for _, name := range v.order {
		switch f := v.files[name]; {
		case f.State != nil:
			v.dir.KeepState(f.State)
		case f.CMDB != nil:
			v.dir.KeepCMDB(f.Profile, f.CMDB)
		}
	}
}

// edits are sentences about broken edits that were put aside.
func (v *view) edits() []string {
	var all []string
	for _, name := range v.order {
		if _, ok := v.broken[name]; ok {
			all = append(all, fmt.Sprintf("%s: a broken edit was put aside as %s.broken, because the count or entry of a machine had to be written: mend it and put it back", name, name))
		}
	}
	return all
}
