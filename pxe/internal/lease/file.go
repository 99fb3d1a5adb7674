package lease

import (
	"fmt"
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

// nobody stands for the machine of a declined address.
const nobody = "-"

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
	if s.state == Declined {
		return nobody
	}
	return s.owner.String()
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

// load fills an empty table from a file's text.
func (t *Table) load(text string) error {
	line := 0
	for raw := range strings.Lines(text) {
		line++
		words := strings.Fields(raw)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := t.loadLine(words); err != nil {
			return fmt.Errorf("%s line %d: %w; correct or remove the line", t.conf.File, line, err)
		}
	}
	return nil
}

func (t *Table) loadLine(words []string) error {
	if len(words) != 4 {
		return fmt.Errorf("%d words, want ADDRESS MACHINE EXPIRES STATE", len(words))
	}
	a, err := netip.ParseAddr(words[0])
	if err != nil || !a.Is4() {
		return fmt.Errorf("%q is not an IPv4 address", words[0])
	}
	expires, err := time.Parse(time.RFC3339, words[2])
	if err != nil {
		return fmt.Errorf("%q is not a time like 2026-11-22T15:04:05Z", words[2])
	}
	if expires.Before(clockSet) {
		expires = t.conf.Now().Add(t.conf.Time)
	}
	state := State(words[3])
	if state != Leased && state != Released && state != Declined {
		return fmt.Errorf("%q is not a state: leased, released or declined", words[3])
	}
	var mac MAC
	if state != Declined {
		hw, err := net.ParseMAC(words[1])
		if err != nil || len(hw) != len(mac) {
			return fmt.Errorf("%q is not an Ethernet address", words[1])
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
	t.slots[i].state, t.slots[i].owner, t.slots[i].expires = state, mac, expires
	if state != Declined {
		t.owned[mac] = i
	}
	return nil
}
