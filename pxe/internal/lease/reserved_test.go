package lease_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/pxe/internal/lease"
)

// TestReserved: a reserved address is its machine's and nobody else's, in the
// range and outside of it, also when another machine had it before.
func TestReserved(t *testing.T) {
	c := newClock()
	file := filepath.Join(t.TempDir(), "leases")
	before := open(t, c, file, 3)
	inside := addr(11)
	if _, err := before.Lease(mac(9), inside); err != nil {
		t.Fatal(err)
	}
	if err := before.Save(); err != nil {
		t.Fatal(err)
	}
	outside := netip.MustParseAddr("10.0.0.200")
	conf := lease.Config{First: addr(10), Last: addr(12), Time: time.Hour, File: file, Now: c.Now,
		Reserved: map[lease.MAC]netip.Addr{mac(1): inside, mac(2): outside}}
	table, err := lease.Open(conf)
	if err != nil {
		t.Fatal(err)
	}
	wantAddr(t, "while another has it", take(t, table, mac(1)), addr(10))
	if _, err := table.Lease(mac(9), inside); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("renewal by the machine that has it: %v, want %v", err, lease.ErrTaken)
	}
	c.advance(90 * time.Minute) // a restart knows leases as the file keeps them
	if _, err := table.Lease(mac(1), addr(10)); !errors.Is(err, lease.ErrReserved) {
		t.Errorf("renewal of the makeshift: %v, want %v", err, lease.ErrReserved)
	}
	wantAddr(t, "reserved inside the range", take(t, table, mac(1)), inside)
	wantAddr(t, "reserved outside the range", take(t, table, mac(2)), outside)
	for n := range 2 {
		if got := take(t, table, mac(20+n)); got == inside || got == outside {
			t.Errorf("machine %d gets the reserved address %s", n, got)
		}
	}
	for _, a := range []netip.Addr{inside, outside} {
		if _, err := table.Lease(mac(30), a); !errors.Is(err, lease.ErrTaken) {
			t.Errorf("another machine leases %s: %v, want %v", a, err, lease.ErrTaken)
		}
	}
	if err := table.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := lease.Open(conf)
	if err != nil || again.Broken() != nil {
		t.Fatalf("%v, %v", err, again.Broken())
	}
	if a, ok := again.Address(mac(2)); !ok || a != outside {
		t.Errorf("after a restart its address is %s, want %s", a, outside)
	}
}

// TestReservedOnly: without a range, only reservations are given.
func TestReservedOnly(t *testing.T) {
	table, err := lease.Open(lease.Config{Time: time.Hour, Reserved: map[lease.MAC]netip.Addr{mac(1): addr(5)}})
	if err != nil {
		t.Fatal(err)
	}
	wantAddr(t, "reserved", take(t, table, mac(1)), addr(5))
	if a, err := table.Offer(mac(2), netip.Addr{}); !errors.Is(err, lease.ErrExhausted) {
		t.Errorf("another machine is offered %s, %v", a, err)
	}
	_, err = lease.Open(lease.Config{First: addr(1), Last: addr(3), Reserved: map[lease.MAC]netip.Addr{mac(1): addr(2), mac(2): addr(2)}})
	if err == nil || !strings.Contains(err.Error(), "address 10.0.0.2 is reserved for two machines") {
		t.Errorf("one address for two machines: %v", err)
	}
}
