package transaction

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"
)

// Rollback brings the version before the last upgrade back, as it was. What
// was put since into directories that the upgrade made stays there, with the
// directories that it lies in.
func (m Machine) Rollback(ctx context.Context) (Result, error) {
	began := time.Now()
	if phase, err := m.phase(); err != nil {
		return Result{}, fmt.Errorf("roll back: %w", err)
	} else if phase == PhaseIdle {
		return Result{}, ErrNothingKept
	}
	s, err := m.begin()
	if err != nil {
		return Result{}, err
	}
	defer s.end()
	if err := s.endInterrupted(ctx, false); err != nil {
		return Result{}, err
	}
	if s.state.phase != PhaseKept {
		return Result{}, ErrNothingKept
	}
	j, err := s.disk.readJournal(s.state.current)
	if err != nil {
		return Result{}, fmt.Errorf("roll back: %w", err)
	}
	c := j.Counts
	result := Result{From: j.To, To: j.From, Created: c.Deleted, Replaced: c.Replaced, Changed: c.Changed, Deleted: c.Created}
	if err := s.readyToRollBack(j); err != nil {
		return result, err
	}
	if err := ctx.Err(); err != nil {
		return result, err
	}
	if err := s.disk.writeJournal(j); err != nil {
		return result, err
	}
	if err := s.proceed(PhaseArming, nil); err != nil {
		return result, err
	}
	if err := s.arm(ctx); err != nil {
		return result, errors.Join(err, s.proceed(PhaseKept, nil))
	}
	changing := time.Now()
	err = s.undo(context.WithoutCancel(ctx), j, len(j.Units))
	result.Changing, result.Total = time.Since(changing), time.Since(began)
	if err != nil {
		return result, fmt.Errorf("roll back to %s: %w", j.From, err)
	}
	return result, nil
}

// readyToRollBack makes sure that all can be undone, and takes out of the
// journal what is not to be undone.
func (s *session) readyToRollBack(j *journal) error {
	if err := s.disk.mounted(j); err != nil {
		return err
	}
	mounts, err := s.disk.mounts()
	if err != nil {
		return err
	}
	units, slot := []unit{}, j.nextSlot()
	for i := range j.Units {
		u := &j.Units[i]
		if err := s.disk.undoable(j, u, mounts); err != nil {
			return fmt.Errorf("roll back to %s: %w", j.From, err)
		}
		foreign, err := s.disk.foreign(u)
		switch {
		case err != nil:
			return err
		case len(foreign) == 0:
			units = append(units, *u)
			continue
		case u.Kind == swap:
			return fmt.Errorf("roll back to %s: %s was no directory before, and %s came into it since: move that away", j.From, s.disk.name(string(u.Path)), list(foreign))
		}
		s.Log.Warn("kept what came since into new directories", "paths", list(foreign))
		parts := u.split(foreign)
		for i := range parts {
			parts[i].Slot = slot
			slot++
		}
		units = append(units, parts...)
	}
	j.Units = units
	return nil
}

// nextSlot is a number that no slot has.
func (j *journal) nextSlot() int {
	n := 0
	for _, u := range j.Units {
		n = max(n, u.Slot+1)
	}
	for _, p := range j.Preserved {
		n = max(n, p.Slot+1)
	}
	return n
}

// undoable tells that what a unit needs is there.
func (d *disk) undoable(j *journal, u *unit, mounts table) error {
	p := string(u.Path)
	if u.Kind == change {
		return nil
	}
	if m, ok := mounts.mountBelow(p); ok {
		return fmt.Errorf("%s: a file system is mounted on it", d.name(m))
	}
	if u.Kind == create {
		return nil
	}
	if st, err := d.lookup(path.Dir(p)); err != nil || st == nil || !isDir(st) {
		return errors.Join(err, fmt.Errorf("%s: its directory is gone", d.name(p)))
	}
	st, err := d.lookup(j.oldSlot(u))
	if err != nil {
		return err
	}
	if st == nil || j.FileSystems[u.FS].Exchange && st.Ino != u.Old.Inode {
		return fmt.Errorf("%s: what was kept of %s is not there", d.name(j.oldSlot(u)), d.name(p))
	}
	return nil
}

// foreign are the paths in a new directory that did not come with it.
func (d *disk) foreign(u *unit) ([]string, error) {
	if u.Kind != create && u.Kind != swap {
		return nil, nil
	}
	st, err := d.lookup(string(u.Path))
	if err != nil || st == nil || !isDir(st) {
		return nil, err
	}
	inside := map[string]bool{}
	for _, n := range u.Inside {
		inside[path.Join(string(u.Path), string(n))] = true
	}
	var foreign []string
	var walk func(dir string) error
	walk = func(dir string) error {
		names, err := d.names(dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			p := path.Join(dir, n)
			if !inside[p] {
				foreign = append(foreign, p)
				continue
			}
			st, err := d.stat(p)
			if err == nil && isDir(st) {
				err = walk(p)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	err = walk(string(u.Path))
	slices.Sort(foreign)
	return foreign, err
}

// split makes units of the parts of a new directory in which nothing foreign
// lies.
func (u *unit) split(foreign []string) []unit {
	stays := map[string]bool{string(u.Path): true}
	for _, p := range foreign {
		for up := path.Dir(p); up != string(u.Path); up = path.Dir(up) {
			stays[up] = true
		}
	}
	parts := map[string]*unit{}
	for _, n := range u.Inside {
		p := path.Join(string(u.Path), string(n))
		if stays[p] {
			continue
		}
		if stays[path.Dir(p)] {
			parts[p] = &unit{Kind: create, Path: name(p), FS: u.FS}
		}
	}
	var all []unit
	for _, p := range slices.Sorted(maps.Keys(parts)) {
		all = append(all, *parts[p])
	}
	return all
}
