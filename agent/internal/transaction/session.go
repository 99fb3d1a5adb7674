package transaction

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// session is the work of one process that holds the lock.
type session struct {
	Machine
	disk  *disk
	lock  *os.File
	state state
}

func (m Machine) begin() (*session, error) {
	m.Log = cmp.Or(m.Log, slog.New(slog.DiscardHandler))
	d, err := openDisk(m.Root, m.test)
	if err != nil {
		return nil, err
	}
	s := &session{Machine: m, disk: d}
	if err := d.makeTop("."); err != nil {
		d.close()
		return nil, err
	}
	if s.lock, err = d.lock(); err != nil {
		d.close()
		return nil, err
	}
	if s.state, err = d.readState(); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *session) end() {
	s.lock.Close()
	s.disk.close()
}

// enter makes a new state durable, after all that was done before.
func (s *session) enter(next state, j *journal) error {
	if j != nil {
		for _, fs := range j.FileSystems {
			if err := s.disk.sync(string(fs.Mount)); err != nil {
				return err
			}
		}
	}
	if err := s.disk.writeState(next); err != nil {
		return err
	}
	s.Log.Debug("transaction", "phase", next.phase, "number", next.current)
	s.state = next
	return nil
}

func (s *session) proceed(p Phase, j *journal) error {
	return s.enter(state{p, s.state.current, s.state.kept}, j)
}

func (s *session) tell(step Step, done, total int64) {
	if s.Progress != nil {
		s.Progress(step, done, total)
	}
}

func (s *session) disarm(ctx context.Context) error {
	if s.Guard == nil {
		return nil
	}
	if err := s.Guard.Disarm(ctx); err != nil {
		return fmt.Errorf("disarm the boot guard: %w", err)
	}
	return nil
}

// finish brings to rest what is decided: the new version, or the one before; what
// was staged or is left over goes.
func (s *session) finish(ctx context.Context, j *journal) error {
	if err := s.disarm(ctx); err != nil {
		return err
	}
	rest, keep := s.state.rest(), s.state.kept
	if s.state.phase.new() {
		rest, keep = state{phase: PhaseKept, current: s.state.current}, s.state.current
	}
	if j != nil {
		if err := s.disk.setDirectoryTimes(j, s.state.phase.new()); err != nil {
			return err
		}
	}
	if err := s.clean(keep); err != nil {
		return err
	}
	return s.enter(rest, nil)
}

// clean removes the directories of all transactions but some. The root's
// go last: their journals tell where the others are.
func (s *session) clean(keep ...int) error {
	numbers, err := s.disk.numbers(".")
	if err != nil {
		return err
	}
	mounts := []string{"."}
	for _, n := range numbers {
		j, err := s.disk.readJournal(n)
		if err != nil {
			continue // it was not complete
		}
		for _, fs := range j.FileSystems {
			if !slices.Contains(mounts, string(fs.Mount)) {
				mounts = append(mounts, string(fs.Mount))
			}
		}
	}
	for _, mount := range slices.Backward(mounts) {
		numbers, err := s.disk.numbers(mount)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			if slices.Contains(keep, n) {
				continue
			}
			if err := s.disk.removeAll(slots(mount, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// setDirectoryTimes gives the directories that were touched the times from
// before or after the upgrade.
func (d *disk) setDirectoryTimes(j *journal, after bool) error {
	for _, dir := range j.Directories {
		st, err := d.lookup(string(dir.Path))
		if err != nil {
			return err
		}
		want := dir.Before
		if after {
			want = dir.After
		}
		if st == nil || !isDir(st) || modified(st) == want {
			continue
		}
		if err := d.setTime(string(dir.Path), want); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) usage(j *journal) int64 {
	var n int64
	for _, fs := range j.FileSystems {
		n += d.usageOf(slots(string(fs.Mount), j.Number))
	}
	return n
}

func (d *disk) usageOf(p string) int64 {
	st, err := d.stat(p)
	if err != nil {
		return 0
	}
	n := st.Blocks * 512
	if isDir(st) {
		names, _ := d.names(p)
		for _, name := range names {
			n += d.usageOf(path.Join(p, name))
		}
	}
	return n
}

// Status tells how things are. It changes nothing and takes no lock.
func (m Machine) Status() (Status, error) {
	d, err := openDisk(m.Root, nil)
	if err != nil {
		return Status{}, err
	}
	defer d.close()
	now, err := d.readState()
	if err != nil {
		return Status{}, err
	}
	status := Status{Phase: now.phase, Running: d.holder()}
	if st, err := d.stat(phasePath); err == nil {
		status.Changed = time.Unix(st.Mtim.Unix())
	}
	if now.phase == PhaseIdle {
		return status, nil
	}
	j, err := d.readJournal(now.current)
	if isAbsent(err) && !now.phase.changing() && now.phase != PhaseKept {
		return status, nil // not written yet, or removed already
	}
	if err != nil {
		return status, err
	}
	status.From, status.To, status.Began = j.From, j.To, j.Began
	for _, fs := range j.FileSystems {
		status.FileSystems = append(status.FileSystems, fs.FileSystem)
	}
	if now.phase == PhaseKept {
		status.KeptBytes, status.Rollback = d.usage(j), &j.From
		status.Committed = status.Changed
		return status, nil
	}
	status.StagedBytes = d.usage(j)
	if kept, err := d.readJournal(now.kept); err == nil {
		status.KeptBytes = d.usage(kept)
	}
	return status, nil
}

// list names things in a sentence, the first few.
func list(paths []string) string {
	if len(paths) > 3 {
		paths = append(slices.Clone(paths[:3]), fmt.Sprintf("%d more", len(paths)-3))
	}
	return strings.Join(paths, ", ")
}
