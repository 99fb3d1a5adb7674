package transaction

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
)

// old is the second name of a slot where two names cannot change places.
const old = ".old"

// oldSlot is where what a unit replaced or removed lies.
func (j *journal) oldSlot(u *unit) string {
	if u.Kind == swap && !j.FileSystems[u.FS].Exchange {
		return j.slot(u) + old
	}
	return j.slot(u)
}

func (d *disk) apply(j *journal, u *unit) error {
	slot, path := j.slot(u), string(u.Path)
	switch u.Kind {
	case create:
		return d.move(slot, path)
	case remove:
		return d.move(path, slot)
	case change:
		return d.setAttributes(path, u.After, u.Old.Mode&unix.S_IFMT != unix.S_IFDIR)
	}
	if j.FileSystems[u.FS].Exchange {
		return d.exchange(slot, path)
	}
	if err := d.move(path, slot+old); err != nil {
		return err
	}
	return d.move(slot, path)
}

// undo brings the version before back, as far as that has not been done
// already, and ends the transaction. Only the first units may have been applied.
func (s *session) undo(ctx context.Context, j *journal, applied int) error {
	if s.state.phase != PhaseUndoing {
		if err := s.proceed(PhaseUndoing, nil); err != nil {
			return err
		}
	}
	if err := s.disk.mounted(j); err != nil {
		return err
	}
	var faults []error
	total := int64(applied)
	for i := applied - 1; i >= 0; i-- {
		if err := s.disk.undo(j, &j.Units[i]); err != nil {
			faults = append(faults, err)
		}
		if done := total - int64(i); done%100 == 0 || done == total {
			s.tell(StepUndo, done, total)
		}
	}
	for _, p := range j.Preserved {
		faults = append(faults, s.disk.restore(j, p))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	if err := s.proceed(PhaseUndone, j); err != nil {
		return err
	}
	return s.finish(ctx, j)
}

// undo undoes a unit if it was applied, which the disk tells.
func (d *disk) undo(j *journal, u *unit) error {
	slot, path := j.slot(u), string(u.Path)
	inSlot, err := d.lookup(slot)
	if err != nil {
		return err
	}
	there, err := d.lookup(path)
	if err != nil {
		return err
	}
	switch u.Kind {
	case create:
		if inSlot != nil || there == nil {
			return nil
		}
		return d.move(path, slot)
	case change:
		if there == nil || there.Mode&unix.S_IFMT != u.Old.Mode&unix.S_IFMT {
			return nil // after a rollback it cannot be what it was
		}
		return d.setAttributes(path, u.Before, !isDir(there))
	}
	switch {
	case u.Kind == swap && !j.FileSystems[u.FS].Exchange:
		return d.undoRenames(slot, path, inSlot != nil, there != nil)
	case inSlot == nil:
		return nil
	case j.FileSystems[u.FS].Exchange && inSlot.Ino != u.Old.Inode:
		return nil // what was to come, or what somebody made of it since
	case there == nil:
		return d.move(slot, path)
	case j.FileSystems[u.FS].Exchange:
		return d.exchange(slot, path)
	}
	// Something is where a deleted path was: it goes.
	if err := d.move(path, slot+".made"); err != nil {
		return err
	}
	return d.move(slot, path)
}

// undoRenames undoes a swap that was made of two renames, or half of it.
func (d *disk) undoRenames(slot, path string, staged, there bool) error {
	before, err := d.lookup(slot + old)
	if err != nil || before == nil {
		return err
	}
	switch {
	case there && staged:
		return d.fail("restore", path, unix.EEXIST)
	case there:
		if err := d.move(path, slot); err != nil {
			return err
		}
	}
	return d.move(slot+old, path)
}

// restore puts a file that scripts rewrite back.
func (d *disk) restore(j *journal, p preserved) error {
	slot, path := j.slotOf(p), string(p.Path)
	there, err := d.lookup(path)
	if err != nil {
		return err
	}
	if p.Old == nil {
		if there == nil || isDir(there) {
			return nil
		}
		return d.rename(path, slot, 0)
	}
	if there != nil && there.Ino == p.Old.Inode && there.Size == p.Old.Size && modified(there) == p.Old.Time {
		return nil
	}
	if kept, err := d.lookup(slot); kept == nil {
		return err // it was put back already
	}
	return d.rename(slot, path, 0)
}
