// Package lease remembers which machine holds which address, across restarts,
// and never gives one address to two machines.
//
// A machine is its Ethernet address. Client identifiers are ignored on
// purpose: firmware, iPXE, agent and installed system each send another one,
// and all four are the same machine and must get the same address.
//
// The table lives in memory; Save writes it to one text file, whole. Whoever
// confirms a lease to a machine calls Save in between, once for as many leases
// as are waiting.
package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// MAC is a machine's Ethernet address.
type MAC [6]byte

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// Sentinels for what callers branch on.
var (
	// ErrExhausted: every address of the range is held or on offer.
	ErrExhausted = errors.New("no free address in the range")
	// ErrTaken: the address belongs to another machine, or is set aside.
	ErrTaken = errors.New("held by another machine")
	// ErrOutOfRange: the address is not one of ours to give.
	ErrOutOfRange = errors.New("not in the range")
)

// Durations of what is not a lease.
const (
	// OfferTime is how long an offered address waits for its request. iPXE
	// collects offers for some seconds, a slow ROM for up to half a minute.
	OfferTime = time.Minute
	// DeclineTime is how long an address is set aside that a machine found in
	// use by somebody else.
	DeclineTime = time.Hour
	// MaxDeclined is how many addresses stay set aside on the word of one
	// machine. When it declines more, its first ones can be given again.
	MaxDeclined = 4
)

// MaxRange is the most addresses a range may have.
const MaxRange = 1 << 16

// Config of a table.
type Config struct {
	First, Last netip.Addr    // the range, both ends included
	Time        time.Duration // length of a lease
	File        string        // where Save writes; "" keeps the table in memory
	Now         func() time.Time
}

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
	owner   MAC       // of Leased and Released
	by      MAC       // who declined it
	expires time.Time // end of the lease, of its release, or of the setting aside

	offeredTo    MAC
	offeredUntil time.Time
}

// Table is the addresses of one range. It is safe for concurrent use.
type Table struct {
	conf Config

	mu      sync.Mutex
	slots   []slot
	owned   map[MAC]int // slots that are Leased or Released
	offered map[MAC]int // slots on offer, perhaps for a time that is over; the inverse of offeredTo
	dirty   bool
	broken  error

	saving sync.Mutex // one Save at a time
}

// Open makes a table and fills it from its file, if there is one. A file that
// cannot be read, or not wholly, is put aside: see Broken. An error is one of
// the configuration.
func Open(conf Config) (*Table, error) {
	if conf.Now == nil {
		conf.Now = time.Now
	}
	size, err := rangeSize(conf.First, conf.Last)
	if err != nil {
		return nil, err
	}
	t := &Table{conf: conf, slots: make([]slot, size), owned: map[MAC]int{}, offered: map[MAC]int{}}
	if conf.File != "" {
		t.read()
	}
	return t, nil
}

