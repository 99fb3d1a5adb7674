package fstree

import (
	"context"
	"errors"
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
)

// Verify compares the tree at root with the manifest: every attribute of every
// entry, file content by its hash unless Options.Unread. The differences come in path order; an
// error means that something could not be looked at, and says nothing about
// the rest. Paths hidden under a mounted kernel interface (proc, sysfs, ...)
// are passed over. Verify never changes anything.
func Verify(ctx context.Context, m *manifest.Manifest, root string, o Options) ([]manifest.Difference, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	v := verification{m: m, tree: t, o: o, found: make([]manifest.FileID, len(m.Entries))}
	units, size := unitsOf(m, o.Exclude)
	v.progress = progress{tell: o.Progress, total: size}
	err = each(ctx, o.Workers, len(units), func(i int) error {
		diffs, err := v.unit(ctx, units[i])
		v.mu.Lock()
		v.diffs = append(v.diffs, diffs...)
		v.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			v.faults.add(err)
			return nil
		}
		return err
	})
	v.progress.end()
	if err != nil {
		return nil, err
	}
	v.diffs = append(v.diffs, m.CompareLinks(func(i int) (manifest.FileID, bool) {
		return v.found[i], v.found[i] != manifest.FileID{}
	}, o.SplitLinks)...)
	manifest.SortDifferences(v.diffs)
	return v.diffs, v.faults.err()
}

type verification struct {
	m        *manifest.Manifest
	tree     *tree
	o        Options
	progress progress
	faults   faults
	found    []manifest.FileID // of entries with more than themselves to be; zero: not there or a directory

	mu    sync.Mutex
	diffs []manifest.Difference
}

// unit compares some entries of one directory. An entry that cannot be looked
// at does not keep it from the others.
func (v *verification) unit(ctx context.Context, u unit) ([]manifest.Difference, error) {
	d, err := v.tree.openDir(u.dir)
	if err != nil {
		if !isAbsent(err) {
			return nil, err
		}
		var diffs []manifest.Difference
		for _, i := range u.members {
			diffs = append(diffs, manifest.Compare(&v.m.Entries[i], nil)...)
			v.progress.add(int(v.m.Entries[i].Size))
		}
		return diffs, nil
	}
	defer d.Close()
	if u.dir != "." && isPseudo(int(d.Fd())) {
		return nil, nil
	}
	var diffs []manifest.Difference
	var errs []error
	for _, i := range u.members {
		if err := ctx.Err(); err != nil {
			return diffs, err
		}
		found, err := v.entry(d, i)
		diffs = append(diffs, found...)
		errs = append(errs, err)
	}
	if u.first && v.o.Extras {
		found, err := v.extras(d)
		diffs = append(diffs, found...)
		errs = append(errs, err)
	}
	return diffs, errors.Join(errs...)
}

// entry compares one entry.
func (v *verification) entry(d *dir, i int) ([]manifest.Difference, error) {
	want := &v.m.Entries[i]
	n, err := d.open(path.Base(want.Path))
	if err != nil {
		v.progress.add(int(want.Size))
		if isAbsent(err) {
			return manifest.Compare(want, nil), nil
		}
		return nil, err
	}
	defer n.close()
	if want.Type == manifest.Dir && want.Path != "." && isPseudo(n.fd) {
		return nil, nil
	}
	got, err := n.describe(want.Path)
	if err != nil {
		return nil, err
	}
	if got.Type == want.Type && got.Type != manifest.Dir {
		v.found[i] = identityOf(&n.stat)
	}
	if got.Type != manifest.File || want.Type != manifest.File || got.Size != want.Size {
		v.progress.add(int(want.Size))
		return manifest.Compare(want, &got), nil
	}
	if v.o.Unread {
		got.SHA256 = want.SHA256
		v.progress.add(int(want.Size))
		return manifest.Compare(want, &got), nil
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	if got.SHA256, got.Size, err = n.sum(*buffer, v.progress.add); err != nil {
		return nil, err
	}
	return manifest.Compare(want, &got), nil
}

// extras reports names that the manifest does not have.
func (v *verification) extras(d *dir) ([]manifest.Difference, error) {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var diffs []manifest.Difference
	for _, name := range names {
		extra := &manifest.Entry{Path: d.child(name)}
		if _, ok := v.m.Lookup(extra.Path); ok || v.o.Exclude != nil && v.o.Exclude(extra.Path) {
			continue
		}
		st, err := d.stat(name)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return diffs, err
		}
		if !isLostFound(name, st) {
			extra.Type = typeOf(st)
			diffs = append(diffs, manifest.Compare(nil, extra)...)
		}
	}
	return diffs, nil
}

// isLostFound knows the directory that mkfs.ext* makes in every file system:
// inode 11 (EXT4_GOOD_OLD_FIRST_INO of the kernel).
func isLostFound(name string, st *unix.Stat_t) bool {
	return name == "lost+found" && typeOf(st) == manifest.Dir && st.Ino == 11
}
