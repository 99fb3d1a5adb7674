package lease

import (
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
)

// log is the lease file as it is written: the whole table, and behind it a line
// for each change since. It is written whole again when the changes take more
// room than the table, so that it is never larger than twice what is in it and
// minChanges; and whenever it is not certain what it holds.
type log struct {
	file    *os.File // open for appending; nil: it must be written whole
	info    os.FileInfo
	whole   int       // bytes of the table in it
	size    int       // bytes in it
	written time.Time // when it was written whole
}

// minChanges is how many bytes of changes a small table may have in its file.
const minChanges = 64 << 10

// maxDrift is how far the clock may be set without the file being written
// whole: the times in it are those of the clock as it stood.
const maxDrift = 2 * time.Second

// Save writes to the file what has changed in the table, and returns when it is
// on the disk. When it returns nil, everything that was done to the table before
// the call survives a power cut. After an error the next Save tries again.
func (t *Table) Save() error {
	if t.conf.File == "" {
		return nil
	}
	t.saving.Lock()
	defer t.saving.Unlock()
	now := t.conf.Now()
	text, changed := t.changes(now)
	if !changed {
		return nil
	}
	var err error
	if t.log.takes(t.conf.File, len(text), now) {
		err = t.log.append(text)
	} else {
		t.log.close()
		err = t.log.replace(t.conf.File, t.all(now), now)
	}
	if err != nil {
		t.log.close()
		t.mu.Lock()
		t.unsaved = true
		t.mu.Unlock()
		return fmt.Errorf("save leases: %w", err)
	}
	return nil
}

// takes tells whether the changes can be appended.
func (l *log) takes(path string, bytes int, now time.Time) bool {
	if l.file == nil || l.size+bytes > l.whole+max(l.whole, minChanges) {
		return false
	}
	drift := now.Round(0).Sub(l.written.Round(0)) - now.Sub(l.written)
	if drift.Abs() > maxDrift {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && os.SameFile(info, l.info) && info.Size() == int64(l.size)
}

// append makes lines durable.
func (l *log) append(text []byte) error {
	if _, err := l.file.Write(text); err != nil {
		return err
	}
	l.size += len(text)
	return l.file.Sync()
}

// replace writes the file whole: a temporary file, fsync, rename, fsync of the
// directory.
func (l *log) replace(path string, text []byte, now time.Time) error {
	dir := filepath.Dir(path)
	if err := renameio.WriteFile(path, text, 0o644, renameio.WithTempDir(dir)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return err
	}
	if l.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err != nil {
		return err
	}
	l.whole, l.size, l.written = len(text), len(text), now
	l.info, err = l.file.Stat()
	return err
}

// close has the file written whole next time: after an error nobody knows what
// is in it.
func (l *log) close() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// changes are the lines of what has changed; the table counts as saved from
// then on.
func (t *Table) changes(now time.Time) (text []byte, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed = t.unsaved || len(t.changed) > 0
	for _, i := range slices.Sorted(maps.Keys(t.changed)) {
		line := t.line(i, now)
		text = fmt.Appendf(text, "%s %08x\n", line, crc32.ChecksumIEEE(line))
	}
	clear(t.changed)
	t.unsaved = false
	return text, changed
}

// all is the whole table.
func (t *Table) all(now time.Time) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := []byte(header)
	for i := range t.slots {
		if t.slots[i].state != Free {
			text = append(append(text, t.line(i, now)...), '\n')
		}
	}
	return text
}

// line is a slot as the file has it.
func (t *Table) line(i int, now time.Time) []byte {
	s := &t.slots[i]
	return fmt.Appendf(nil, "%s %s %s %s", t.addr(i), s.ownerText(), s.wallExpiry(now), s.stateText())
}

func (s *slot) ownerText() string {
	mac := s.owner
	if s.state == Declined {
		mac = s.by
	}
	if mac == (MAC{}) {
		return nobody
	}
	return mac.String()
}

func (s *slot) stateText() State {
	if s.state == Free {
		return freed
	}
	return s.state
}

// wallExpiry is the end of the lease on the clock as it stands now: a lease
// given before the clock was set right is measured from the moment it was
// given (the difference uses the monotonic clock), not from the wrong time of
// day. It is rounded up to a second.
func (s *slot) wallExpiry(now time.Time) string {
	end := s.expires
	if s.state == Leased {
		end = s.kept
	}
	wall := now.Round(0).Add(end.Sub(now))
	return wall.Add(time.Second - 1).Truncate(time.Second).UTC().Format(time.RFC3339)
}
