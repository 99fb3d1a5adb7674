package transaction

import (
	"fmt"
	"path"
	"strings"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"

	"golang.org/x/sys/unix"
)

// observe notes what is at the path of a unit, and that it is what the plan saw.
func (d *disk) observe(u *unit, seenBefore *manifest.Manifest) error {
	p := string(u.Path)
	st, err := d.lookup(p)
	switch {
	case err != nil:
		return err
	case u.Kind == create && st == nil:
		return nil
	case u.Kind == create:
		return fmt.Errorf("%s: %w: it has come into being", d.name(p), ErrChanged)
	case st == nil:
		return fmt.Errorf("%s: %w: it has gone", d.name(p), ErrChanged)
	}
	u.Old = nodeStateOf(st)
	e, ok := seenBefore.Lookup(p)
	switch own := len(u.nodes) > 0 && u.nodes[0].own; {
	case ok:
		if what := deviation(e, st, u.Kind != change); what != "" {
			return d.changed(p, what)
		}
		if e.Type == manifest.File && e.SHA256 != [32]byte{} {
			u.Old.SHA256 = e.SHA256[:]
		}
	case !own:
		return fmt.Errorf("%s: the plan has it, the description of the disk has not", d.name(p))
	}
	if u.Kind == change {
		u.Before, err = d.attributes(p)
	}
	return err
}

func (d *disk) changed(path, what string) error {
	return fmt.Errorf("%s: %w: its %s is another one", d.name(path), ErrChanged, what)
}

// deviation names what of a node is not as it was described, "" when all is.
// Times of directories count when all that is in them goes with them.
func deviation(e *manifest.Entry, st *unix.Stat_t, wholeDir bool) string {
	timed := e.Type == manifest.File || e.Type == manifest.Symlink || e.Type == manifest.Dir && wholeDir
	switch {
	case st.Mode&unix.S_IFMT != fstree.FormatOf(e.Type):
		return "type"
	case st.Mode&0o7777 != e.Mode && e.Type != manifest.Symlink:
		return "mode"
	case st.Uid != e.UID || st.Gid != e.GID:
		return "owner"
	case e.Type == manifest.File && st.Size != e.Size:
		return "size"
	case timed && modified(st) != timestampOf(e.ModTime):
		return "time"
	}
	return ""
}

// unchanged tells, directly before a unit is applied, that what is at its path
// is still what look noted.
func (d *disk) unchanged(u *unit) error {
	if u.Kind == create {
		return nil // a move to a path where something is fails
	}
	p, old := string(u.Path), u.Old
	dir, base, err := d.parent(p)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return d.fail("stat", p, err)
	}
	if what := old.deviation(&st, u); what != "" {
		return d.changed(p, what)
	}
	for _, e := range u.below {
		// Only names that were just found to be directories lead there.
		inside := base + strings.TrimPrefix(e.Path, p)
		if err := unix.Fstatat(dir, inside, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return d.fail("stat", path.Join(path.Dir(p), inside), err)
		}
		if what := deviation(e, &st, true); what != "" {
			return d.changed(e.Path, what)
		}
	}
	return nil
}

func (old *nodeState) deviation(st *unix.Stat_t, u *unit) string {
	if st.Ino != old.Inode || st.Mode&unix.S_IFMT != old.Mode&unix.S_IFMT {
		return "identity"
	}
	if u.Kind == change && old.names > 1 && u.After.on(st) {
		return "" // it was changed under another of its names
	}
	timed := !isDir(st) || u.Kind != change
	switch {
	case st.Mode != old.Mode:
		return "mode"
	case st.Uid != old.UID || st.Gid != old.GID:
		return "owner"
	case !isDir(st) && st.Size != old.Size:
		return "size"
	case timed && modified(st) != old.Time:
		return "time"
	case !isDir(st) && old.names == 1 && st.Nlink == 1 && statusTime(st) != old.status:
		// A new name, such as the boot guard gives the kernel, changes it too.
		return "status"
	}
	return ""
}

// on tells whether a node has these attributes, as far as stat shows them.
func (a *attributes) on(st *unix.Stat_t) bool {
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	return (link || st.Mode&0o7777 == a.Mode) && st.Uid == a.UID && st.Gid == a.GID && modified(st) == a.Time
}
