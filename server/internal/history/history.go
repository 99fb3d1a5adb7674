// Package history keeps what happened to each machine: one text file per
// machine, one line per step, which an operator can read and the server reads
// back. A file that has become too long is put aside once, as ID.log.1.
package history

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"edeploy/server/api"
)

// Dir is the directory of all histories.
type Dir struct {
	root     *os.Root
	maxBytes int64
	// A file system that is busy lets whoever makes a file wait, so machines
	// wait for each other only when they have the same lock.
	locks [64]sync.Mutex
}

// lock takes the lock of a machine.
func (d *Dir) lock(id string) (unlock func()) {
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, id) // a hash does not fail
	mu := &d.locks[sum.Sum32()%uint32(len(d.locks))]
	mu.Lock()
	return mu.Unlock
}

// Open opens the directory; a file that has maxBytes is put aside.
func Open(path string, maxBytes int64) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	return &Dir{root: root, maxBytes: maxBytes}, nil
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// Append adds lines to the history of a machine; with sync they are on the
// disk when it returns.
func (d *Dir) Append(id string, sync bool, lines ...api.HistoryLine) error {
	defer d.lock(id)()
	if err := d.append(id+".log", sync, lines); err != nil {
		return fmt.Errorf("write history of %s: %w", id, err)
	}
	return nil
}

func (d *Dir) append(name string, sync bool, lines []api.HistoryLine) error {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size >= d.maxBytes {
		if err := d.root.Rename(name, name+".1"); err != nil {
			return err
		}
		f.Close()
		return d.append(name, sync, lines)
	}
	var text strings.Builder
	if size > 0 && !endsLine(f, size) {
		text.WriteString("\n") // a line was cut off when the process was killed
	}
	for _, l := range lines {
		text.WriteString(l.String() + "\n")
	}
	if _, err := f.WriteString(text.String()); err != nil {
		return err
	}
	if sync {
		return f.Sync()
	}
	return nil
}

func endsLine(f *os.File, size int64) bool {
	last := make([]byte, 1)
	_, err := f.ReadAt(last, size-1)
	return err == nil && last[0] == '\n'
}

// Tail answers the last lines of a machine by their time, at most n, oldest
// first. Lines
// that are cut off are left out.
func (d *Dir) Tail(id string, n int) ([]api.HistoryLine, error) {
	defer d.lock(id)()
	var lines []api.HistoryLine
	for _, name := range []string{id + ".log.1", id + ".log"} {
		text, err := d.root.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read history of %s: %w", id, err)
		}
		for line := range strings.Lines(string(text)) {
			if l, err := api.ParseHistoryLine(strings.TrimSuffix(line, "\n")); err == nil {
				lines = append(lines, l)
			}
		}
	}
	// What was said before the machine was known comes into the file later.
	slices.SortStableFunc(lines, func(a, b api.HistoryLine) int { return a.Time.Compare(b.Time) })
	return lines[max(0, len(lines)-n):], nil
}

// Explain replaces the explanation of a machine's last decision, ID.why. It is
// not synced: a power cut may bring back an older one.
func (d *Dir) Explain(id string, text []byte) error {
	defer d.lock(id)()
	name := id + ".why"
	err := d.root.WriteFile(name+".new", text, 0o644)
	if err == nil {
		err = d.root.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("write explanation of %s: %w", id, err)
	}
	return nil
}

// Explanation is the explanation of a machine's last decision; nil when there
// is none.
func (d *Dir) Explanation(id string) ([]byte, error) {
	text, err := d.root.ReadFile(id + ".why")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read explanation of %s: %w", id, err)
	}
	return text, nil
}

// Unexplain removes the explanation of a machine's last decision.
func (d *Dir) Unexplain(id string) error {
	defer d.lock(id)()
	return d.remove(id, id+".why", id+".why.new")
}

// Remove forgets a machine's history.
func (d *Dir) Remove(id string) error {
	defer d.lock(id)()
	return d.remove(id, id+".log.1", id+".log", id+".why", id+".why.new")
}

func (d *Dir) remove(id string, names ...string) error {
	for _, name := range names {
		if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove history of %s: %w", id, err)
		}
	}
	return nil
}
