package manifest

import (
	"context"
	"fmt"
	"sync"
)

// Walk describes the tree at root. Mounted file systems that belong to it are
// described too; of a mounted kernel interface (proc, sysfs, ...) only the
// directory it is mounted on. A file that changes while it is read is an error.
func Walk(ctx context.Context, root string, o Options) (*Manifest, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	entries, err := t.list(ctx, o)
	if err != nil {
		return nil, err
	}
	m, err := New(entries)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", root, err)
	}
	if err := m.hash(ctx, t, o); err != nil {
		return nil, err
	}
	return m, nil
}

// list describes every path but for its content, one level of directories
// after the other.
func (t *tree) list(ctx context.Context, o Options) ([]Entry, error) {
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
	found := listing{entries: []Entry{e}, groups: map[identity]int{}}
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
	entries []Entry
	deeper  []string         // directories still to be listed
	groups  map[identity]int // files with more than one name
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
	descend := e.Type == Dir && !isPseudo(n.fd)
	found.mu.Lock()
	defer found.mu.Unlock()
	if len(found.entries) == MaxEntries {
		return fmt.Errorf("describe %s: more than %d entries", d.tree.root, MaxEntries)
	}
	if e.Type != Dir && n.stat.Nlink > 1 {
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
func (m *Manifest) hash(ctx context.Context, t *tree, o Options) error {
	p := progress{tell: o.Progress, total: m.TotalBytes()}
	units := m.units(nil)
	err := each(ctx, o.Workers, len(units), func(i int) error {
		d, err := t.openDir(units[i].dir)
		if err != nil {
			return err
		}
		defer d.Close()
		for _, j := range units[i].members {
			if e := &m.Entries[j]; e.Type == File {
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

func (d *dir) hash(e *Entry, p *progress) error {
	_, name := split(e.Path)
	n, err := d.open(name)
	if err != nil {
		return err
	}
	defer n.close()
	if typeOf(&n.stat) != File {
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
