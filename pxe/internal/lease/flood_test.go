package lease_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"edeploy/pxe/internal/lease"
)

// TestFlood: 10,000 machines that nobody knows, who take every address that they
// can get, leave those of known machines alone, also when their leases have
// ended; a known machine that had none gets what is only on offer. The table
// does not grow.
func TestFlood(t *testing.T) {
	const known, size = 5, 20
	c := newClock()
	table, err := lease.Open(lease.Config{First: addr(10), Last: addr(9 + size), Time: time.Hour, Now: c.Now,
		Known: func(m lease.MAC) bool { return m[4] == 0 && m[5] <= known+1 }})
	if err != nil {
		t.Fatal(err)
	}
	have := map[lease.MAC]netip.Addr{}
	for n := range known {
		have[mac(n)] = take(t, table, mac(n))
	}
	c.advance(2 * time.Hour)
	stranger := func(n int) lease.MAC { return lease.MAC{2, 1, byte(n >> 16), byte(n >> 8), 1, byte(n)} }
	for n := range 10_000 {
		if n%3 == 0 { // asks for a known machine's
			for _, a := range have {
				if _, err := table.Lease(stranger(n), a); !errors.Is(err, lease.ErrTaken) {
					t.Fatalf("a stranger leases %s: %v", a, err)
				}
				table.Offer(stranger(n), a)
			}
		}
		if a, err := table.Offer(stranger(n), netip.Addr{}); err == nil && n%2 == 0 && n < 10 {
			table.Lease(stranger(n), a)
		}
		c.advance(time.Millisecond)
	}
	if _, err := table.Offer(stranger(10_000), netip.Addr{}); err == nil || !strings.HasSuffix(err.Error(), "of 20, 5 are leased and 10 on offer, 5 wait for known machines") {
		t.Errorf("the next stranger: %v", err)
	}
	for m, a := range have {
		wantAddr(t, "of a known machine", take(t, table, m), a)
	}
	if a, err := table.Offer(mac(known+1), netip.Addr{}); err != nil {
		t.Errorf("a known machine without an address: %v", err)
	} else if _, err := table.Lease(mac(known+1), a); err != nil {
		t.Errorf("a known machine without an address: %v", err)
	}
	if owned, offered := table.Sizes(); owned > size || offered > size {
		t.Errorf("%d machines with an address, %d with an offer, in a range of %d", owned, offered, size)
	}
}
