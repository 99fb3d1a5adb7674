package fstree

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
)

// Apply makes the tree at root equal to the manifest in everything but file
// content, which must be there already: it creates missing directories,
// symbolic links, device nodes, fifos and sockets, makes hard links of copies,
// and sets owners, modes, extended attributes (extra ones are removed) and
// times. It does not touch what the manifest does not name, follows no
// symbolic link, and leaves out everything under a mounted kernel interface
// (proc, sysfs, ...). It needs root's rights for anything that is not already
// as it should be. What is already right is not written, so a second Apply
// only reads.
//
// Errors name the paths that cannot become right; the others are right then.
func Apply(ctx context.Context, m *manifest.Manifest, root string, o Options) error {
	t, err := openTree(root)
	if err != nil {
		return err
	}
	defer t.Close()
	a := application{m: m, tree: t, o: o, state: make([]state, len(m.Entries)), found: make([]manifest.FileID, len(m.Entries))}
	a.units, _ = unitsOf(m, o.Exclude)
	for _, step := range []func(context.Context) error{a.look, a.create, a.link, a.attributes} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := a.faults.err(); err != nil {
		return fmt.Errorf("apply manifest to %s: %w", root, err)
	}
	return nil
}

// state of an entry on the disk.
type state byte

const (
	excluded state = iota // not looked at, or hidden under a mount
	right                 // the right object; its attributes may be wrong
	absent                // nothing there, or an object that can be replaced
	hopeless              // already reported
)

type application struct {
	m      *manifest.Manifest
	tree   *tree
	o      Options
	units  []unit
	faults faults
	state  []state           // by index; every goroutine writes its own
	found  []manifest.FileID // of non-directories in state right
}

