package lease_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/pxe/internal/lease"
)

// clock is a time of day that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time          { return c.now }
func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }

func newClock() *clock { return &clock{time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func addr(last int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(last)}) }

func mac(n int) lease.MAC { return lease.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)} }

// open opens a table of addresses 10.0.0.10 to 10.0.0.(9+size).
func open(t *testing.T, c *clock, file string, size int) *lease.Table {
	t.Helper()
	table, err := lease.Open(lease.Config{First: addr(10), Last: addr(9 + size), Time: time.Hour, File: file, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// take is a machine that asks for an address and gets it.
func take(t *testing.T, table *lease.Table, m lease.MAC) netip.Addr {
	t.Helper()
	a, err := table.Offer(m, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Lease(m, a); err != nil {
		t.Fatal(err)
	}
	return a
}

func wantAddr(t *testing.T, what string, got, want netip.Addr) {
	t.Helper()
	if got != want {
		t.Errorf("%s: address %s, want %s", what, got, want)
	}
}

func TestOffer(t *testing.T) {
	t.Run("the same machine gets the same address", func(t *testing.T) {
		c := newClock()
		table := open(t, c, "", 5)
		take(t, table, mac(1))
		first := take(t, table, mac(2))
		c.advance(3 * time.Hour) // its lease is over
		take(t, table, mac(3))   // and another machine came
		wantAddr(t, "second time", take(t, table, mac(2)), first)
	})
	t.Run("a wanted address", func(t *testing.T) {
		table := open(t, newClock(), "", 5)
		a, _ := table.Offer(mac(1), addr(13))
		wantAddr(t, "free", a, addr(13))
		a, _ = table.Offer(mac(2), addr(13))
		wantAddr(t, "on offer to another", a, addr(10))
		a, _ = table.Offer(mac(3), netip.MustParseAddr("192.168.0.1"))
		wantAddr(t, "not in the range", a, addr(11))
	})
	t.Run("an offer is kept, for a time", func(t *testing.T) {
		c := newClock()
		table := open(t, c, "", 1)
		if _, err := table.Offer(mac(1), netip.Addr{}); err != nil {
			t.Fatal(err)
		}
		if _, err := table.Lease(mac(2), addr(10)); !errors.Is(err, lease.ErrTaken) {
			t.Errorf("another machine takes it: error %v, want %v", err, lease.ErrTaken)
		}
		if _, err := table.Offer(mac(2), netip.Addr{}); !errors.Is(err, lease.ErrExhausted) {
			t.Errorf("error %v, want %v", err, lease.ErrExhausted)
		}
		c.advance(lease.OfferTime)
		if _, err := table.Offer(mac(2), netip.Addr{}); err != nil {
			t.Errorf("after its time: %v", err)
		}
	})
	t.Run("an offer taken back is free", func(t *testing.T) {
		table := open(t, newClock(), "", 1)
		table.Offer(mac(1), netip.Addr{})
		table.Withdraw(mac(1))
		wantAddr(t, "next machine", take(t, table, mac(2)), addr(10))
	})
	t.Run("the lease that ended longest ago is reused", func(t *testing.T) {
		c := newClock()
		table := open(t, c, "", 3)
		for _, m := range []int{1, 2, 3} {
			take(t, table, mac(m))
			c.advance(time.Minute)
		}
		if _, err := table.Lease(mac(1), addr(10)); err != nil { // machine 1 renews
			t.Fatal(err)
		}
		if _, err := table.Offer(mac(4), netip.Addr{}); !errors.Is(err, lease.ErrExhausted) {
			t.Fatalf("all are held: error %v, want %v", err, lease.ErrExhausted)
		}
		c.advance(2 * time.Hour)
		wantAddr(t, "next machine", take(t, table, mac(4)), addr(11))
	})
	t.Run("a machine whose address was given away gets another", func(t *testing.T) {
		c := newClock()
		table := open(t, c, "", 2)
		take(t, table, mac(1))
		take(t, table, mac(2))
		c.advance(2 * time.Hour)
		wantAddr(t, "machine 3", take(t, table, mac(3)), addr(10))
		if _, err := table.Lease(mac(1), addr(10)); !errors.Is(err, lease.ErrTaken) {
			t.Errorf("machine 1 wants its old one: error %v, want %v", err, lease.ErrTaken)
		}
		wantAddr(t, "machine 1", take(t, table, mac(1)), addr(11))
	})
}

func TestReleaseAndDecline(t *testing.T) {
	c := newClock()
	table := open(t, c, "", 2)
	a := take(t, table, mac(1))
	if table.Release(mac(2), a) {
		t.Error("a machine released another's address")
	}
	if !table.Release(mac(1), a) {
		t.Error("a machine could not release its address")
	}
	wantAddr(t, "after its release", take(t, table, mac(1)), a)

	if table.Decline(mac(2), a) {
		t.Error("a machine declined another's address")
	}
	if !table.Decline(mac(1), a) {
		t.Error("a machine could not decline its address")
	}
	if _, err := table.Lease(mac(1), a); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("lease of a declined address: error %v, want %v", err, lease.ErrTaken)
	}
	if got := take(t, table, mac(1)); got == a {
		t.Errorf("the declined address %s was given again", got)
	}
	c.advance(lease.DeclineTime)
	wantAddr(t, "after its time", take(t, table, mac(2)), a)
}

func TestRestart(t *testing.T) {
	c := newClock()
	file := filepath.Join(t.TempDir(), "leases")
	before := open(t, c, file, 3)
	a := take(t, before, mac(1))
	b := take(t, before, mac(2))
	before.Release(mac(2), b)
	declined := take(t, before, mac(3))
	before.Decline(mac(3), declined)
	if err := before.Save(); err != nil {
		t.Fatal(err)
	}

	want := `# Address leases. ADDRESS MACHINE EXPIRES STATE; states: leased, released, declined.
# A leased address is kept for half a lease time longer than its machine was told: fewer renewals are written.
# The last line about an address or a machine counts; lines with a checksum at their end are later changes.
# Written by the running server, read when it starts: change it only while the server is stopped.
10.0.0.10 02:00:00:00:00:01 2026-11-22T13:30:00Z leased
10.0.0.11 02:00:00:00:00:02 2026-11-22T12:00:00Z released
10.0.0.12 02:00:00:00:00:03 2026-11-22T13:00:00Z declined
`
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Errorf("file:\n%s\nwant:\n%s", text, want)
	}

	after := open(t, c, file, 3)
	wantAddr(t, "released", take(t, after, mac(2)), b)
	wantAddr(t, "leased", take(t, after, mac(1)), a)
	if _, err := after.Lease(mac(4), declined); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("error %v, want %v: the declined address is set aside", err, lease.ErrTaken)
	}
	if by, ok := after.Declined(declined); !ok || by != mac(3).String() {
		t.Errorf("Declined(%s) = %s, %v, want %s", declined, by, ok, mac(3))
	}
	if m, ok := after.Machine(a); !ok || m != mac(1) {
		t.Errorf("Machine(%s) = %s, %v", a, m, ok)
	}
	if _, ok := after.Machine(declined); ok {
		t.Errorf("Machine(%s) is known, though nobody has it", declined)
	}
}

// A lease written before the clock was set says nothing about its end.
func TestRestartAfterClockWasWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases")
	c := &clock{time.Date(1970, 1, 1, 0, 0, 30, 0, time.UTC)}
	before := open(t, c, file, 1)
	a := take(t, before, mac(1))
	if err := before.Save(); err != nil {
		t.Fatal(err)
	}
	c.now = newClock().now
	after := open(t, c, file, 1)
	if _, err := after.Lease(mac(2), a); !errors.Is(err, lease.ErrTaken) {
		t.Errorf("error %v, want %v", err, lease.ErrTaken)
	}
	c.advance(time.Hour)
	if _, err := after.Lease(mac(2), a); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

func TestRangeChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases")
	c := newClock()
	before := open(t, c, file, 5)
	before.Lease(mac(1), addr(14))
	if err := before.Save(); err != nil {
		t.Fatal(err)
	}
	after := open(t, c, file, 2)
	if _, err := after.Lease(mac(1), addr(14)); !errors.Is(err, lease.ErrOutOfRange) {
		t.Errorf("error %v, want %v", err, lease.ErrOutOfRange)
	}
	wantAddr(t, "its new one", take(t, after, mac(1)), addr(10))
}

