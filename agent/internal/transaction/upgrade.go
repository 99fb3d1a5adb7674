package transaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Upgrade carries the plan out. After an error the tree is as it was, unless
// the error says that putting it back went wrong (it then does not wrap
// ErrUndone, and Recover is to be called). What was staged before an error is
// used by the next attempt.
func (m Machine) Upgrade(ctx context.Context, u Upgrade) (Result, error) {
	began := time.Now()
	result := Result{From: u.From, To: u.To}
	if len(u.Plan.Conflicts) > 0 {
		return result, fmt.Errorf("upgrade to %s: %s", u.To, u.Plan.Conflicts[0])
	}
	s, err := m.begin()
	if err != nil {
		return result, err
	}
	defer s.end()
	if err := s.endInterrupted(ctx, true); err != nil {
		return result, err
	}
	j, err := s.stage(ctx, &u, &result)
	if err != nil {
		if s.disk.isFull(err) {
			err = errors.Join(err, s.finish(context.WithoutCancel(ctx), nil))
		}
		return result, err
	}
	if err := s.pre(ctx, &u); err != nil {
		return result, err
	}
	err = s.apply(ctx, &u, j, &result)
	result.Total = time.Since(began)
	return result, err
}

// endInterrupted ends what an earlier process left, when that is safe. What it staged can
// be kept for another attempt.
func (s *session) endInterrupted(ctx context.Context, keepStaged bool) error {
	switch p := s.state.phase; {
	case p.changing():
		return fmt.Errorf("%s: %w", s.disk.name("."), ErrUnfinished)
	case keepStaged && (p == PhaseStaging || p == PhaseStaged):
		return s.disarm(ctx) // it may have been armed, but not a thing was changed
	case !p.Interrupted():
		return nil
	}
	j, err := s.disk.readJournal(s.state.current)
	if err != nil && !isAbsent(err) {
		return err
	}
	return s.finish(ctx, j)
}

// stage makes all that is to come, and the journal.
func (s *session) stage(ctx context.Context, u *Upgrade, result *Result) (*journal, error) {
	kept, next, err := s.next()
	if err != nil {
		return nil, err
	}
	j := &journal{Number: next.current, From: u.From, To: u.To, Began: time.Now().Round(0)}
	mounts, err := s.disk.mounts()
	if err != nil {
		return nil, err
	}
	if err := s.disk.arrange(u, j, mounts); err != nil {
		return nil, err
	}
	if err := s.observe(u, j); err != nil {
		return nil, err
	}
	tell := &progress{step: StepStage, tell: s.Progress}
	staging := newStaging(s.disk, j, u, tell)
	if err := staging.findContent(ctx, kept); err != nil {
		return nil, err
	}
	if err := staging.checkSpace(); err != nil {
		return nil, err
	}
	if err := s.enter(next, nil); err != nil {
		return nil, err
	}
	if err := s.disk.makeSlots(j); err != nil {
		return nil, err
	}
	if err := staging.run(ctx); err != nil {
		return nil, err
	}
	j.count(u)
	result.FetchedFiles, result.FetchedBytes = tell.fetched.files, tell.fetched.bytes
	result.CopiedFiles, result.CopiedBytes = tell.copied.files, tell.copied.bytes
	return j, s.staged(u, j)
}

// next is the state of a new transaction, and the journal of the one that can
// be rolled back while this one is not committed.
func (s *session) next() (kept *journal, next state, err error) {
	numbers, err := s.disk.numbers(".")
	if err != nil {
		return nil, next, err
	}
	keptNumber := s.state.kept
	if s.state.phase == PhaseKept {
		keptNumber = s.state.current
	}
	next = state{PhaseStaging, max(s.state.current, keptNumber, slices.Max(append(numbers, 0))) + 1, keptNumber}
	if keptNumber == 0 {
		return nil, next, nil
	}
	if kept, err = s.disk.readJournal(keptNumber); err != nil {
		s.Log.Warn("the version before this one is given up", "why", err)
		return nil, next, nil
	}
	return kept, next, nil
}

