package transaction

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"

	"edeploy/images/manifest"

	"golang.org/x/sync/errgroup"
)

const fetchers = 4

// staging makes everything that is to come in the slots.
type staging struct {
	disk    *disk
	j       *journal
	u       *Upgrade
	pool    *pool
	tell    *progress
	places  map[string]string // path of the tree -> where it is staged
	files   [][]*stagedNode   // those of one content together
	links   []*stagedNode
	dirs    []*stagedNode
	special []*stagedNode // symbolic links, devices, ...
}

func newStaging(d *disk, j *journal, u *Upgrade, tell *progress) *staging {
	s := &staging{disk: d, j: j, u: u, tell: tell, places: map[string]string{}}
	first := map[[32]byte]int{} // index in files
	for i := range j.Units {
		unit := &j.Units[i]
		for n := range unit.nodes {
			w := &unit.nodes[n]
			w.at, w.fs = j.staged(unit, w), unit.FS
			s.places[w.path] = w.at
			switch {
			case w.link != "" || w.leader != "":
				s.links = append(s.links, w)
			case w.entry.Type == manifest.Dir:
				s.dirs = append(s.dirs, w)
			case w.entry.Type == manifest.File:
				at, ok := first[w.entry.SHA256]
				if !ok {
					at = len(s.files)
					first[w.entry.SHA256], s.files = at, append(s.files, nil)
				}
				s.files[at] = append(s.files[at], w)
				s.tell.total += w.entry.Size
			default:
				s.special = append(s.special, w)
			}
		}
	}
	return s
}

// run stages. Directories come first and get their attributes last.
func (s *staging) run(ctx context.Context) error {
	steps := []func() error{
		func() error { return each(ctx, s.dirs, func(p *stagedNode) error { return s.disk.mkdir(p.at, 0o700) }) },
		func() error { return each(ctx, s.special, s.makeSpecial) },
		func() error { return s.makeFiles(ctx) },
		func() error { return each(ctx, s.links, s.makeLink) },
		func() error { slices.Reverse(s.dirs); return each(ctx, s.dirs, s.setAttributes) },
		func() error { return each(ctx, s.j.Preserved, func(p preserved) error { return s.preserve(ctx, p) }) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	s.tell.end()
	return nil
}

func each[T any](ctx context.Context, all []T, do func(T) error) error {
	for _, one := range all {
		if err := do(one); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *staging) setAttributes(p *stagedNode) error {
	return s.disk.setAttributes(p.at, attributesOf(p.entry), true)
}

func (s *staging) makeSpecial(p *stagedNode) error {
	create := func() error { return s.disk.mknod(p.at, p.entry) }
	if p.entry.Type == manifest.Symlink {
		create = func() error { return s.disk.symlink(p.entry.Link, p.at) }
	}
	if err := create(); err != nil {
		return err
	}
	return s.setAttributes(p)
}

func (s *staging) makeFiles(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for _, files := range s.files {
		g.Go(func() error { return s.make(ctx, files) })
	}
	return g.Wait()
}

// make stages all files of one content: the first from wherever it is to be
// had, the others from the first.
func (s *staging) make(ctx context.Context, files []*stagedNode) error {
	for i, p := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if i == 0 {
			err = s.obtain(ctx, p)
		} else {
			err = s.copyFrom(ctx, p, files[0].at)
		}
		if err == nil {
			err = s.setAttributes(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// obtain stages a file's content. What an earlier attempt staged is moved,
// what the disk has is copied, the rest comes from the source.
func (s *staging) obtain(ctx context.Context, p *stagedNode) error {
	e := p.entry
	if e.Size == 0 || p.own {
		_, err := s.fill(ctx, p, bytes.NewReader(p.content))
		return err
	}
	if at, ok := s.pool.claim(e.SHA256, p.fs); ok {
		s.tell.add(e.Size)
		return s.disk.rename(at, p.at, 0)
	}
	for _, at := range s.pool.local[e.SHA256] {
		if err := s.copyFrom(ctx, p, at); err == nil || ctx.Err() != nil || s.disk.isFull(err) {
			return err
		}
		if err := s.disk.removeAll(p.at); err != nil {
			return err
		}
	}
	if s.u.Source == nil {
		return fmt.Errorf("fetch %s: no source is given", manifest.Escape(e.Path))
	}
	content, err := s.u.Source.Open(ctx, e)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", manifest.Escape(e.Path), err)
	}
	defer content.Close()
	n, err := s.fill(ctx, p, content)
	s.tell.count(&s.tell.fetched, n, err)
	return err
}

func (s *staging) copyFrom(ctx context.Context, p *stagedNode, at string) error {
	from, err := s.disk.read(at)
	if err != nil {
		return err
	}
	defer from.Close()
	n, err := s.fill(ctx, p, from)
	s.tell.count(&s.tell.copied, n, err)
	return err
}

func (s *staging) makeLink(p *stagedNode) error {
	from := p.link
	if from == "" {
		from = s.places[p.leader]
	} else if err := s.same(from); err != nil {
		return err
	}
	return s.disk.link(from, p.at)
}

// same tells that a file of the tree which gets another name is what the plan saw.
func (s *staging) same(path string) error {
	st, err := s.disk.stat(path)
	if err != nil {
		return err
	}
	e, _ := s.u.Disk.Lookup(path)
	if what := deviation(e, st, true); what != "" {
		return s.disk.changed(path, what)
	}
	return nil
}

// preserve copies a file that scripts rewrite.
func (s *staging) preserve(ctx context.Context, p preserved) error {
	if p.Old == nil {
		return nil
	}
	a, err := s.disk.attributes(string(p.Path))
	if err != nil {
		return err
	}
	from, err := s.disk.read(string(p.Path))
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := s.disk.create(s.j.slotOf(p))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := s.disk.copy(ctx, f, from, func(int) {}); err != nil {
		return err
	}
	return s.disk.setAttributes(s.j.slotOf(p), a, true)
}

func (j *journal) slotOf(p preserved) string {
	return path.Join(slots(string(j.FileSystems[p.FS].Mount), j.Number), strconv.Itoa(p.Slot))
}

// fill makes a staged file and proves that its content is the target's.
func (s *staging) fill(ctx context.Context, p *stagedNode, content io.Reader) (n int64, err error) {
	f, err := s.disk.create(p.at)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	limited := io.LimitReader(content, p.entry.Size+1)
	defer func() {
		if err != nil {
			s.tell.add(-n)
		}
	}()
	sum, err := s.disk.copy(ctx, f, limited, func(written int) {
		n += int64(written)
		s.tell.add(int64(written))
	})
	switch {
	case err != nil:
		return n, fmt.Errorf("fetch %s: %w", manifest.Escape(p.entry.Path), err)
	case n != p.entry.Size:
		return n, fmt.Errorf("fetch %s: %d bytes came, the manifest says %d", manifest.Escape(p.entry.Path), n, p.entry.Size)
	case sum != p.entry.SHA256:
		return n, fmt.Errorf("fetch %s: the content's SHA-256 is %x, the manifest says %x", manifest.Escape(p.entry.Path), sum, p.entry.SHA256)
	}
	return n, nil
}
