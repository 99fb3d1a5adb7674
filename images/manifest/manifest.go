// Package manifest describes a tree of files completely, in a text that people
// and other programs can read: mtree(5). A manifest is the truth about a role
// tree. Transports only carry bytes; what arrived is made equal to the manifest
// and proven equal to it (package fstree). Package archive reads and writes trees
// as tar.
//
// What is described: type, permission bits with setuid, setgid and sticky,
// numeric owner and group, size, modification time in nanoseconds, SHA-256 of
// the content, target of symbolic links, device numbers, hard-link groups and
// extended attributes (file capabilities and ACLs among them).
//
// The package and those below it are a leaf: any room may import them.
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits of a manifest, kept while it is read, whether from text, an archive or
// a disk. A Debian tree with a database server has 20,000 entries and 4 MB of
// text. What is accepted can be written, and read again.
const (
	MaxEntries   = 512 << 10
	maxMemory    = 96 << 20  // of all entries as values, about
	MaxTextBytes = 128 << 20 // as mtree(5) text
	MaxLineBytes = 4 << 20
	MaxPathBytes = 4095 // PATH_MAX of Linux without the NUL
	MaxDepth     = 256  // names in a path
	MaxFileBytes = 1 << 50
)

// ErrInvalid is wrapped by the errors of New and Read, and of whoever makes entries
// of an archive, when the description itself cannot be accepted.
var ErrInvalid = errors.New("invalid manifest")

// Type is the type of an entry, in the words of mtree(5).
type Type string

// The types.
const (
	Dir     Type = "dir"
	File    Type = "file"
	Symlink Type = "link"
	Block   Type = "block"
	Char    Type = "char"
	Fifo    Type = "fifo"
	Socket  Type = "socket"
)

// Entry describes one path.
type Entry struct {
	Path string // below the root, slashes, no leading slash; "." is the root itself
	Type Type

	Mode     uint32 // permission bits, 04000 setuid, 02000 setgid, 01000 sticky; always 0777 for a Symlink
	UID, GID uint32
	ModTime  time.Time // nanoseconds count

	Size   int64    // bytes of a File, else 0
	SHA256 [32]byte // of the content of a File, else zero
	Link   string   // target of a Symlink, else ""

	// Group is not 0 for a path that is a hard link: all paths of one group
	// are names of one file. New numbers the groups from 1 in path order.
	Group int

	Major, Minor uint32 // of a Block or Char, else 0

	// Xattrs are the extended attributes by full name, such as
	// "security.capability" or "system.posix_acl_access". Nil when there are none.
	Xattrs map[string][]byte
}

// Manifest describes a tree. Entries are in path order (a directory, then all
// below it), unique, and every path's directory is there: New sees to that.
type Manifest struct {
	Entries []Entry
}

// New sorts the entries, checks them, and numbers the hard-link groups anew.
// The slice is the manifest's from then on. Errors wrap ErrInvalid.
func New(entries []Entry) (*Manifest, error) {
	if len(entries) > MaxEntries {
		return nil, fmt.Errorf("%w: %d entries, at most %d are accepted", ErrInvalid, len(entries), MaxEntries)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%w: it describes nothing", ErrInvalid)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int { return comparePaths(a.Path, b.Path) })
	m := &Manifest{Entries: entries}
	for i := range entries {
		if err := m.check(i); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if err := m.numberGroups(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var all Size
	for i := range entries {
		if err := all.Add(&entries[i]); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, Escape(entries[i].Path), err)
		}
	}
	return m, nil
}

// Lookup finds a path.
func (m *Manifest) Lookup(path string) (*Entry, bool) {
	i, ok := slices.BinarySearchFunc(m.Entries, path, func(e Entry, p string) int { return comparePaths(e.Path, p) })
	if !ok {
		return nil, false
	}
	return &m.Entries[i], true
}

// TotalBytes is the size of all files, each hard link counted, or the largest
// int64 when that is not enough.
func (m *Manifest) TotalBytes() int64 {
	var n int64
	for i := range m.Entries {
		n = AddSizes(n, m.Entries[i].Size)
	}
	return n
}

// AddSizes adds sizes, which are not negative, and answers the largest int64 when
// their sum is larger.
func AddSizes(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// comparePaths orders the root first and a directory's content right after
// it: the slash sorts before any other byte.
func comparePaths(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == ".":
		return -1
	case b == ".":
		return 1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return cmp.Compare(pathRank(a[i]), pathRank(b[i]))
		}
	}
	return cmp.Compare(len(a), len(b))
}

func pathRank(c byte) int {
	if c == '/' {
		return -1
	}
	return int(c)
}