// TestDeclineBound: a machine that finds every address in use costs itself and
// nobody else, also after a restart.
func TestDeclineBound(t *testing.T) {
	c := newClock()
	file := filepath.Join(t.TempDir(), "leases")
	table := open(t, c, file, 10)
	for range 30 {
		table.Decline(mac(1), take(t, table, mac(1)))
		c.advance(time.Second)
	}
	if err := table.Save(); err != nil {
		t.Fatal(err)
	}
	for _, table := range []*lease.Table{table, open(t, c, file, 10)} {
		aside := 0
		for i := range 10 {
			if _, ok := table.Declined(addr(10 + i)); ok {
				aside++
			}
		}
		if aside != lease.MaxDeclined {
			t.Errorf("%d addresses are set aside, want %d", aside, lease.MaxDeclined)
		}
		for n := range 10 { // the last ones get what was declined
			take(t, table, mac(2+n))
		}
		if _, err := table.Offer(mac(20), netip.Addr{}); !errors.Is(err, lease.ErrExhausted) || !strings.Contains(err.Error(), "of 10, 10 are leased") {
			t.Errorf("error %v, want one that says that all are leased", err)
		}
	}
}

// TestDeclinedLongestAgo: when nothing else is free, the address that was
// declined first is given first.
func TestDeclinedLongestAgo(t *testing.T) {
	c := newClock()
	table := open(t, c, "", 3)
	table.Lease(mac(1), addr(12))
	table.Lease(mac(2), addr(10))
	for _, m := range []int{1, 2} {
		table.Decline(mac(m), addr(14-2*m))
		c.advance(time.Minute)
	}
	wantAddr(t, "never given", take(t, table, mac(3)), addr(11))
	wantAddr(t, "declined longest ago", take(t, table, mac(4)), addr(12))
	wantAddr(t, "declined last", take(t, table, mac(5)), addr(10))
}

