// Package lease remembers which machine holds which address, across restarts,
// and never gives one address to two machines.
//
// A machine is its Ethernet address. Client identifiers are ignored on
// purpose: firmware, iPXE, agent and installed system each send another one,
// and all four are the same machine and must get the same address.
//
// The table lives in memory; Save appends what has changed to one text file.
// Whoever confirms a lease to a machine calls Save in between, once for as many
// leases as are waiting.
package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	// ErrReserved: the machine has a reservation, and this is not its address.
	ErrReserved = errors.New("not the one that is reserved for this machine")
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
	First, Last netip.Addr // the range, both ends included; both zero: none
	// Reserved are addresses that one machine gets and nobody else, inside the
	// range or not.
	Reserved map[MAC]netip.Addr
	// Known tells whether a machine is one of ours. Its address is not given to
	// strangers when its lease has ended, and it gets one that is only on offer to
	// a stranger when nothing else is free. nil: none is.
	Known func(MAC) bool
	Time  time.Duration // length of a lease
	File  string        // where Save writes; "" keeps the table in memory
	Now   func() time.Time
}

// Table is the addresses of one range. It is safe for concurrent use.
type Table struct {
	conf Config

	mu       sync.Mutex
	slots    []slot       // of the range, and then of reservations outside it
	outside  []netip.Addr // the addresses of the latter
	reserved map[MAC]int
	owned    map[MAC]int  // slots that are Leased or Released
	offered  map[MAC]int  // slots on offer, perhaps for a time that is over; the inverse of offeredTo
	changed  map[int]bool // slots whose change is not on disk
	unsaved  bool         // a Save failed
	broken   error

	saving sync.Mutex // one Save at a time
	log    log
}

// Open makes a table and fills it from its file, if there is one. A file that
// cannot be read, or not wholly, is put aside: see Broken. An error is one of
// the configuration.
func Open(conf Config) (*Table, error) {
	if conf.Now == nil {
		conf.Now = time.Now
	}
	if conf.Known == nil {
		conf.Known = func(MAC) bool { return false }
	}
	size, err := rangeSize(conf.First, conf.Last)
	if err != nil {
		return nil, err
	}
	t := &Table{conf: conf, slots: make([]slot, size), reserved: map[MAC]int{}, owned: map[MAC]int{}, offered: map[MAC]int{}, changed: map[int]bool{}}
	if err := t.reserve(); err != nil {
		return nil, err
	}
	if conf.File != "" {
		t.read()
	}
	return t, nil
}

// reserve keeps the reserved addresses for their machines.
func (t *Table) reserve() error {
	for mac, a := range t.conf.Reserved {
		i := t.index(a)
		if i < 0 {
			i = len(t.slots)
			t.slots, t.outside = append(t.slots, slot{}), append(t.outside, a)
		}
		if other := t.slots[i].keep; other != (MAC{}) {
			return fmt.Errorf("address %s is reserved for two machines, %s and %s", a, other, mac)
		}
		t.slots[i].keep, t.reserved[mac] = mac, i
	}
	return nil
}

func rangeSize(first, last netip.Addr) (int, error) {
	if !first.IsValid() && !last.IsValid() {
		return 0, nil
	}
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
	if size := len(t.slots) - len(t.outside); i >= size {
		return t.outside[i-size]
	}
	n := number(t.conf.First) + uint32(i)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// index is the slot of an address, -1 when it is none of ours to give.
func (t *Table) index(a netip.Addr) int {
	size := len(t.slots) - len(t.outside)
	if !a.Is4() {
		return -1
	}
	if size > 0 {
		if i := int64(number(a)) - int64(number(t.conf.First)); i >= 0 && i < int64(size) {
			return int(i)
		}
	}
	if i := slices.Index(t.outside, a); i >= 0 {
		return size + i
	}
	return -1
}

// Time is the length of a lease.
func (t *Table) Time() time.Duration { return t.conf.Time }

// Offer picks an address for a machine and keeps it for OfferTime: the one that
// is reserved for it, else the one it has or had, else the wanted one when nobody has it, else one that nobody
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
	t.withdraw(t.slots[i].offeredTo) // its time is over, or it is a stranger; the map stays as small as the range
	t.slots[i].offeredTo, t.slots[i].offeredUntil = mac, now.Add(OfferTime)
	t.offered[mac] = i
	return t.addr(i), nil
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
// has returned. Errors are ErrTaken, ErrReserved and ErrOutOfRange.
func (t *Table) Lease(mac MAC, a netip.Addr) (isNew bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.conf.Now()
	i := t.index(a)
	if i < 0 {
		return false, fmt.Errorf("address %s: %w", a, ErrOutOfRange)
	}
	s := &t.slots[i]
	if kept, ok := t.reserved[mac]; ok && kept != i && t.slots[kept].freeFor(mac, now) {
		return false, fmt.Errorf("address %s: %w, %s", a, ErrReserved, t.addr(kept))
	}
	if !s.freeFor(mac, now) || t.awaits(i, mac, !t.conf.Known(mac)) {
		return false, fmt.Errorf("address %s: %w", a, ErrTaken)
	}
	isNew = !(s.state == Leased && s.owner == mac && now.Before(s.expires))
	t.withdraw(mac)
	t.renew(i, mac, now)
	return isNew, nil
}

// renew makes a machine's lease of its address longer. What is on disk keeps the
// address for half a lease time more than the machine was told, so that most
// renewals, and the second to fourth request of a boot, write nothing.
func (t *Table) renew(i int, mac MAC, now time.Time) {
	s := &t.slots[i]
	expires := now.Add(t.conf.Time)
	if s.state == Leased && s.owner == mac && !expires.After(s.kept) {
		s.expires = expires
		return
	}
	t.own(i, mac, Leased, expires)
	s.kept = expires.Add(t.conf.Time / 2)
}

// own makes a machine the owner of a slot and of no other.
func (t *Table) own(i int, mac MAC, state State, expires time.Time) {
	t.disown(i)
	if old, ok := t.owned[mac]; ok {
		t.disown(old)
		t.slots[old].state = Free
		t.changed[old] = true
	}
	s := &t.slots[i]
	s.state, s.owner, s.by, s.expires, s.kept = state, mac, MAC{}, expires, expires
	t.owned[mac] = i
	t.changed[i] = true
}

// disown cuts the tie between a slot and its owner.
func (t *Table) disown(i int) {
	s := &t.slots[i]
	if s.state == Leased || s.state == Released {
		delete(t.owned, s.owner)
	}
	s.owner = MAC{}
}

// Fresh tells whether the machine has no address yet, by a lease or an earlier
// one or on offer: what it is offered next may be in use by somebody else.
func (t *Table) Fresh(mac MAC) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, owns := t.owned[mac]
	i, offered := t.offered[mac]
	return !owns && (!offered || !t.conf.Now().Before(t.slots[i].offeredUntil))
}

// SetAside sets an address aside for DeclineTime, because somebody without a
// lease uses it; it answers false when a machine has it.
func (t *Table) SetAside(a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, now := t.index(a), t.conf.Now()
	if i < 0 || t.slots[i].state == Leased && now.Before(t.slots[i].expires) {
		return false
	}
	s := &t.slots[i]
	t.withdraw(s.offeredTo)
	t.disown(i)
	s.state, s.by, s.expires = Declined, MAC{}, now.Add(DeclineTime)
	t.changed[i] = true
	return true
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
	t.changed[i] = true
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
	t.changed[i] = true
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
		t.slots[first].expires, t.changed[first] = now, true
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
