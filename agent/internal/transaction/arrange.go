package transaction

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"edeploy/agent/internal/plan"
	"edeploy/images/manifest"

	"golang.org/x/sys/unix"
)

// arrangement makes as few changes as possible of a plan: a new directory
// comes, and an old one goes, as a whole.
type arrangement struct {
	disk   *disk
	mounts table
	u      *Upgrade
	now    time.Time

	wanted   map[string]*stagedNode     // what comes new to a path
	replaced map[string]bool            // wanted, and the disk has something there
	changes  map[string]*manifest.Entry // attributes in place
	deleted  map[string]bool
	index    map[string]int // of the disk's entries
	fs       map[int]int    // mount -> index in the journal
	journal  *journal
}

// arrange fills in the journal's file systems, units and directories.
func (d *disk) arrange(u *Upgrade, j *journal, mounts table) error {
	a := &arrangement{disk: d, mounts: mounts, u: u, now: j.Began, journal: j, wanted: map[string]*stagedNode{}, replaced: map[string]bool{},
		changes: map[string]*manifest.Entry{}, deleted: map[string]bool{}, index: map[string]int{}, fs: map[int]int{}}
	for i := range u.Disk.Entries {
		a.index[u.Disk.Entries[i].Path] = i
	}
	a.fileSystem(".")
	a.sort()
	for _, step := range []func() error{a.own, a.share, a.links, a.units, a.preserve, a.directories} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// fileSystem is the journal's index of the file system that a path lies on.
func (a *arrangement) fileSystem(path string) int {
	m := a.mounts.of(path)
	i, ok := a.fs[m]
	if !ok {
		i = len(a.journal.FileSystems)
		a.fs[m] = i
		a.journal.FileSystems = append(a.journal.FileSystems, a.disk.describe(a.mounts[m]))
	}
	return i
}

// sort brings the plan's operations together by path. A path that is deleted
// in the first pass and created in the second is replaced.
func (a *arrangement) sort() {
	for _, o := range a.u.Plan.Operations {
		if a.mounts.pseudo(o.Path) || a.mounts.reserved(o.Path) {
			continue
		}
		switch o.Action {
		case plan.Delete:
			a.deleted[o.Path] = true
		case plan.Change:
			a.changes[o.Path] = a.target(o.Entry)
		default:
			a.wanted[o.Path] = &stagedNode{path: o.Path, entry: a.target(o.Entry)}
			a.replaced[o.Path] = o.Action == plan.Replace || a.deleted[o.Path]
			delete(a.deleted, o.Path)
		}
	}
}

// target is an entry with its hard-link group in the whole target: the first
// pass numbers the groups of what it sees.
func (a *arrangement) target(e *manifest.Entry) *manifest.Entry {
	if whole, ok := a.u.Target.Lookup(e.Path); ok {
		return whole
	}
	return e
}

// clean is a path below the root, from one that may start with a slash.
func clean(p string) string {
	if p = path.Clean("/" + p); p == "/" {
		return "."
	}
	return p[1:]
}

// ancestors are the directories that a path lies in, the topmost first,
// without the root.
func ancestors(p string) []string {
	var all []string
	for i := range len(p) {
		if p[i] == '/' {
			all = append(all, p[:i])
		}
	}
	return all
}

// own lays the state files over the plan.
func (a *arrangement) own() error {
	for _, given := range slices.Sorted(maps.Keys(a.u.Own)) {
		p := clean(given)
		delete(a.deleted, p)
		delete(a.changes, p)
		delete(a.wanted, p)
		delete(a.replaced, p)
		staged := false
		for _, up := range ancestors(p) {
			delete(a.deleted, up)
			var err error
			if staged, err = a.ownDir(up, staged); err != nil {
				return err
			}
		}
		if err := a.ownFile(p, a.u.Own[given], staged); err != nil {
			return err
		}
	}
	return nil
}

// ownDir sees to a directory of a state file; staged tells, before and after,
// whether it will be a new one.
func (a *arrangement) ownDir(p string, staged bool) (bool, error) {
	if w, ok := a.wanted[p]; ok {
		if w.entry.Type != manifest.Dir {
			return false, fmt.Errorf("%s: a %s is to come where a directory is needed", a.disk.name(p), w.entry.Type)
		}
		return true, nil
	}
	if !staged {
		st, err := a.disk.lookup(p)
		if err != nil || st != nil && isDir(st) {
			return false, err
		}
		if st != nil {
			return false, fmt.Errorf("%s: it is not a directory", a.disk.name(p))
		}
	}
	a.wanted[p] = &stagedNode{path: p, own: true, entry: &manifest.Entry{Path: p, Type: manifest.Dir, Mode: 0o755, ModTime: a.now}}
	return true, nil
}

func (a *arrangement) ownFile(p string, content []byte, staged bool) error {
	e := &manifest.Entry{Path: p, Type: manifest.File, Mode: 0o644, ModTime: a.now, Size: int64(len(content)), SHA256: sha256.Sum256(content)}
	a.wanted[p] = &stagedNode{path: p, entry: e, content: content, own: true}
	if staged {
		return nil
	}
	st, err := a.disk.lookup(p)
	if st == nil || err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s: it is not a regular file", a.disk.name(p))
	}
	old, err := a.disk.attributes(p)
	if err != nil {
		return err
	}
	e.Mode, e.UID, e.GID, e.Xattrs = old.Mode, old.UID, old.GID, old.Xattrs
	a.replaced[p] = true
	return nil
}