// look finds out the state of every entry. A time can stay right in spite of
// the steps that follow only because all objects are made before any
// attribute is set: making one changes its directory's time.
func (a *application) look(ctx context.Context) error {
	return each(ctx, a.o.Workers, len(a.units), func(i int) error {
		u := a.units[i]
		if len(u.members) == 0 {
			return nil
		}
		d, err := a.tree.openDir(u.dir)
		if err != nil && !isAbsent(err) {
			return err
		}
		if err != nil {
			for _, j := range u.members {
				a.state[j] = absent
			}
			return nil
		}
		defer d.Close()
		if u.dir != "." && isPseudo(int(d.Fd())) {
			return nil
		}
		for _, j := range u.members {
			if err := a.lookAt(d, j); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

func (a *application) lookAt(d *dir, i int) error {
	want := &a.m.Entries[i]
	name := path.Base(want.Path)
	st, err := d.stat(name)
	if isAbsent(err) {
		a.state[i] = absent
		return nil
	}
	if err != nil {
		return err
	}
	got, err := DescribeStat(want.Path, st)
	if err != nil {
		return d.fail("describe", name, err)
	}
	var ok bool
	switch {
	case got.Type != want.Type:
		a.state[i] = absent
		if want.Type == manifest.File && want.Group == 0 || want.Type == manifest.Dir || got.Type == manifest.Dir {
			a.give(i, fmt.Errorf("%s is a %s, the manifest says %s", a.tree.name(want.Path), got.Type, want.Type))
		}
		return nil
	case got.Type == manifest.Symlink:
		if got.Link, err = readlinkAt(int(d.Fd()), name); err != nil {
			return d.fail("readlink", name, err)
		}
		ok = got.Link == want.Link
	case got.Type == manifest.File && want.Group != 0:
		ok = got.Size == want.Size
	default:
		ok = got.Major == want.Major && got.Minor == want.Minor
	}
	if a.state[i] = absent; ok {
		a.setRight(i, st)
	}
	return nil
}

func (a *application) setRight(i int, st *unix.Stat_t) {
	a.state[i] = right
	if a.m.Entries[i].Type != manifest.Dir {
		a.found[i] = identityOf(st)
	}
}

func (a *application) give(i int, err error) {
	a.state[i] = hopeless
	a.faults.add(err)
}

// create makes what is absent, directories before their content. Hard links
// are made of other members of their group when there is one.
func (a *application) create(ctx context.Context) error {
	linkable := map[int]bool{}
	for i, s := range a.state {
		if s == right {
			linkable[a.m.Entries[i].Group] = true
		}
	}
	for i, s := range a.state {
		e := &a.m.Entries[i]
		if s != absent || e.Group != 0 && linkable[e.Group] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Type == manifest.File {
			a.give(i, fmt.Errorf("%s is missing", a.tree.name(e.Path)))
			continue
		}
		if err := a.make(i); err != nil {
			a.give(i, err)
			continue
		}
		linkable[e.Group] = e.Group != 0
	}
	return nil
}

func (a *application) make(i int) error {
	e := &a.m.Entries[i]
	name := path.Base(e.Path)
	d, err := a.tree.openDir(path.Dir(e.Path))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.make(name, e); err != nil {
		return err
	}
	st, err := d.stat(name)
	if err != nil {
		return err
	}
	a.setRight(i, st)
	return nil
}

// link makes one file of every hard-link group.
func (a *application) link(ctx context.Context) error {
	present := func(i int) (manifest.FileID, bool) { return a.found[i], a.state[i] == right }
	for _, members := range a.m.Groups() {
		if err := ctx.Err(); err != nil {
			return err
		}
		var chiefs []int
		for _, part := range manifest.LinkParts(members, present, a.o.SplitLinks) {
			chief := a.chief(part)
			chiefs = append(chiefs, chief)
			for _, i := range part {
				if a.found[i] != a.found[chief] {
					a.linkOne(i, []int{chief})
				}
			}
		}
		for _, i := range members {
			if a.state[i] == absent {
				a.linkOne(i, chiefs)
			}
		}
	}
	return nil
}

// chief chooses the member of a part of a group that the others become links of:
// the first one, which most are already, or when they are not one file the first
// one that has the right content.
func (a *application) chief(members []int) int {
	chief := members[0]
	other := slices.ContainsFunc(members, func(i int) bool { return a.found[i] != a.found[chief] })
	if !other || a.m.Entries[chief].Type != manifest.File {
		return chief
	}
	if i := slices.IndexFunc(members, a.isIntact); i >= 0 {
		return members[i]
	}
	return chief
}

// isIntact tells whether a file has the manifest's content.
func (a *application) isIntact(i int) bool {
	got := a.m.Entries[i]
	d, err := a.tree.openDir(path.Dir(got.Path))
	if err != nil {
		return false
	}
	defer d.Close()
	return d.hash(&got, &progress{}) == nil && got.SHA256 == a.m.Entries[i].SHA256
}

// linkOne makes entry i a hard link of the first of the chiefs that lies on the same
// file system.
func (a *application) linkOne(i int, chiefs []int) {
	for n, chief := range chiefs {
		err := a.linkTo(i, chief)
		if err == nil {
			a.state[i], a.found[i] = right, a.found[chief]
			return
		}
		if errors.Is(err, unix.EXDEV) {
			err = fmt.Errorf("%s and %s are hard links of one file in the manifest, but lie on different file systems here",
				a.tree.name(a.m.Entries[chief].Path), a.tree.name(a.m.Entries[i].Path))
		}
		if n == len(chiefs)-1 {
			a.give(i, err)
		}
	}
}

func (a *application) linkTo(i, chief int) error {
	from, to := a.m.Entries[chief].Path, a.m.Entries[i].Path
	source, err := a.tree.openDir(path.Dir(from))
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := a.tree.openDir(path.Dir(to))
	if err != nil {
		return err
	}
	defer target.Close()
	return target.link(path.Base(to), source, path.Base(from))
}

// attributes sets owner, extended attributes, mode and time of all entries.
func (a *application) attributes(ctx context.Context) error {
	return each(ctx, a.o.Workers, len(a.units), func(i int) error {
		u := a.units[i]
		if !slices.ContainsFunc(u.members, func(j int) bool { return a.state[j] == right }) {
			return nil
		}
		d, err := a.tree.openDir(u.dir)
		if err != nil {
			return err
		}
		defer d.Close()
		for _, j := range u.members {
			if a.state[j] == right {
				a.faults.add(d.settle(&a.m.Entries[j]))
			}
		}
		return ctx.Err()
	})
}
