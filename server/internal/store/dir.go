package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/google/renameio/v2"
)

// Dir is a Store in directories: one per collection. Every file is replaced
// whole. A commit of several documents is first written, whole and synced, to
// the file "journal" in the journal directory; then the documents are
// replaced; then the journal is removed. Whatever kills the process in
// between, the next OpenDir (or the next Commit) finishes the work.
//
// One process may use a journal directory at a time; the caller sees to that.
type Dir struct {
	mu          sync.Mutex
	journal     *os.Root
	collections map[string]collection
	pending     bool        // there may be a journal
	unfinished  atomic.Bool // and nobody is working on it
	changes

	step func(what string) error // see OpenDirSteps
}

// collection is one directory: files are written in root, which nothing leads
// out of, and read by their path, because an operator may use symbolic links.
type collection struct {
	root *os.Root
	*Files
}

// Recovery says what OpenDir found of a commit that was cut short.
type Recovery struct {
	Outcome Outcome
	Names   []string // the documents of the commit
	Edited  []string // documents left alone because somebody edited them meanwhile
	Aside   string   // the file that a damaged journal was put aside as
	Damage  error    // what is wrong with it
}

// Outcome is how an interrupted commit ended.
type Outcome string

// The outcomes.
const (
	Nothing  Outcome = "nothing"  // no commit was interrupted
	Finished Outcome = "finished" // all its changes are made
	Undone   Outcome = "undone"   // none of its changes is made
	Damaged  Outcome = "damaged"  // the journal says nothing that can be done: it was put aside
)

// OpenDir opens the directories, which exist, and finishes an interrupted
// commit. A journal that cannot be read is put aside: it must not keep the
// process from starting. When a document was edited since by somebody else, the edit stays
// and the other changes of that commit are taken back: nobody was told yet
// that they had been made.
func OpenDir(journal string, collections map[string]string) (*Dir, Recovery, error) {
	return OpenDirSteps(journal, collections, func(string) error { return nil })
}

// OpenDirSteps is OpenDir with a function that is called before every change
// of the file system, with its name; an error stops the work there. Tests cut
// the power with it.
func OpenDirSteps(journal string, collections map[string]string, step func(string) error) (*Dir, Recovery, error) {
	d := &Dir{collections: map[string]collection{}, changes: newChanges(), step: step}
	var err error
	if d.journal, err = os.OpenRoot(journal); err != nil {
		return nil, Recovery{}, fmt.Errorf("open state directory: %w", err)
	}
	for name, path := range collections {
		root, err := os.OpenRoot(path)
		if err != nil {
			d.Close()
			return nil, Recovery{}, fmt.Errorf("open directory of %s: %w", name, err)
		}
		d.collections[name] = collection{root, OpenFiles(path)}
		sweep(root)
	}
	sweep(d.journal)
	recovery, err := d.recover()
	if err != nil {
		d.Close()
		return nil, recovery, err
	}
	return d, recovery, nil
}

// Close closes the directories.
func (d *Dir) Close() error {
	errs := []error{d.journal.Close()}
	for _, c := range d.collections {
		errs = append(errs, c.root.Close())
	}
	return errors.Join(errs...)
}

// leftover matches the temporary files of renameio for our documents.
var leftover = regexp.MustCompile(`^\.(state|journal|.+\.(cmdb|orig|specs|configure|json|broken[0-9]*))[0-9]{6,}$`)

// sweep removes temporary files that a killed process left.
func sweep(root *os.Root) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Type().IsRegular() && leftover.MatchString(e.Name()) {
			_ = root.Remove(e.Name()) // only tidiness: the name is never read
		}
	}
}

// Get reads a document, also while a commit is being written.
func (d *Dir) Get(name string) (Document, error) {
	if err := d.whole(); err != nil {
		return Document{}, err
	}
	return d.get(name)
}

func (d *Dir) get(name string) (Document, error) {
	at, file, err := d.locate(name)
	if err != nil {
		return Document{}, err
	}
	doc, err := at.Get(file)
	doc.Name = name
	return doc, err
}

// Version is that of a document, see Files.
func (d *Dir) Version(name string) (Version, error) {
	if err := d.whole(); err != nil {
		return Absent, err
	}
	at, file, err := d.locate(name)
	if err != nil {
		return Absent, err
	}
	return at.Version(file)
}

// whole finishes a commit that an error has left unfinished.
func (d *Dir) whole() error {
	if !d.unfinished.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.settle()
}

func (d *Dir) locate(name string) (collection, string, error) {
	of, file, err := splitName(name)
	if err != nil {
		return collection{}, "", err
	}
	at, ok := d.collections[of]
	if !ok {
		return collection{}, "", fmt.Errorf("document %s: no directory for the collection %s", name, of)
	}
	return at, file, nil
}

