package lease

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// header is the first lines of a lease file.
const header = "# Address leases. ADDRESS MACHINE EXPIRES STATE; states: leased, released, declined.\n" +
	"# A leased address is kept for half a lease time longer than its machine was told: fewer renewals are written.\n" +
	"# The last line about an address or a machine counts; lines with a checksum at their end are later changes.\n" +
	"# Written by the running server, read when it starts: change it only while the server is stopped.\n"

// nobody stands for the machine that declined an address, when it is not known,
// and for that of an address that became free.
const nobody = "-"

// freed is the state of an address in the line of a change that made it free.
const freed State = "free"

// maxFile is more than a whole range, as many reservations outside it, and as
// much again in changes take.
const maxFile = 32 << 20

// clockSet is the earliest time a clock can truthfully show. A machine without
// a battery-backed clock starts in 1970; a lease it wrote before it learned
// the time says nothing about when it ends.
var clockSet = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

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
		clear(t.changed)
	}
	if err == nil {
		return
	}
	t.broken = t.putAside(err)
	t.unsaved = true
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
// first one that cannot, and how many there are. The last line, when it does not
// end, was being written when the power failed, and nobody was told of it.
func (t *Table) load(text string) (broken error) {
	line, bad := 0, 0
	for raw := range strings.Lines(text) {
		line++
		words := strings.Fields(raw)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := t.loadLine(words); err != nil && strings.HasSuffix(raw, "\n") {
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

// loadLine takes a line: of the table, or of a change, which has a checksum.
func (t *Table) loadLine(words []string) error {
	change := len(words) == 5
	if change {
		if sum := fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(strings.Join(words[:4], " ")))); sum != words[4] {
			return fmt.Errorf("the checksum %.40q is not %s", words[4], sum)
		}
	} else if len(words) != 4 {
		return fmt.Errorf("%d words, want ADDRESS MACHINE EXPIRES STATE", len(words))
	}
	e, err := t.entry(words)
	if err != nil {
		return err
	}
	i := t.index(e.addr)
	if i < 0 {
		// Not in the range any more: it is not given to anybody, and its machine gets
		// another one when it asks.
		return nil
	}
	if !change {
		if err := t.twice(i, e); err != nil {
			return err
		}
	}
	t.restore(i, e)
	return nil
}

// entry is what a line says.
type entry struct {
	addr    netip.Addr
	mac     MAC // the owner, or who declined it
	expires time.Time
	state   State
}

func (t *Table) entry(words []string) (e entry, err error) {
	if e.addr, err = netip.ParseAddr(words[0]); err != nil || !e.addr.Is4() {
		return e, fmt.Errorf("%.40q is not an IPv4 address", words[0])
	}
	if e.expires, err = time.Parse(time.RFC3339, words[2]); err != nil {
		return e, fmt.Errorf("%.40q is not a time like 2026-11-22T15:04:05Z", words[2])
	}
	if e.expires.Before(clockSet) {
		e.expires = t.conf.Now().Add(t.conf.Time)
	}
	switch e.state = State(words[3]); e.state {
	case Leased, Released, Declined, freed:
	default:
		return e, fmt.Errorf("%.40q is not a state: leased, released or declined", words[3])
	}
	if words[1] == nobody && e.state != Leased && e.state != Released {
		return e, nil
	}
	hw, err := net.ParseMAC(words[1])
	if err != nil || len(hw) != len(e.mac) {
		return e, fmt.Errorf("%.40q is not an Ethernet address", words[1])
	}
	e.mac = MAC(hw)
	return e, nil
}

// twice is why a line of the table contradicts those before.
func (t *Table) twice(i int, e entry) error {
	if t.slots[i].state != Free {
		return fmt.Errorf("address %s is there twice", e.addr)
	}
	if other, ok := t.owned[e.mac]; ok && e.state != Declined {
		return fmt.Errorf("machine %s is there twice, with %s and %s", e.mac, t.addr(other), e.addr)
	}
	return nil
}

// restore puts a line in its slot.
func (t *Table) restore(i int, e entry) {
	switch s := &t.slots[i]; e.state {
	case freed:
		t.disown(i)
		s.state = Free
	case Declined:
		t.disown(i)
		s.state, s.by, s.expires = Declined, e.mac, e.expires
	default:
		t.own(i, e.mac, e.state, e.expires)
	}
}
