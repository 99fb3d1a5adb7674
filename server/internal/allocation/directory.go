package allocation

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/expectation"
	"edeploy/server/internal/match"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/state"
	"edeploy/server/internal/store"
)

// Directory is a configuration directory as one decision sees it: files as they
// were first read, with the changes that the decisions of its snapshot have
// made so far. It is an assign.Source.
type Directory struct {
	*Deployment
	before *Directory               // as the decisions before left it; nil: as on the disk
	states readState                // once it was read
	cmdbs  map[string]readCMDB      // by profile
	read   map[string]store.Version // of the files that were read
	broken map[string]string        // what files hold whose last good version is in use
	files  map[string]assign.File   // changed files
	order  []string                 // their names, in the order of the changes
}

// readState is the answer of profile.Dir, kept.
type readState struct {
	known bool
	state *state.State
	err   error
}

type readCMDB struct {
	file *cmdb.File
	err  error
}

// Directory is that of a deployment, for one decision.
func (s *Snapshot) Directory(of *Deployment) *Directory {
	d := &Directory{Deployment: of, before: s.directories[of.ConfigDir]}
	d.undo()
	return d
}

func (d *Directory) undo() {
	from := d.before
	if from == nil {
		from = &Directory{cmdbs: map[string]readCMDB{}, read: map[string]store.Version{}, broken: map[string]string{}, files: map[string]assign.File{}}
	}
	d.states, d.order = from.states, slices.Clone(from.order)
	d.cmdbs, d.read, d.broken, d.files = maps.Clone(from.cmdbs), maps.Clone(from.read), maps.Clone(from.broken), maps.Clone(from.files)
}

// Path is the directory.
func (d *Directory) Path() string { return d.Dir.Path() }

// State reads the state file.
func (d *Directory) State() (*state.State, error) {
	if f, ok := d.files["state"]; ok {
		return f.State, nil
	}
	if !d.states.known {
		s, err := d.Dir.State()
		d.states = readState{true, s, err}
		if s != nil {
			d.saw("state", s.Text, err)
		}
	}
	return d.states.state, d.states.err
}

// Specs reads NAME.specs.
func (d *Directory) Specs(profile string) (*match.Specs, error) { return d.Dir.Specs(profile) }

// Bill reads NAME.bill.
func (d *Directory) Bill(name string) (*expectation.Bill, error) { return d.Dir.Bill(name) }

// CMDB reads NAME.cmdb.
func (d *Directory) CMDB(profile string) (*cmdb.File, error) {
	name := profile + ".cmdb"
	if f, ok := d.files[name]; ok {
		return f.CMDB, nil
	}
	if is, ok := d.cmdbs[profile]; ok {
		return is.file, is.err
	}
	f, err := d.Dir.CMDB(profile)
	d.cmdbs[profile] = readCMDB{f, err}
	if f != nil {
		d.saw(name, f.Text, err)
	}
	return f, err
}

// saw notes which version of a file was read. Of a broken one, that is what
// it holds, not its last good version.
func (d *Directory) saw(name string, text func() string, err error) {
	var broken *profile.Broken
	if errors.As(err, &broken) {
		d.broken[name] = broken.Text
		d.read[name] = store.VersionOf([]byte(broken.Text))
		return
	}
	d.read[name] = store.VersionOf([]byte(text()))
}

// Apply takes the changes of a decision on.
func (d *Directory) Apply(files []assign.File) {
	for _, f := range files {
		if _, ok := d.files[f.Name]; !ok {
			d.order = append(d.order, f.Name)
		}
		d.files[f.Name] = f
	}
}

// changes are the changed files for the store. A file that was not read, such
// as NAME.cmdb.orig, is replaced whatever it holds. A broken one is put aside
// before, so that nobody's edit is lost.
func (d *Directory) changes(documents store.Store) ([]store.Change, error) {
	var all []store.Change
	for _, name := range d.order {
		if text, ok := d.broken[name]; ok {
			aside, err := d.putAside(documents, name, text)
			if err != nil {
				return nil, err
			}
			all = append(all, aside...)
		}
		was, ok := d.read[name]
		if !ok {
			doc, err := documents.Get(d.document(name))
			if err != nil && !errors.Is(err, store.ErrNotExist) {
				return nil, fmt.Errorf("replace %s: %w", name, err)
			}
			was = doc.Version
		}
		all = append(all, store.Change{Name: d.document(name), Was: was, Text: []byte(d.files[name].Content())})
	}
	return all, nil
}

func (d *Directory) document(name string) string { return d.Collection + "/" + name }

// maxAside bounds the broken edits of one file that are put aside.
const maxAside = 9

// putAside keeps a broken edit as NAME.broken, or NAME.broken2 and so on when
// there is another one already.
func (d *Directory) putAside(documents store.Store, name, text string) ([]store.Change, error) {
	for n := 1; n <= maxAside; n++ {
		aside := name + ".broken"
		if n > 1 {
			aside += fmt.Sprint(n)
		}
		doc, err := documents.Get(d.document(aside))
		switch {
		case errors.Is(err, store.ErrNotExist):
			return []store.Change{{Name: d.document(aside), Text: []byte(text)}}, nil
		case err != nil:
			return nil, fmt.Errorf("put the broken %s aside: %w", name, err)
		case string(doc.Text) == text:
			return nil, nil
		}
	}
	return nil, fmt.Errorf("%s is broken, and %d broken edits of it were put aside already: mend it, and remove the files %s.broken", name, maxAside, name)
}

// keep tells the directory what was written. It answers which broken edits
// were put aside.
func (d *Directory) keep() []Note {
	var aside []Note
	for _, name := range d.order {
		switch f := d.files[name]; {
		case f.State != nil:
			d.Dir.KeepState(f.State)
		case f.CMDB != nil:
			d.Dir.KeepCMDB(f.Profile, f.CMDB)
		}
		if _, ok := d.broken[name]; ok {
			aside = append(aside, Note{Loss, d.Name, fmt.Sprintf("%s: a broken edit was put aside as %s.broken, because the count or entry of a machine had to be written: mend it and put it back", name, name)})
		}
	}
	return aside
}

// Collection is the name under which the store knows the configuration
// directory of a section.
func Collection(section string) string { return "config." + section }
