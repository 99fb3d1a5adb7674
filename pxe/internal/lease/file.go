package lease

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// header is the first lines of a lease file.
const header = "# Address leases. ADDRESS MACHINE EXPIRES STATE; states: leased, released, declined.\n" +
	"# Written by the running server, read when it starts: change it only while the server is stopped.\n"

// nobody stands for the machine that declined an address, when it is not known.
const nobody = "-"

// maxFile is more than a whole range takes.
const maxFile = 8 << 20

// clockSet is the earliest time a clock can truthfully show. A machine without
// a battery-backed clock starts in 1970; a lease it wrote before it learned
// the time says nothing about when it ends.
var clockSet = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// Save writes the table to its file if it has changed: a temporary file,
// fsync, rename, fsync of the directory. When it returns nil, everything that
// was done to the table before the call survives a power cut. After an error
// the next Save tries again.
func (t *Table) Save() error {
	if t.conf.File == "" {
		return nil
	}
	t.saving.Lock()
	defer t.saving.Unlock()
	text, changed := t.snapshot()
	if !changed {
		return nil
	}
	if err := replaceFile(t.conf.File, text); err != nil {
		t.mu.Lock()
		t.dirty = true
		t.mu.Unlock()
		return fmt.Errorf("save leases: %w", err)
	}
	return nil
}

// snapshot is the file's new text; the table counts as saved from then on.
func (t *Table) snapshot() (text []byte, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dirty {
		return nil, false
	}
	t.dirty = false
	now := t.conf.Now()
	text = append(text, header...)
	for i := range t.slots {
		if s := &t.slots[i]; s.state != Free {
			text = fmt.Appendf(text, "%s %s %s %s\n", t.addr(i), s.ownerText(), s.wallExpiry(now), s.state)
		}
	}
	return text, true
}

func (s *slot) ownerText() string {
	if s.state != Declined {
		return s.owner.String()
	}
	if s.by == (MAC{}) {
		return nobody
	}
	return s.by.String()
}

// wallExpiry is the end of the lease on the clock as it stands now: a lease
// given before the clock was set right is measured from the moment it was
// given (the difference uses the monotonic clock), not from the wrong time of
// day. It is rounded up to a second.
func (s *slot) wallExpiry(now time.Time) string {
	wall := now.Round(0).Add(s.expires.Sub(now))
	return wall.Add(time.Second - 1).Truncate(time.Second).UTC().Format(time.RFC3339)
}

func replaceFile(path string, text []byte) error {
	dir := filepath.Dir(path)
	if err := renameio.WriteFile(path, text, 0o644, renameio.WithTempDir(dir)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Broken is what was wrong with the file when the table was opened, and where
// it is now; nil when it was good or absent. What could be understood of it is
// in the table.
func (t *Table) Broken() error { return t.broken }

// read fills an empty table from its file. Machines ask again for the
// addresses that are forgotten with a broken file, and get them as long as
// nobody else has.
func (t *Table) read() {
	text, err := readFile(t.conf.File)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	if err == nil {
		err = t.load(text)
	}
	if err == nil {
		return
	}
	t.broken = t.putAside(err)
	t.dirty = true
	if err := t.Save(); err != nil {
		t.broken = fmt.Errorf("%w; %w", t.broken, err)
	}
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return string(text), err
}

func (t *Table) putAside(cause error) error {
	aside := t.conf.File + ".broken"
	err := os.Rename(t.conf.File, aside)
	if err != nil {
		return fmt.Errorf("%w; it cannot be put aside: %w", cause, err)
	}
	return fmt.Errorf("%w; the file is now %s, and the leases that could be read are kept", cause, aside)
}

// load puts the lines that can be understood into the table. The error is the
// first one that cannot, and how many there are.
func (t *Table) load(text string) (broken error) {
	line, bad := 0, 0
	for raw := range strings.Lines(text) {
		line++
		words := strings.Fields(raw)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := t.loadLine(words); err != nil {
			if bad++; bad == 1 {
				broken = fmt.Errorf("%s line %d: %w", t.conf.File, line, err)
			}
		}
	}
	if bad > 1 {
		return fmt.Errorf("%w (and %d further lines)", broken, bad-1)
	}
	return broken
}

func (t *Table) loadLine(words []string) error {
	if len(words) != 4 {
		return fmt.Errorf("%d words, want ADDRESS MACHINE EXPIRES STATE", len(words))
	}
	a, err := netip.ParseAddr(words[0])
	if err != nil || !a.Is4() {
		return fmt.Errorf("%.40q is not an IPv4 address", words[0])
	}
	expires, err := time.Parse(time.RFC3339, words[2])
	if err != nil {
		return fmt.Errorf("%.40q is not a time like 2026-11-22T15:04:05Z", words[2])
	}
	if expires.Before(clockSet) {
		expires = t.conf.Now().Add(t.conf.Time)
	}
	state := State(words[3])
	if state != Leased && state != Released && state != Declined {
		return fmt.Errorf("%.40q is not a state: leased, released or declined", words[3])
	}
	var mac MAC
	if state != Declined || words[1] != nobody {
		hw, err := net.ParseMAC(words[1])
		if err != nil || len(hw) != len(mac) {
			return fmt.Errorf("%.40q is not an Ethernet address", words[1])
		}
		mac = MAC(hw)
	}
	return t.restore(a, mac, state, expires)
}

// restore puts one line of the file in its slot. An address that is not in the
// range any more is left out: it is not given to anybody, and its machine gets
// another one when it asks.
func (t *Table) restore(a netip.Addr, mac MAC, state State, expires time.Time) error {
	i := t.index(a)
	if i < 0 {
		return nil
	}
	if t.slots[i].state != Free {
		return fmt.Errorf("address %s is there twice", a)
	}
	if other, ok := t.owned[mac]; ok && state != Declined {
		return fmt.Errorf("machine %s is there twice, with %s and %s", mac, t.addr(other), a)
	}
	s := &t.slots[i]
	s.state, s.expires = state, expires
	if state == Declined {
		s.by = mac
		return nil
	}
	s.owner = mac
	t.owned[mac] = i
	return nil
}