// share sees to it that a file that has more names than are changed is not
// changed in its place, because it is also something that the plan leaves alone.
func (a *arrangement) share() error {
	type identity struct{ device, inode uint64 }
	names := map[identity][]string{}
	count := map[identity]uint64{}
	for p, e := range a.changes {
		if e.Type == manifest.Dir {
			continue
		}
		st, err := a.disk.lookup(p)
		if err != nil {
			return err
		}
		if st != nil && st.Nlink > 1 {
			id := identity{st.Dev, st.Ino}
			names[id], count[id] = append(names[id], p), uint64(st.Nlink)
		}
	}
	for id, paths := range names {
		if uint64(len(paths)) == count[id] {
			continue
		}
		for _, p := range paths {
			a.wanted[p] = &stagedNode{path: p, entry: a.changes[p]}
			a.replaced[p] = true
			delete(a.changes, p)
		}
	}
	return nil
}

// units makes the units of what is wanted, changed and deleted.
func (a *arrangement) units() error {
	units, inside := []*unit{}, map[string]*unit{}
	paths := slices.SortedFunc(maps.Keys(a.wanted), func(x, y string) int {
		return cmp.Or(cmp.Compare(strings.Count(x, "/"), strings.Count(y, "/")), cmp.Compare(x, y))
	})
	for _, p := range paths {
		w := a.wanted[p]
		u := inside[path.Dir(p)]
		if u == nil {
			u = &unit{Kind: create, Path: name(p)}
			if a.replaced[p] {
				u.Kind = swap
			}
			units = append(units, u)
		} else {
			u.Inside = append(u.Inside, name(strings.TrimPrefix(p, string(u.Path)+"/")))
		}
		u.nodes = append(u.nodes, *w)
		if inside[p] = nil; w.entry.Type == manifest.Dir {
			inside[p] = u
		}
	}
	for p, e := range a.changes {
		units = append(units, &unit{Kind: change, Path: name(p), After: attributesOf(e)})
	}
	for p := range a.deleted {
		if !slices.ContainsFunc(ancestors(p), func(up string) bool { return a.deleted[up] || a.replaced[up] }) {
			units = append(units, &unit{Kind: remove, Path: name(p)})
		}
	}
	slices.SortFunc(units, func(x, y *unit) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.Path, y.Path))
	})
	for i, u := range units {
		u.Slot, u.FS = i, a.fileSystem(string(u.Path))
		if err := a.surround(u); err != nil {
			return err
		}
		a.journal.Units = append(a.journal.Units, *u)
	}
	return nil
}

// rank orders the units: the new beside the old first, state files last.
func rank(u *unit) int {
	if len(u.nodes) > 0 && u.nodes[0].own {
		return 9
	}
	return map[kind]int{create: 0, swap: 1, change: 2, remove: 3}[u.Kind]
}

// surround notes what goes with a path, and that nothing is mounted there.
func (a *arrangement) surround(u *unit) error {
	if u.Kind != swap && u.Kind != remove {
		return nil
	}
	p := string(u.Path)
	if m, ok := a.mounts.mountBelow(p); ok {
		return fmt.Errorf("%s is to be %s, but a file system is mounted on %s", a.disk.name(p),
			map[kind]string{swap: "replaced", remove: "deleted"}[u.Kind], a.disk.name(m))
	}
	i, ok := a.index[p]
	if !ok {
		return nil // a state file
	}
	for i++; i < len(a.u.Disk.Entries) && strings.HasPrefix(a.u.Disk.Entries[i].Path, p+"/"); i++ {
		u.below = append(u.below, &a.u.Disk.Entries[i])
	}
	return nil
}

// preserve notes the files that scripts rewrite.
func (a *arrangement) preserve() error {
	for i, given := range a.u.Preserve {
		p := clean(given)
		st, err := a.disk.lookup(p)
		if err != nil {
			return err
		}
		kept := preserved{Path: name(p), FS: a.fileSystem(p), Slot: len(a.journal.Units) + i}
		if st != nil {
			if st.Mode&unix.S_IFMT != unix.S_IFREG {
				return fmt.Errorf("%s: it cannot be preserved, because it is not a regular file", a.disk.name(p))
			}
			kept.Old = nodeStateOf(st)
		}
		a.journal.Preserved = append(a.journal.Preserved, kept)
	}
	return nil
}

// directories notes the times of all that stay and that the changes disturb.
func (a *arrangement) directories() error {
	touched := map[string]bool{}
	for _, fs := range a.journal.FileSystems {
		touched[string(fs.Mount)] = true
	}
	for i := range a.journal.Units {
		switch u := &a.journal.Units[i]; {
		case u.Kind != change:
			touched[path.Dir(string(u.Path))] = true
		case a.changes[string(u.Path)].Type == manifest.Dir:
			touched[string(u.Path)] = true
		}
	}
	for _, p := range a.journal.Preserved {
		for _, up := range ancestors(string(p.Path)) {
			touched[up] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(touched)) {
		st, err := a.disk.lookup(p)
		if err != nil {
			return err
		}
		if st == nil || !isDir(st) {
			continue
		}
		dir := directory{Path: name(p), Before: modified(st), After: modified(st)}
		if e := a.changes[p]; e != nil {
			dir.After = timestampOf(e.ModTime)
		}
		a.journal.Directories = append(a.journal.Directories, dir)
	}
	return nil
}