func rangeSize(first, last netip.Addr) (int, error) {
	if !first.Is4() || !last.Is4() {
		return 0, fmt.Errorf("address range %s to %s: want two IPv4 addresses", first, last)
	}
	size := int64(number(last)) - int64(number(first)) + 1
	if size < 1 || size > MaxRange {
		return 0, fmt.Errorf("address range %s to %s holds %d addresses: want 1 to %d", first, last, max(size, 0), MaxRange)
	}
	return int(size), nil
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func (t *Table) addr(i int) netip.Addr {
	n := number(t.conf.First) + uint32(i)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// index is the slot of an address, -1 when it is out of the range.
func (t *Table) index(a netip.Addr) int {
	if !a.Is4() {
		return -1
	}
	i := int64(number(a)) - int64(number(t.conf.First))
	if i < 0 || i >= int64(len(t.slots)) {
		return -1
	}
	return int(i)
}

// Time is the length of a lease.
func (t *Table) Time() time.Duration { return t.conf.Time }

// Offer picks an address for a machine and keeps it for OfferTime: the one it
// has or had, else the wanted one when nobody has it, else one that nobody
// ever had, else the one whose lease ended longest ago, else the one that was
// declined longest ago. The error is ErrExhausted.
func (t *Table) Offer(mac MAC, wanted netip.Addr) (netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.conf.Now()
	i := t.pick(mac, wanted, now)
	if i < 0 {
		return netip.Addr{}, t.exhausted(now)
	}
	t.withdraw(mac)
	t.withdraw(t.slots[i].offeredTo) // its time is over; the map stays as small as the range
	t.slots[i].offeredTo, t.slots[i].offeredUntil = mac, now.Add(OfferTime)
	t.offered[mac] = i
	return t.addr(i), nil
}

func (t *Table) pick(mac MAC, wanted netip.Addr, now time.Time) int {
	if i, ok := t.owned[mac]; ok && !t.slots[i].offeredToOther(mac, now) {
		return i
	}
	if i, ok := t.offered[mac]; ok && t.slots[i].freeFor(mac, now) {
		return i
	}
	if i := t.index(wanted); i >= 0 && t.slots[i].freeFor(mac, now) {
		return i
	}
	oldest, declined := -1, -1
	for i := range t.slots {
		s := &t.slots[i]
		switch {
		case s.freeFor(mac, now) && s.state == Free:
			return i
		case s.freeFor(mac, now):
			oldest = t.sooner(i, oldest)
		case s.state == Declined && !s.offeredToOther(mac, now):
			declined = t.sooner(i, declined)
		}
	}
	if oldest < 0 {
		return declined
	}
	return oldest
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
	leased, offered := 0, 0
	for i := range t.slots {
		s := &t.slots[i]
		switch {
		case s.state == Leased && now.Before(s.expires):
			leased++
		case now.Before(s.offeredUntil):
			offered++
		}
	}
	return fmt.Errorf("%w: of %d, %d are leased and %d on offer", ErrExhausted, len(t.slots), leased, offered)
}

// freeFor tells whether a machine may take the slot. A declined address that
// was offered all the same, for want of another, may be taken.
func (s *slot) freeFor(mac MAC, now time.Time) bool {
	if s.offeredToOther(mac, now) {
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

// withdraw takes back what is on offer to a machine.
func (t *Table) withdraw(mac MAC) {
	if i, ok := t.offered[mac]; ok {
		t.slots[i].offeredTo, t.slots[i].offeredUntil = MAC{}, time.Time{}
		delete(t.offered, mac)
	}
}

// Withdraw takes back an offer: the machine chose another server.
func (t *Table) Withdraw(mac MAC) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.withdraw(mac)
}

// Lease gives the address to the machine from now on for Time. It answers
// whether the machine did not hold it before. An earlier address of the
// machine becomes free. The lease must not be told to the machine before Save
// has returned. Errors are ErrTaken and ErrOutOfRange.
func (t *Table) Lease(mac MAC, a netip.Addr) (isNew bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.conf.Now()
	i := t.index(a)
	if i < 0 {
		return false, fmt.Errorf("address %s: %w", a, ErrOutOfRange)
	}
	s := &t.slots[i]
	if !s.freeFor(mac, now) {
		return false, fmt.Errorf("address %s: %w", a, ErrTaken)
	}
	isNew = !(s.state == Leased && s.owner == mac && now.Before(s.expires))
	t.withdraw(mac)
	t.own(i, mac, Leased, now.Add(t.conf.Time))
	return isNew, nil
}

// own makes a machine the owner of a slot and of no other.
func (t *Table) own(i int, mac MAC, state State, expires time.Time) {
	t.disown(i)
	if old, ok := t.owned[mac]; ok {
		t.disown(old)
		t.slots[old].state = Free
	}
	s := &t.slots[i]
	s.state, s.owner, s.by, s.expires = state, mac, MAC{}, expires
	t.owned[mac] = i
	t.dirty = true
}

// disown cuts the tie between a slot and its owner.
func (t *Table) disown(i int) {
	s := &t.slots[i]
	if s.state == Leased || s.state == Released {
		delete(t.owned, s.owner)
	}
	s.owner = MAC{}
}

// Release ends the machine's lease of the address; it answers whether it had one.
func (t *Table) Release(mac MAC, a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.index(a)
	if i < 0 || !t.slots[i].owns(mac) {
		return false
	}
	t.slots[i].state, t.slots[i].expires = Released, t.conf.Now()
	t.dirty = true
	return true
}

// Decline sets the address aside for DeclineTime, because the machine to which
// it was given found it in use; it answers whether the machine had it. No more
// than MaxDeclined stay set aside for one machine.
func (t *Table) Decline(mac MAC, a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.index(a)
	if i < 0 || !t.slots[i].owns(mac) {
		return false
	}
	t.withdraw(mac)
	t.disown(i)
	now := t.conf.Now()
	s := &t.slots[i]
	s.state, s.by, s.expires = Declined, mac, now.Add(DeclineTime)
	t.boundDeclined(mac, now)
	t.dirty = true
	return true
}

// boundDeclined ends the setting aside of the machine's first addresses when
// they are too many.
func (t *Table) boundDeclined(mac MAC, now time.Time) {
	first, count := -1, 0
	for i := range t.slots {
		if s := &t.slots[i]; s.state == Declined && s.by == mac && now.Before(s.expires) {
			first = t.sooner(i, first)
			count++
		}
	}
	if count > MaxDeclined {
		t.slots[first].expires = now
	}
}

// Declined tells who found the address in use, if it is set aside for that.
func (t *Table) Declined(a netip.Addr) (by string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.index(a)
	if i < 0 || t.slots[i].state != Declined || !t.conf.Now().Before(t.slots[i].expires) {
		return "", false
	}
	if t.slots[i].by == (MAC{}) {
		return "a machine", true
	}
	return t.slots[i].by.String(), true
}

// Address is the machine's, by its lease or an earlier one.
func (t *Table) Address(mac MAC) (netip.Addr, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.owned[mac]
	if !ok {
		return netip.Addr{}, false
	}
	return t.addr(i), true
}

// Machine is who has the address, or had it last.
func (t *Table) Machine(a netip.Addr) (MAC, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.index(a)
	if i < 0 || t.slots[i].owner == (MAC{}) {
		return MAC{}, false
	}
	return t.slots[i].owner, true
}
