package transaction

import (
	"context"
	"fmt"
)

// Recover ends a transaction that was interrupted: before the new version was
// complete the old one comes back, afterwards what is left over is removed.
// It can itself be interrupted at any instant and called again.
func (m Machine) Recover(ctx context.Context) (Outcome, error) {
	if phase, err := m.phase(); err != nil || !phase.Interrupted() {
		return Nothing, err // also where nothing can be written
	}
	s, err := m.begin()
	if err != nil {
		return Nothing, err
	}
	defer s.end()
	if err := ctx.Err(); err != nil || !s.state.phase.Interrupted() {
		return Nothing, err
	}
	phase := s.state.phase
	j, err := s.disk.readJournal(s.state.current)
	if err != nil && (!isAbsent(err) || phase.changing()) {
		return Nothing, fmt.Errorf("recover: %w", err)
	}
	ctx = context.WithoutCancel(ctx)
	switch {
	case phase.changing():
		return Undone, s.undo(ctx, j, len(j.Units))
	case phase.new():
		return Finished, s.finish(ctx, j)
	case phase == PhaseUndone:
		return Undone, s.finish(ctx, j)
	}
	return Discarded, s.finish(ctx, j)
}

func (m Machine) phase() (Phase, error) {
	d, err := openDisk(m.Root, nil)
	if err != nil {
		return PhaseIdle, err
	}
	defer d.close()
	s, err := d.readState()
	return s.phase, err
}