// List names the documents of one collection: its regular files without those
// whose name starts with a dot.
func (d *Dir) List(collection string) ([]string, error) {
	all, err := d.Infos(collection)
	var names []string
	for _, is := range all {
		names = append(names, is.Name)
	}
	return names, err
}

// Infos describes the documents of one collection, sorted by name.
func (d *Dir) Infos(collection string) ([]Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.settle(); err != nil {
		return nil, err
	}
	at, ok := d.collections[collection]
	if !ok {
		return nil, fmt.Errorf("no directory for the collection %s", collection)
	}
	entries, err := fs.ReadDir(at.root.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", collection, err)
	}
	var all []Info
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", collection, err)
		}
		all = append(all, Info{collection + "/" + e.Name(), info.Size(), info.ModTime()})
	}
	slices.SortFunc(all, func(x, y Info) int { return strings.Compare(x.Name, y.Name) })
	return all, nil
}

// Commit makes all changes or none.
func (d *Dir) Commit(changes ...Change) error {
	if err := checkChanges(changes); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { d.unfinished.Store(d.pending) }()
	if err := d.settle(); err != nil {
		return err
	}
	intents, err := d.intend(changes)
	if err != nil || len(intents) == 0 {
		return err
	}
	if err := d.carryOut(intents); err != nil {
		return err
	}
	d.made(changesOf(intents))
	return nil
}

func (d *Dir) carryOut(intents []intent) error {
	if len(intents) == 1 { // one file is replaced whole anyway
		return d.put(intents[0].Name, intents[0].Text, intents[0].Delete)
	}
	d.pending = true // an error may come after the journal got its name
	if err := d.writeJournal(intents); err != nil {
		return err
	}
	if err := d.putAll(intents); err != nil {
		return err
	}
	return d.removeJournal()
}

// intend checks the versions and keeps the old texts.
func (d *Dir) intend(changes []Change) ([]intent, error) {
	var intents []intent
	for _, c := range changes {
		is, err := d.get(c.Name)
		if err != nil && !errors.Is(err, ErrNotExist) {
			return nil, err
		}
		if is.Version != c.Was {
			return nil, fmt.Errorf("%s: %w", c.Name, ErrConflict)
		}
		if c.becomes() != c.Was {
			intents = append(intents, intent{Change: c, Old: is.Text})
		}
	}
	return intents, nil
}

// put replaces or removes one document, durably.
func (d *Dir) put(name string, text []byte, remove bool) error {
	at, file, err := d.locate(name)
	if err != nil {
		return err
	}
	if remove {
		return d.remove(at.root, file)
	}
	return d.replace(at.root, file, text, 0o644)
}

func (d *Dir) replace(root *os.Root, file string, text []byte, mode os.FileMode) error {
	f, err := d.write(root, file, text, mode)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := d.rename(file, f); err != nil {
		return err
	}
	return d.sync(root, file)
}

// write writes the text to a file that has no name of its own yet.
func (d *Dir) write(root *os.Root, file string, text []byte, mode os.FileMode) (*renameio.PendingFile, error) {
	if err := d.step("write " + file); err != nil {
		return nil, err
	}
	f, err := renameio.NewPendingFile(file, renameio.WithRoot(root), renameio.WithPermissions(mode), renameio.WithExistingPermissions())
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", file, err)
	}
	keepOwner(root, file, f.File)
	if _, err := f.Write(text); err != nil {
		_ = f.Cleanup() // the first error is the one to tell
		return nil, fmt.Errorf("write %s: %w", file, err)
	}
	return f, nil
}

// rename gives the file its name.
func (d *Dir) rename(file string, f *renameio.PendingFile) error {
	if err := d.step("rename " + file); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// keepOwner gives the new file to the owner of the old one, so that an
// operator can still edit what a daemon that runs as root has replaced.
func keepOwner(root *os.Root, file string, f *os.File) {
	info, err := root.Stat(file)
	if err != nil {
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		_ = f.Chown(int(st.Uid), int(st.Gid)) // not permitted unless root; the file is right all the same
	}
}

func (d *Dir) remove(root *os.Root, file string) error {
	if err := d.unlink(root, file); err != nil {
		return err
	}
	return d.sync(root, file)
}

func (d *Dir) unlink(root *os.Root, file string) error {
	if err := d.step("remove " + file); err != nil {
		return err
	}
	if err := root.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", file, err)
	}
	return nil
}

// sync makes a rename or a removal durable.
func (d *Dir) sync(root *os.Root, file string) error {
	if err := d.step("sync the directory of " + file); err != nil {
		return err
	}
	dir, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("sync the directory of %s: %w", file, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync the directory of %s: %w", file, err)
	}
	return nil
}