func (s *session) observe(u *Upgrade, j *journal) error {
	for i := range j.Units {
		if err := s.disk.observe(&j.Units[i], u.Disk); err != nil {
			return err
		}
	}
	return nil
}

// staged completes the journal, when nothing but renames is left to do.
func (s *session) staged(u *Upgrade, j *journal) error {
	if err := s.clean(j.Number, s.state.kept); err != nil {
		return err
	}
	if err := s.observe(u, j); err != nil {
		return err
	}
	if err := s.disk.writeJournal(j); err != nil {
		return err
	}
	return s.proceed(PhaseStaged, j)
}

func (j *journal) count(u *Upgrade) {
	t := u.Plan.Totals()
	j.Counts = counts{Created: t.Create, Replaced: t.Replace, Changed: t.Change, Deleted: t.Delete}
}

func (s *session) pre(ctx context.Context, u *Upgrade) error {
	if u.Pre == nil {
		return ctx.Err()
	}
	s.tell(StepPre, 0, 1)
	if err := u.Pre(ctx); err != nil {
		return fmt.Errorf("pre: %w", err)
	}
	s.tell(StepPre, 1, 1)
	return ctx.Err()
}

// apply changes the tree, and puts it back when anything goes wrong.
func (s *session) apply(ctx context.Context, u *Upgrade, j *journal, result *Result) error {
	if err := s.arm(ctx); err != nil {
		return err
	}
	if err := s.proceed(PhaseApplying, nil); err != nil {
		return errors.Join(err, s.disarm(context.WithoutCancel(ctx)))
	}
	applied, err := s.change(ctx, j, result)
	if err == nil {
		err = s.post(ctx, u, j, result)
	}
	if err == nil {
		err = s.proceed(PhaseCommitted, j)
	}
	if err != nil {
		result.Reboot = false
		return s.revert(ctx, j, applied, err)
	}
	c := j.Counts
	result.Created, result.Replaced, result.Changed, result.Deleted = c.Created, c.Replaced, c.Changed, c.Deleted
	if err := s.finish(context.WithoutCancel(ctx), j); err != nil {
		return fmt.Errorf("upgraded to %s; clean up: %w", j.To, err)
	}
	return nil
}

func (s *session) arm(ctx context.Context) error {
	if s.Guard == nil {
		return nil
	}
	if err := s.Guard.Arm(ctx); err != nil {
		return errors.Join(fmt.Errorf("arm the boot guard: %w", err), s.disarm(context.WithoutCancel(ctx)))
	}
	return nil
}

// change applies the units, and answers how many it began with: this is the
// time in which the tree is neither version.
func (s *session) change(ctx context.Context, j *journal, result *Result) (applied int, err error) {
	began := time.Now()
	defer func() { result.Changing = time.Since(began) }()
	for i := range j.Units {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		if err := s.disk.unchanged(&j.Units[i]); err != nil {
			return i, err
		}
		if err := s.disk.apply(j, &j.Units[i]); err != nil {
			return i + 1, err
		}
		if i%100 == 0 {
			s.tell(StepApply, int64(i), int64(len(j.Units)))
		}
	}
	s.tell(StepApply, int64(len(j.Units)), int64(len(j.Units)))
	return len(j.Units), s.disk.setDirectoryTimes(j, true)
}

func (s *session) post(ctx context.Context, u *Upgrade, j *journal, result *Result) error {
	if u.Post == nil {
		return ctx.Err()
	}
	if err := s.proceed(PhasePost, j); err != nil {
		return err
	}
	s.tell(StepPost, 0, 1)
	err := u.Post(ctx)
	if result.Reboot = errors.Is(err, ErrReboot); err != nil && !result.Reboot {
		return fmt.Errorf("post: %w", err)
	}
	s.tell(StepPost, 1, 1)
	return ctx.Err()
}

// revert undoes the units that were begun with, because of an error.
func (s *session) revert(ctx context.Context, j *journal, applied int, cause error) error {
	if err := s.undo(context.WithoutCancel(ctx), j, applied); err != nil {
		return fmt.Errorf("%w; putting %s back: %w", cause, j.From, err)
	}
	return fmt.Errorf("%w; %w", cause, ErrUndone)
}
