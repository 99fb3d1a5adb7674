// Package profile reads a configuration directory: state, and for every
// profile NAME.specs, NAME.configure and NAME.cmdb (reference sections 6.2 and
// 7.1), and the bills of materials that profiles name, NAME.bill.
package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"time"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/expectation"
	"edeploy/server/internal/match"
	"edeploy/server/internal/state"
	"edeploy/server/internal/store"
)

// Dir is a configuration directory. A file is read when it is asked for and
// its meaning kept as long as its version stays the same. It is safe for
// concurrent use.
type Dir struct {
	path  string
	files store.Reader // by their names

	mu    sync.Mutex
	known map[string]file // by name
}

// file is what is known about one file.
type file struct {
	version  store.Version
	modified time.Time
	text     string // only of a broken one
	err      error  // why it is broken
	good     any    // meaning of the last good version; nil: there was none
}

// Open prepares a directory whose files are read by their names; it reads
// nothing yet.
func Open(path string, files store.Reader) *Dir {
	if trimmed := strings.TrimRight(path, "/"); trimmed != "" {
		path = trimmed
	}
	return &Dir{path: path, files: files, known: map[string]file{}}
}

// Path is the directory, without a slash at its end.
func (d *Dir) Path() string { return d.path }

// CheckName refuses names of profiles that are no plain file names.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("profile name is empty")
	case len(name) > 200:
		return fmt.Errorf("profile name %.20q... is longer than 200 bytes", name)
	case strings.HasPrefix(name, "."):
		return fmt.Errorf("profile name %q starts with a dot", name)
	case strings.ContainsAny(name, "/\x00\n\r"):
		return fmt.Errorf("profile name %q holds a slash or a control character", name)
	}
	return nil
}

// Broken is the error about a file that was edited and cannot be read since.
// It comes together with the last good version of the file.
type Broken struct {
	Text string // what the file holds now
	Err  error  // a *literal.Error
}

func (b *Broken) Error() string { return b.Err.Error() + "; the last good version stays in use" }

// Unwrap is the mistake.
func (b *Broken) Unwrap() error { return b.Err }

// settling is how long a broken file must lie still before it counts as an
// edit: an editor may be about to write the rest of it.
const settling = 2 * time.Second

// usable is the last good version of a file, and the error about what it holds
// now. Only with a *Broken the last good version may be used.
func (f file) usable() (any, error) {
	age := time.Since(f.modified)
	switch {
	case f.err == nil || f.good == nil:
		return f.good, f.err
	case age >= 0 && age < settling:
		return nil, fmt.Errorf("%w (it was written a moment ago)", f.err)
	}
	return f.good, &Broken{f.text, f.err}
}

// read reads a file, unless it is known.
func (d *Dir) read(name string, parse func(name, text string) (any, error)) (file, error) {
	version, err := d.files.Version(name)
	if err != nil {
		return file{}, d.explain(name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f, ok := d.known[name]
	if ok && f.err == nil && version != store.Absent && f.version == version {
		return f, nil
	}
	doc, err := d.files.Get(name)
	if err != nil {
		return file{}, d.explain(name, err)
	}
	if same := ok && f.version == doc.Version; !same {
		f = parsed(f, name, doc, parse)
	}
	f.modified = doc.Modified
	d.known[name] = f
	return f, nil
}

// parsed is what is known about a file that was read anew.
func parsed(before file, name string, doc store.Document, parse func(name, text string) (any, error)) file {
	f := file{version: doc.Version, good: before.good}
	if is, err := parse(name, string(doc.Text)); err == nil {
		f.good = is
	} else {
		f.err, f.text = err, string(doc.Text)
	}
	return f
}

// keep notes what a file holds now, so that it need not be parsed again.
func (d *Dir) keep(name, text string, is any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[name] = file{version: store.VersionOf([]byte(text)), good: is}
}

// State reads the state file. The error of a broken one holds a
// *literal.Error; when it is a *Broken, the last good version comes along.
func (d *Dir) State() (*state.State, error) {
	f, err := d.read("state", func(name, text string) (any, error) { return state.Parse(name, text) })
	if err != nil {
		return nil, err
	}
	is, err := f.usable()
	s, _ := is.(*state.State)
	return s, err
}

// KeepState tells what the state file holds now.
func (d *Dir) KeepState(s *state.State) { d.keep("state", s.Text(), s) }

// Specs reads NAME.specs. A missing file gives fs.ErrNotExist, a broken one a
// *literal.Error. After a broken edit it answers the last good version
// together with the error.
func (d *Dir) Specs(name string) (*match.Specs, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	f, err := d.read(name+".specs", func(name, text string) (any, error) { return match.Compile(name, text) })
	if err != nil {
		return nil, err
	}
	s, _ := f.good.(*match.Specs)
	return s, f.err
}

// CMDB reads NAME.cmdb; it answers nil without an error when there is none.
// The errors are those of State.
func (d *Dir) CMDB(name string) (*cmdb.File, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	name += ".cmdb"
	f, err := d.read(name, func(name, text string) (any, error) { return cmdb.Parse(name, text) })
	if errors.Is(err, fs.ErrNotExist) {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.known, name)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	is, err := f.usable()
	c, _ := is.(*cmdb.File)
	return c, err
}

// KeepCMDB tells what NAME.cmdb holds now.
func (d *Dir) KeepCMDB(name string, f *cmdb.File) { d.keep(name+".cmdb", f.Text(), f) }

// Bill reads NAME.bill, the expected hardware. The errors are those of Specs.
func (d *Dir) Bill(name string) (*expectation.Bill, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	f, err := d.read(name+".bill", func(name, text string) (any, error) { return expectation.Parse(name, text) })
	if err != nil {
		return nil, err
	}
	b, _ := f.good.(*expectation.Bill)
	return b, f.err
}

// Configure reads NAME.configure.
func (d *Dir) Configure(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	doc, err := d.files.Get(name + ".configure")
	if err != nil {
		return "", d.explain(name+".configure", err)
	}
	return string(doc.Text), nil
}

// explain names the file once.
func (d *Dir) explain(name string, err error) error {
	var pathError *fs.PathError
	switch {
	case errors.Is(err, store.ErrNotExist):
		err = syscall.ENOENT
	case errors.As(err, &pathError):
		err = pathError.Err
	}
	return fmt.Errorf("read %s/%s: %w", d.path, name, err)
}
