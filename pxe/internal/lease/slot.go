package lease

import (
	"fmt"
	"net/netip"
	"time"
)

// State is what has happened to an address.
type State string

// The states; a lease whose time is over stays Leased until somebody else
// needs its address.
const (
	Free     State = ""
	Leased   State = "leased"
	Released State = "released" // given back; the machine still gets it again if it can
	Declined State = "declined" // set aside: found in use by somebody unknown
)

// slot is one address of the range.
type slot struct {
	state   State
	keep    MAC       // for whom it is reserved; zero: for nobody
	owner   MAC       // of Leased and Released
	by      MAC       // who declined it
	expires time.Time // end of the lease, of its release, or of the setting aside
	kept    time.Time // of Leased: until when the file has it

	offeredTo    MAC
	offeredUntil time.Time
}

func (t *Table) pick(mac MAC, wanted netip.Addr, now time.Time) int {
	if i, ok := t.reserved[mac]; ok && t.slots[i].freeFor(mac, now) {
		return i
	}
	if i, ok := t.owned[mac]; ok && !t.slots[i].offeredToOther(mac, now) {
		return i
	}
	stranger := !t.conf.Known(mac)
	if i, ok := t.offered[mac]; ok && t.slots[i].freeFor(mac, now) {
		return i
	}
	if i := t.index(wanted); i >= 0 && t.slots[i].freeFor(mac, now) && !t.awaits(i, mac, stranger) {
		return i
	}
	oldest, declined, lent := -1, -1, -1
	for i := range t.slots {
		s := &t.slots[i]
		switch {
		case s.keep != (MAC{}): // never a newcomer's
		case s.freeFor(mac, now) && s.state == Free:
			return i
		case s.freeFor(mac, now):
			if sooner := t.sooner(i, oldest); sooner != oldest && !t.awaits(i, mac, stranger) {
				oldest = i
			}
		case s.state == Declined && !s.offeredToOther(mac, now):
			declined = t.sooner(i, declined)
		case !stranger && lent < 0 && (s.state == Free || !now.Before(s.expires)) && !t.conf.Known(s.offeredTo):
			lent = i // only on offer, to a machine that nobody knows
		}
	}
	for _, i := range []int{oldest, lent, declined} {
		if i >= 0 {
			return i
		}
	}
	return -1
}

// awaits tells whether an address whose lease has ended is kept for its
// machine, which is a known one: however many strangers ask, it gets it again.
func (t *Table) awaits(i int, mac MAC, stranger bool) bool {
	s := &t.slots[i]
	return stranger && s.owner != (MAC{}) && s.owner != mac && t.conf.Known(s.owner)
}

// sooner is the slot whose time ends first; other may be -1.
func (t *Table) sooner(i, other int) int {
	if other >= 0 && !t.slots[i].expires.Before(t.slots[other].expires) {
		return other
	}
	return i
}

// exhausted is ErrExhausted with what the addresses are used for.
func (t *Table) exhausted(now time.Time) error {
	leased, offered, kept := 0, 0, 0
	for i := range t.slots {
		s := &t.slots[i]
		switch {
		case s.state == Leased && now.Before(s.expires):
			leased++
		case now.Before(s.offeredUntil):
			offered++
		case s.owner != (MAC{}):
			kept++
		}
	}
	text := fmt.Sprintf("of %d, %d are leased and %d on offer", len(t.slots), leased, offered)
	if kept > 0 {
		text += fmt.Sprintf(", %d wait for known machines", kept)
	}
	return fmt.Errorf("%w: %s", ErrExhausted, text)
}

// freeFor tells whether a machine may take the slot. A declined address that
// was offered all the same, for want of another, may be taken.
func (s *slot) freeFor(mac MAC, now time.Time) bool {
	if s.offeredToOther(mac, now) || s.keep != (MAC{}) && s.keep != mac {
		return false
	}
	return s.state == Free || s.owns(mac) || !now.Before(s.expires) ||
		s.state == Declined && s.offeredTo == mac && now.Before(s.offeredUntil)
}

func (s *slot) owns(mac MAC) bool {
	return (s.state == Leased || s.state == Released) && s.owner == mac
}

func (s *slot) offeredToOther(mac MAC, now time.Time) bool {
	return now.Before(s.offeredUntil) && s.offeredTo != mac
}
