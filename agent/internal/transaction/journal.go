package transaction

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"time"

	"edeploy/images/manifest"
	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

// journal is what one transaction does. Its text is a line with a checksum
// and a JSON document.
type journal struct {
	Number int           `json:"number"`
	From   wire.ImageRef `json:"from"`
	To     wire.ImageRef `json:"to"`
	Began  time.Time     `json:"began"`
	Counts counts        `json:"counts"`

	FileSystems []fileSystem `json:"file_systems"`
	Units       []unit       `json:"units"`
	Directories []directory  `json:"directories"`
	Preserved   []preserved  `json:"preserved"`
}

type counts struct {
	Created, Replaced, Changed, Deleted int
}

type fileSystem struct {
	FileSystem
	Mount name `json:"mount"` // Path, with its exact bytes

	// Exchange tells that two names can change places, and that inode numbers
	// survive a mount. Otherwise a path is renamed away, then the new in.
	Exchange bool `json:"exchange"`
}

// name is a path in the journal: bytes that are not plain are escaped.
type name string

// MarshalText escapes.
func (n name) MarshalText() ([]byte, error) { return []byte(manifest.Escape(string(n))), nil }

// UnmarshalText is the inverse.
func (n *name) UnmarshalText(text []byte) error {
	s, err := manifest.Unescape(string(text))
	*n = name(s)
	return err
}

// kind is what happens to a path as a whole.
type kind string

const (
	create kind = "create" // slot -> path
	swap   kind = "swap"   // slot <-> path
	change kind = "change" // attributes in place
	remove kind = "remove" // path -> slot
)

// unit is one change of the tree: mostly one rename, of a file or of a
// directory with all that is in it.
type unit struct {
	Kind kind `json:"kind"`
	Path name `json:"path"`
	FS   int  `json:"fs"`   // index of the file system
	Slot int  `json:"slot"` // number of the slot there

	Old    *nodeState  `json:"old,omitempty"`    // of swap, change, remove
	Before *attributes `json:"before,omitempty"` // of change
	After  *attributes `json:"after,omitempty"`  // of change
	Inside []name      `json:"inside,omitempty"` // what comes with a new directory, paths below it

	nodes []stagedNode // what is staged, the path itself first
	below []*manifest.Entry
}

// stagedNode is a node to be staged.
type stagedNode struct {
	path    string
	entry   *manifest.Entry
	content []byte // of one of Upgrade.Own
	own     bool
	link    string // a path of the tree, or "" ; the node is another name of it
	leader  string // a staged node's path, or ""; the node is another name of it
	at      string // where it is staged
	fs      int    // index of its file system
}

// directory is one whose modification time the changes disturb.
type directory struct {
	Path   name      `json:"path"`
	Before timestamp `json:"before"`
	After  timestamp `json:"after"`
}

// preserved is a copy of a file that scripts rewrite.
type preserved struct {
	Path name       `json:"path"`
	FS   int        `json:"fs"`
	Slot int        `json:"slot"`
	Old  *nodeState `json:"old"` // nil: there was no such file
}

// nodeState identifies a node and its state.
type nodeState struct {
	Inode uint64    `json:"inode"`
	Mode  uint32    `json:"mode"` // with the type
	UID   uint32    `json:"uid"`
	GID   uint32    `json:"gid"`
	Size  int64     `json:"size"`
	Time  timestamp `json:"time"`

	// SHA256 is the content of a file as the plan knew it, so that a later
	// upgrade can take it from the slot.
	SHA256 []byte `json:"sha256,omitempty"`

	status timestamp // ctime
	names  uint64
}

func nodeStateOf(st *unix.Stat_t) *nodeState {
	s := &nodeState{Inode: st.Ino, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Time: modified(st), status: statusTime(st), names: uint64(st.Nlink)}
	if !isDir(st) {
		s.Size = st.Size
	}
	return s
}

func (j *journal) slot(u *unit) string {
	return path.Join(slots(string(j.FileSystems[u.FS].Mount), j.Number), strconv.Itoa(u.Slot))
}

func (j *journal) staged(u *unit, w *stagedNode) string {
	return j.slot(u) + w.path[len(u.Path):]
}

func journalPath(number int) string { return slots(".", number) + "/journal" }

const (
	journalMagic = "edeploy transaction 1 sha256 "
	maxJournal   = 1 << 30
)

func (j *journal) encode() ([]byte, error) {
	text, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, "%s%x\n", journalMagic, sha256.Sum256(text)), text...), nil
}

func decodeJournal(text []byte) (*journal, error) {
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	if string(first) != fmt.Sprintf("%s%x", journalMagic, sha256.Sum256(rest)) {
		return nil, errors.New("its checksum is wrong")
	}
	j := &journal{}
	if err := json.Unmarshal(rest, j); err != nil {
		return nil, err
	}
	return j, j.check()
}

// check is for journals that another program wrote: what it names stays
// inside the root, and indexes are in range.
func (j *journal) check() error {
	if len(j.FileSystems) == 0 || j.FileSystems[0].Mount != "." {
		return errors.New("the root is not among its file systems")
	}
	for i := range j.Units {
		u := &j.Units[i]
		if u.FS < 0 || u.FS >= len(j.FileSystems) {
			return fmt.Errorf("unit %d names file system %d of %d", i, u.FS, len(j.FileSystems))
		}
		if u.Kind != create && u.Old == nil || u.Kind == change && (u.Before == nil || u.After == nil) {
			return fmt.Errorf("unit %d says not what was there before", i)
		}
	}
	for i, p := range j.Preserved {
		if p.FS < 0 || p.FS >= len(j.FileSystems) {
			return fmt.Errorf("preserved file %d names file system %d of %d", i, p.FS, len(j.FileSystems))
		}
	}
	return nil
}

func (d *disk) readJournal(number int) (*journal, error) {
	text, err := d.readFile(journalPath(number), maxJournal)
	if isAbsent(err) {
		return nil, err
	}
	var j *journal
	if err == nil {
		j, err = decodeJournal(text)
	}
	if err == nil && j.Number != number {
		err = fmt.Errorf("it is that of transaction %d", j.Number)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", d.name(journalPath(number)), ErrDamaged, err)
	}
	return j, nil
}

func (d *disk) writeJournal(j *journal) error {
	text, err := j.encode()
	if err != nil {
		return fmt.Errorf("write %s: %w", d.name(journalPath(j.Number)), err)
	}
	return d.write(journalPath(j.Number), text)
}