// checkPath accepts relative, clean paths.
func checkPath(path string) error {
	switch {
	case path == ".":
		return nil
	case path == "":
		return errors.New("a path is empty")
	case len(path) > MaxPathBytes:
		return fmt.Errorf("path %s... is longer than %d bytes", Escape(path[:40]), MaxPathBytes)
	case path[0] == '/':
		return fmt.Errorf("path %s is absolute", Escape(path))
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("path %s holds a NUL byte", Escape(path))
	}
	if strings.Count(path, "/") >= MaxDepth {
		return fmt.Errorf("path %s... has more than %d names", Escape(path[:40]), MaxDepth)
	}
	for name := range strings.SplitSeq(path, "/") {
		switch {
		case name == "" || name == "." || name == "..":
			return fmt.Errorf("path %s holds the name %q", Escape(path), name)
		case len(name) > 255:
			return fmt.Errorf("path %s... holds a name longer than 255 bytes", Escape(path[:40]))
		}
	}
	return nil
}

// check looks at entry i of the sorted entries. The mode of symbolic links has
// no meaning on Linux, where it is always 0777.
func (m *Manifest) check(i int) error {
	e := &m.Entries[i]
	if err := checkPath(e.Path); err != nil {
		return err
	}
	if i == 0 && e.Path != "." {
		return fmt.Errorf("the root directory %q is not described", ".")
	}
	if i > 0 && m.Entries[i-1].Path == e.Path {
		return fmt.Errorf("%s is described twice", Escape(e.Path))
	}
	if e.Path == "." && e.Type != Dir {
		return fmt.Errorf("the root is a %s, not a directory", e.Type)
	}
	if dir := path.Dir(e.Path); e.Path != "." {
		parent, ok := (&Manifest{m.Entries[:i]}).Lookup(dir)
		if !ok {
			return fmt.Errorf("%s: its directory %s is not described", Escape(e.Path), Escape(dir))
		}
		if parent.Type != Dir {
			return fmt.Errorf("%s: %s is a %s, not a directory", Escape(e.Path), Escape(dir), parent.Type)
		}
	}
	if e.Type == Symlink {
		e.Mode = 0o777
	}
	if err := e.checkAttributes(); err != nil {
		return fmt.Errorf("%s: %w", Escape(e.Path), err)
	}
	return nil
}

// Check refuses an entry that no tree can have.
func (e *Entry) Check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	return e.checkAttributes()
}

func (e *Entry) checkAttributes() error {
	switch e.Type {
	case Dir, File, Symlink, Block, Char, Fifo, Socket:
	default:
		return fmt.Errorf("unknown type %q", e.Type)
	}
	switch {
	case e.Mode&^0o7777 != 0:
		return fmt.Errorf("mode %#o is not one of permission bits", e.Mode)
	case e.Size < 0 || e.Size > MaxFileBytes || e.Size != 0 && e.Type != File:
		return fmt.Errorf("size %d of a %s", e.Size, e.Type)
	case (e.Link != "") != (e.Type == Symlink):
		return fmt.Errorf("target %q of a %s", e.Link, e.Type)
	case len(e.Link) > MaxPathBytes || strings.IndexByte(e.Link, 0) >= 0:
		return errors.New("link target is too long or holds a NUL byte")
	case (e.Major != 0 || e.Minor != 0) && e.Type != Block && e.Type != Char:
		return fmt.Errorf("device number of a %s", e.Type)
	case e.Group != 0 && e.Type == Dir:
		return errors.New("a directory cannot be a hard link")
	}
	for name := range e.Xattrs {
		if name == "" || len(name) > 255 || strings.IndexByte(name, 0) >= 0 {
			return fmt.Errorf("name of extended attribute %.40q", name)
		}
	}
	return nil
}

// numberGroups numbers the hard-link groups from 1 in path order, forgets
// groups of one, and refuses members that are not one file.
func (m *Manifest) numberGroups() error {
	first := map[int]*Entry{}
	members := map[int]int{}
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Group == 0 {
			continue
		}
		members[e.Group]++
		leader := first[e.Group]
		if leader == nil {
			first[e.Group] = e
			continue
		}
		if d := Compare(leader, e); len(d) > 0 {
			return fmt.Errorf("%s and %s are hard links of one file, but their %s differs", Escape(leader.Path), Escape(e.Path), d[0].Attribute)
		}
	}
	number := map[int]int{}
	for i := range m.Entries {
		e := &m.Entries[i]
		switch {
		case e.Group == 0:
		case members[e.Group] == 1:
			e.Group = 0
		default:
			if number[e.Group] == 0 {
				number[e.Group] = len(number) + 1
			}
			e.Group = number[e.Group]
		}
	}
	return nil
}