// TestBrokenFile: what cannot be understood never prevents a start. The file
// is put aside, what could be read of it stays, and is on disk again.
func TestBrokenFile(t *testing.T) {
	const good = "10.0.0.15 02:00:00:00:00:05 2099-11-22T13:00:00Z leased\n"
	for _, test := range []struct{ name, text, want string }{
		{"short line", "10.0.0.10 02:00:00:00:00:01 leased\n", "line 1: 3 words"},
		{"address", "# comment\n\n10.0.0.300 02:00:00:00:00:01 2026-11-22T13:00:00Z leased\n", `line 3: "10.0.0.300" is not`},
		{"time", "10.0.0.10 02:00:00:00:00:01 tomorrow leased\n", `"tomorrow" is not a time`},
		{"machine", "10.0.0.10 me 2026-11-22T13:00:00Z leased\n", `"me" is not an Ethernet address`},
		{"state", "10.0.0.10 02:00:00:00:00:01 2026-11-22T13:00:00Z mine\n", `"mine" is not a state`},
		{"address twice", "10.0.0.10 02:00:00:00:00:01 2026-11-22T13:00:00Z leased\n10.0.0.10 02:00:00:00:00:02 2026-11-22T13:00:00Z leased\n", "line 2: address 10.0.0.10 is there twice"},
		{"machine twice", "10.0.0.10 02:00:00:00:00:01 2026-11-22T13:00:00Z leased\n10.0.0.11 02:00:00:00:00:01 2026-11-22T13:00:00Z leased\n", "machine 02:00:00:00:00:01 is there twice"},
		{"changed line", "10.0.0.10 02:00:00:00:00:01 2026-11-22T13:00:00Z leased 00000000\n", "line 1: the checksum"},
		{"several", "a\nb\nc\n", "(and 2 further lines)"},
		{"zeros", strings.Repeat("\x00", 4096) + "\n", "line 1: 1 words"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "leases")
			if err := os.WriteFile(file, []byte(test.text+good), 0o644); err != nil {
				t.Fatal(err)
			}
			c := newClock()
			err := open(t, c, file, 11).Broken()
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "the file is now "+file+".broken") {
				t.Errorf("broken: %v, want %q and the file's new name", err, test.want)
			}
			if text, err := os.ReadFile(file + ".broken"); err != nil || string(text) != test.text+good {
				t.Errorf("the broken file is not kept (%v): %q", err, text)
			}
			again := open(t, c, file, 11)
			if err := again.Broken(); err != nil {
				t.Errorf("after it: %v", err)
			}
			if m, _ := again.Machine(addr(15)); m != mac(5) {
				t.Errorf("the good line is lost: %s", m)
			}
		})
	}
	t.Run("a directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "leases")
		if err := os.MkdirAll(filepath.Join(file, "full"), 0o755); err != nil {
			t.Fatal(err)
		}
		table := open(t, newClock(), file, 1)
		if err := table.Broken(); err == nil {
			t.Error("nothing is said")
		}
		take(t, table, mac(1))
		if err := table.Save(); err != nil {
			t.Error(err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "leases")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 1<<40); err != nil {
			t.Fatal(err)
		}
		if err := open(t, newClock(), file, 1).Broken(); err == nil || !strings.Contains(err.Error(), "is larger than") {
			t.Errorf("broken: %v", err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, last := range []string{"10.0.0.9", "10.2.0.10", "fe80::1"} {
		if _, err := lease.Open(lease.Config{First: addr(10), Last: netip.MustParseAddr(last)}); err == nil {
			t.Errorf("range 10.0.0.10 to %s was accepted", last)
		}
	}
}

// A failed save loses nothing: the next one writes it.
func TestSaveAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	file := filepath.Join(dir, "leases")
	table := open(t, newClock(), file, 1)
	take(t, table, mac(1))
	if err := table.Save(); err == nil {
		t.Fatal("save into a directory that does not exist succeeded")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := table.Save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// believer is a machine as it sees itself: it uses an address until the time
// that it was told is over.
type believer struct {
	addr  netip.Addr
	until time.Time
}

// TestNeverTwice lets machines do anything in any order, with restarts (of
// which some lose what was not saved), and looks after every step whether two
// machines use one address.
func TestNeverTwice(t *testing.T) {
	const machines, size, steps = 12, 6, 1000
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 1))
			c := newClock()
			file := filepath.Join(t.TempDir(), "leases")
			table := open(t, c, file, size)
			uses := map[lease.MAC]believer{}
			granted, reused := 0, 0
			for step := range steps {
				m := mac(1 + random.IntN(machines))
				has := uses[m]
				what := "nothing"
				switch random.IntN(12) {
				case 0, 1, 2, 3: // boots
					a, err := table.Offer(m, addr(8+random.IntN(size+4)))
					if err != nil || random.IntN(5) == 0 {
						break // the machine gives up in between
					}
					what = lend(t, table, uses, c, m, a)
				case 4, 5: // renews, or reboots and asks for what it had
					if has.addr.IsValid() {
						what = lend(t, table, uses, c, m, has.addr)
					}
				case 6: // asks for just any address
					what = lend(t, table, uses, c, m, addr(8+random.IntN(size+4)))
				case 7:
					table.Release(m, has.addr)
					delete(uses, m)
				case 8:
					if random.IntN(10) == 0 {
						table.Decline(m, has.addr)
						delete(uses, m)
					}
				case 9, 10:
					c.advance(time.Duration(random.IntN(1200)) * time.Second)
				case 11:
					if random.IntN(4) == 0 { // switched off; sometimes with a change that nobody was told of
						table.Lease(m, addr(10+random.IntN(size)))
						delete(uses, m)
						table = open(t, c, file, size)
					}
				}
				if what == "granted" {
					granted++
					if has.addr.IsValid() && has.addr == uses[m].addr {
						reused++
					}
				}
				checkNobodyShares(t, step, uses, c.now)
			}
			if granted < steps/20 || reused < granted/10 {
				t.Errorf("%d leases, %d of them to machines that had the address: the test tests nothing", granted, reused)
			}
		})
	}
}

// lend makes a lease durable before it tells the machine.
func lend(t *testing.T, table *lease.Table, uses map[lease.MAC]believer, c *clock, m lease.MAC, a netip.Addr) string {
	t.Helper()
	if _, err := table.Lease(m, a); err != nil {
		delete(uses, m) // told no, it forgets its address
		return "refused"
	}
	if err := table.Save(); err != nil {
		t.Fatal(err)
	}
	uses[m] = believer{a, c.now.Add(table.Time())}
	return "granted"
}

func checkNobodyShares(t *testing.T, step int, uses map[lease.MAC]believer, now time.Time) {
	t.Helper()
	users := map[netip.Addr]lease.MAC{}
	for m, b := range uses {
		if !now.Before(b.until) {
			continue
		}
		if other, ok := users[b.addr]; ok {
			t.Fatalf("step %d: %s and %s both use %s", step, m, other, b.addr)
		}
		users[b.addr] = m
	}
}
