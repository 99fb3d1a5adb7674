package plan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"sync"

	"edeploy/agent/internal/filter"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"

	"golang.org/x/sys/unix"
)

// Scan describes the disk at root as far as New needs it. What exclude hides is
// not read: hidden paths are described without content, and below a hidden
// directory only paths that the target has, so live data may change meanwhile.
func Scan(ctx context.Context, root string, target *manifest.Manifest, exclude filter.List, progress func(done, total int64)) (*manifest.Manifest, error) {
	s := &scan{root: root, exclude: exclude}
	seen, err := fstree.Walk(ctx, root, fstree.Options{Exclude: s.hide, Progress: progress})
	if err == nil {
		err = errors.Join(s.faults...)
	}
	if err != nil {
		return nil, err
	}
	entries := append(seen.Entries, s.hidden...)
	below, err := s.below(target)
	if err != nil {
		return nil, err
	}
	return manifest.New(append(entries, below...))
}

type scan struct {
	root    string
	exclude filter.List

	mu     sync.Mutex
	hidden []manifest.Entry // the topmost hidden paths
	faults []error
}

// hide is fstree.Options.Exclude: it describes what it excludes.
func (s *scan) hide(name string) bool {
	e, err := s.describe(name, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true // it went away since the directory was read
	case err != nil:
		s.faults = append(s.faults, err)
		return true
	case !s.exclude.Excludes(name, e.Type == manifest.Dir):
		return false
	}
	s.hidden = append(s.hidden, e)
	return true
}

// below describes what the target has below hidden directories, never through
// a symbolic link.
func (s *scan) below(target *manifest.Manifest) ([]manifest.Entry, error) {
	dirs := map[string]bool{}
	for i := range s.hidden {
		e := &s.hidden[i]
		if e.Type != manifest.Dir {
			continue
		}
		dirs[e.Path] = true
		if want, ok := target.Lookup(e.Path); ok {
			described, err := s.describe(e.Path, want)
			if err != nil {
				return nil, err
			}
			*e = described
		}
	}
	var found []manifest.Entry
	for i := range target.Entries {
		want := &target.Entries[i]
		if !dirs[path.Dir(want.Path)] {
			continue
		}
		e, err := s.describe(want.Path, want)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		dirs[want.Path] = e.Type == manifest.Dir
		found = append(found, e)
	}
	return found, nil
}

// describe describes a path without its content; of its extended attributes
// those that the wanted entry has.
func (s *scan) describe(name string, want *manifest.Entry) (manifest.Entry, error) {
	full := filepath.Join(s.root, name)
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return manifest.Entry{}, &os.PathError{Op: "look at", Path: full, Err: err}
	}
	e, err := fstree.DescribeStat(name, &st)
	if err != nil {
		return e, fmt.Errorf("%s: %w", full, err)
	}
	if e.Type == manifest.Symlink {
		e.Mode = 0o777
		e.Link, err = os.Readlink(full)
	}
	if err != nil || want == nil || want.Type != manifest.Dir || e.Type != manifest.Dir {
		return e, err
	}
	if e.Xattrs, err = fstree.Xattrs(full); err != nil {
		return e, fmt.Errorf("extended attributes of %s: %w", full, err)
	}
	maps.DeleteFunc(e.Xattrs, func(name string, _ []byte) bool { _, wanted := want.Xattrs[name]; return !wanted })
	return e, nil
}
