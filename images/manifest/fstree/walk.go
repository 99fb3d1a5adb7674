// Package fstree is a tree of files on a disk beside its manifest: it describes one
// (Walk), compares it (Verify), makes it equal but for content (Apply), and makes
// one anew of entries with their content (Writer).
//
// A path of a manifest is walked from the open root, never through a symbolic link,
// so that nothing outside the root can be reached whatever the tree holds. It runs
// on Linux, with /proc mounted.
package fstree

import (
	"context"
	"fmt"
	"path"
	"sync"

	"edeploy/images/manifest"
)

// Walk describes the tree at root. Mounted file systems that belong to it are
// described too; of a mounted kernel interface (proc, sysfs, ...) only the
// directory it is mounted on. A file that changes while it is read is an error.
func Walk(ctx context.Context, root string, o Options) (*manifest.Manifest, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	entries, err := t.list(ctx, o)
	if err != nil {
		return nil, err
	}
	m, err := manifest.New(entries)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", root, err)
	}
	if err := t.hash(ctx, m, o); err != nil {
		return nil, err
	}
	return m, nil
}

// list describes every path but for its content, one level of directories
// after the other.
func (t *tree) list(ctx context.Context, o Options) ([]manifest.Entry, error) {
	top, err := t.openDir(".")
	if err != nil {
		return nil, err
	}
	defer top.Close()
	root, err := top.open(".")
	if err != nil {
		return nil, err
	}
	defer root.close()
	e, err := root.describe(".")
	if err != nil {
		return nil, err
	}
	found := listing{entries: []manifest.Entry{e}, groups: map[manifest.FileID]int{}}
	for level := []string{"."}; len(level) > 0; {
		found.deeper = nil
		err := each(ctx, o.Workers, len(level), func(i int) error { return t.listDir(level[i], o, &found) })
		if err != nil {
			return nil, err
		}
		level = found.deeper
	}
	return found.entries, nil
}

// listing collects what goroutines find.
type listing struct {
	mu      sync.Mutex
	entries []manifest.Entry
	deeper  []string                // directories still to be listed
	groups  map[manifest.FileID]int // files with more than one name
}

func (t *tree) listDir(path string, o Options, found *listing) error {
	d, err := t.openDir(path)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if o.Exclude != nil && o.Exclude(d.child(name)) {
			continue
		}
		if err := d.listName(name, found); err != nil {
			return err
		}
	}
	return nil
}

func (d *dir) listName(name string, found *listing) error {
	n, err := d.open(name)
	if err != nil {
		return err
	}
	defer n.close()
	e, err := n.describe(d.child(name))
	if err != nil {
		return err
	}
	descend := e.Type == manifest.Dir && !isPseudo(n.fd)
	found.mu.Lock()
	defer found.mu.Unlock()
	if len(found.entries) == manifest.MaxEntries {
		return fmt.Errorf("describe %s: more than %d entries", d.tree.root, manifest.MaxEntries)
	}
	if e.Type != manifest.Dir && n.stat.Nlink > 1 {
		id := identityOf(&n.stat)
		if found.groups[id] == 0 {
			found.groups[id] = len(found.groups) + 1
		}
		e.Group = found.groups[id]
	}
	found.entries = append(found.entries, e)
	if descend {
		found.deeper = append(found.deeper, e.Path)
	}
	return nil
}

// hash fills in the SHA-256 of every file.
func (t *tree) hash(ctx context.Context, m *manifest.Manifest, o Options) error {
	units, size := unitsOf(m, nil)
	p := progress{tell: o.Progress, total: size}
	err := each(ctx, o.Workers, len(units), func(i int) error {
		d, err := t.openDir(units[i].dir)
		if err != nil {
			return err
		}
		defer d.Close()
		for _, j := range units[i].members {
			if e := &m.Entries[j]; e.Type == manifest.File {
				if err := d.hash(e, &p); err != nil {
					return err
				}
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	p.end()
	return err
}

func (d *dir) hash(e *manifest.Entry, p *progress) error {
	n, err := d.open(path.Base(e.Path))
	if err != nil {
		return err
	}
	defer n.close()
	if typeOf(&n.stat) != manifest.File {
		return fmt.Errorf("describe %s: it changed meanwhile", n.path)
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	sum, size, err := n.sum(*buffer, p.add)
	if err != nil {
		return err
	}
	if size != e.Size {
		return fmt.Errorf("describe %s: it changed meanwhile", n.path)
	}
	e.SHA256 = sum
	return nil
}
