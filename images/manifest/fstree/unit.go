package fstree

import (
	"context"
	"path"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"edeploy/images/manifest"
)

// unit is the work of one goroutine at a time: some entries of one directory.
type unit struct {
	dir     string
	members []int // indexes into Manifest.Entries; the root is a member of itself
	first   bool  // of the units of this directory
}

// A unit ends at this many members or bytes, so that a directory of large
// files is shared between goroutines.
const (
	unitMembers = 128
	unitBytes   = 16 << 20
)

// unitsOf cuts the manifest's entries, without the excluded ones, into units.
// Every directory has one at least. size is that of their files.
func unitsOf(m *manifest.Manifest, exclude func(string) bool) (units []unit, size int64) {
	last := map[string]int{} // directory -> its last unit
	bytes := map[string]int64{}
	begin := func(dir string, first bool) {
		last[dir] = len(units)
		bytes[dir] = 0
		units = append(units, unit{dir: dir, first: first})
	}
	left := newExclusion(exclude)
	for i := range m.Entries {
		e := &m.Entries[i]
		if left.out(e.Path) {
			continue
		}
		dir := path.Dir(e.Path)
		if e.Type == manifest.Dir {
			begin(e.Path, true)
		}
		if u := &units[last[dir]]; len(u.members) >= unitMembers || bytes[dir] >= unitBytes {
			begin(dir, false)
		}
		u := &units[last[dir]]
		u.members = append(u.members, i)
		bytes[dir] += e.Size
		size = manifest.AddSizes(size, e.Size)
	}
	return units, size
}

// exclusion extends an Exclude function to everything below an excluded path,
// for paths asked in path order.
type exclusion struct {
	ask   func(string) bool
	above string
}

func newExclusion(ask func(string) bool) *exclusion { return &exclusion{ask: ask} }

func (x *exclusion) out(path string) bool {
	if x.ask == nil || path == "." {
		return false
	}
	if x.above != "" && len(path) > len(x.above) && path[:len(x.above)] == x.above && path[len(x.above)] == '/' {
		return true
	}
	if x.ask(path) {
		x.above = path
		return true
	}
	return false
}

// each calls work for every index below n from several goroutines and answers
// the first error.
func each(ctx context.Context, workers, n int, work func(i int) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	g, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	g.Go(func() error {
		defer close(next)
		for i := range n {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		g.Go(func() error {
			for i := range next {
				if err := work(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// buffers for reading file content.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// progress counts bytes and tells of them now and then.
type progress struct {
	mu    sync.Mutex
	tell  func(done, total int64)
	done  int64
	total int64
	told  time.Time
}

func (p *progress) add(n int) {
	if p.tell == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += int64(n)
	if now := time.Now(); now.Sub(p.told) >= 100*time.Millisecond {
		p.told = now
		p.tell(p.done, p.total)
	}
}

// end tells the final count; nobody adds to it any more.
func (p *progress) end() {
	if p.tell != nil {
		p.tell(p.done, p.total)
	}
}
