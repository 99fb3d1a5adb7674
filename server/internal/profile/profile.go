// Package profile reads a configuration directory: state, and for every
// profile NAME.specs, NAME.configure and NAME.cmdb (reference sections 6.2 and
// 7.1).
package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/state"
)

// maxFile bounds every file of the directory.
const maxFile = literal.MaxBytes

// Dir is a configuration directory. A file is read when it is asked for and
// its meaning kept until the file changes on disk, which time, size and inode
// tell. It is safe for concurrent use.
type Dir struct {
	path string

	mu    sync.Mutex
	specs map[string]*specsFile
	cmdbs map[string]*cmdb.File // last good versions
	state *state.State          // last good version
}

// specsFile is what is known about one NAME.specs.
type specsFile struct {
	mark  mark
	specs *match.Specs // last good version, may be nil
	err   error        // about the present version
}

// mark changes when a file changes.
type mark struct {
	time  time.Time
	size  int64
	inode uint64
}

// Open prepares the directory; it reads nothing yet.
func Open(path string) *Dir {
	if trimmed := strings.TrimRight(path, "/"); trimmed != "" {
		path = trimmed
	}
	return &Dir{path: path, specs: make(map[string]*specsFile), cmdbs: make(map[string]*cmdb.File)}
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

// broken is the error about a text that cannot be read. Only with a *Broken
// the last good version may be used.
func broken(file content, err error) error {
	if age := time.Since(file.modified); age >= 0 && age < settling {
		return fmt.Errorf("%w (it was written a moment ago)", err)
	}
	return &Broken{file.text, err}
}

// State reads the state file. The error of a broken one holds a
// *literal.Error; when it is a *Broken, the last good version comes along.
func (d *Dir) State() (*state.State, error) {
	file, err := d.readContent("state")
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != nil && d.state.Text() == file.text {
		return d.state, nil
	}
	s, err := state.Parse("state", file.text)
	if err == nil {
		d.state = s
		return s, nil
	}
	if d.state == nil {
		return nil, err
	}
	if err = broken(file, err); errors.As(err, new(*Broken)) {
		return d.state, err
	}
	return nil, err
}

// KeepState tells what the state file holds now.
func (d *Dir) KeepState(s *state.State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = s
}

// Specs reads NAME.specs. A missing file gives fs.ErrNotExist, a broken one a
// *literal.Error. After a broken edit it answers the last good version
// together with the error.
func (d *Dir) Specs(name string) (*match.Specs, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	info, err := os.Stat(d.file(name + ".specs"))
	if err != nil {
		return nil, d.explain(name+".specs", err)
	}
	m := markOf(info)
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.specs[name]
	if known == nil || known.mark != m {
		known = d.reload(name, m, known)
		d.specs[name] = known
	}
	return known.specs, known.err
}

func (d *Dir) reload(name string, m mark, before *specsFile) *specsFile {
	now := &specsFile{mark: m}
	text, err := d.read(name + ".specs")
	if err == nil {
		now.specs, err = match.Compile(name+".specs", text)
	}
	if now.err = err; err != nil {
		now.specs = nil
		if before != nil {
			now.specs = before.specs
		}
	}
	return now
}

func markOf(info fs.FileInfo) mark {
	m := mark{time: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		m.inode = sys.Ino
	}
	return m
}

// CMDB reads NAME.cmdb; it answers nil without an error when there is none.
// The errors are those of State.
func (d *Dir) CMDB(name string) (*cmdb.File, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	file, err := d.readContent(name + ".cmdb")
	d.mu.Lock()
	defer d.mu.Unlock()
	if errors.Is(err, fs.ErrNotExist) {
		delete(d.cmdbs, name)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	known := d.cmdbs[name]
	if known != nil && known.Text() == file.text {
		return known, nil
	}
	f, err := cmdb.Parse(name+".cmdb", file.text)
	if err == nil {
		d.cmdbs[name] = f
		return f, nil
	}
	if known == nil {
		return nil, err
	}
	if err = broken(file, err); errors.As(err, new(*Broken)) {
		return known, err
	}
	return nil, err
}

// KeepCMDB tells what NAME.cmdb holds now, so that it need not be parsed
// again.
func (d *Dir) KeepCMDB(name string, f *cmdb.File) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cmdbs[name] = f
}

// Configure reads NAME.configure.
func (d *Dir) Configure(name string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	return d.read(name + ".configure")
}

func (d *Dir) file(name string) string { return d.path + "/" + name }

// read reads a whole file of the directory.
func (d *Dir) read(name string) (string, error) {
	file, err := d.readContent(name)
	return file.text, err
}

// content is a file as it was read.
type content struct {
	text     string
	modified time.Time
}

func (d *Dir) readContent(name string) (content, error) {
	f, err := os.Open(d.file(name))
	if err != nil {
		return content{}, d.explain(name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return content{}, d.explain(name, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return content{}, d.explain(name, err)
	}
	if len(text) > maxFile {
		return content{}, fmt.Errorf("read %s: larger than %d bytes", d.file(name), maxFile)
	}
	return content{string(text), info.ModTime()}, nil
}

// explain names the file once.
func (d *Dir) explain(name string, err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		err = pathError.Err
	}
	return fmt.Errorf("read %s: %w", d.file(name), err)
}
