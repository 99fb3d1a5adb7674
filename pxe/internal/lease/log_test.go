package lease_test

import (
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

// random does anything to a table.
func random(r *rand.Rand, table *lease.Table, c *clock, size int) {
	m := mac(1 + r.IntN(size+2))
	has, _ := table.Address(m)
	switch r.IntN(8) {
	case 0, 1, 2:
		if a, err := table.Offer(m, netip.Addr{}); err == nil {
			table.Lease(m, a)
		}
	case 3:
		table.Lease(m, addr(10+r.IntN(size)))
	case 4:
		table.Release(m, has)
	case 5:
		table.Decline(m, has)
	case 6:
		table.SetAside(addr(10 + r.IntN(size)))
	case 7:
		c.advance(time.Duration(r.IntN(2000)) * time.Second)
	}
}

// TestLogIsTable: whatever happens, in groups of any size, the file says what
// the table says, and is read again without complaint.
func TestLogIsTable(t *testing.T) {
	const size = 12
	for seed := range uint64(5) {
		r, c := rand.New(rand.NewPCG(seed, 2)), newClock()
		file := filepath.Join(t.TempDir(), "leases")
		table := open(t, c, file, size)
		for range 100 {
			for range r.IntN(6) {
				random(r, table, c, size)
			}
			if err := table.Save(); err != nil {
				t.Fatal(err)
			}
			again := open(t, c, file, size)
			if err := again.Broken(); err != nil || again.Text() != table.Text() {
				t.Fatalf("seed %d: read back: %v\n%s\nwant\n%s", seed, err, again.Text(), table.Text())
			}
			if r.IntN(50) == 0 {
				table = again
			}
		}
	}
}

// TestPowerCut cuts the power after every byte of every Save, with zeros behind
// it or not: each line of the table is as before the Save or as after it, what
// did not change is there, and nothing is called broken. What is left of a
// file that was to replace the other one does not matter.
func TestPowerCut(t *testing.T) {
	const size = 8
	r, c := rand.New(rand.NewPCG(1, 3)), newClock()
	dir := t.TempDir()
	file, cut := filepath.Join(dir, "leases"), filepath.Join(dir, "cut")
	table := open(t, c, file, size)
	before, was := "", table.Text()
	for range 25 {
		for range 1 + r.IntN(3) {
			random(r, table, c, size)
		}
		if err := table.Save(); err != nil {
			t.Fatal(err)
		}
		after, is := contents(t, file), table.Text()
		if tail, appended := strings.CutPrefix(after, before); appended && before != "" {
			for n := range len(tail) + 1 {
				for _, torn := range []string{"", "\x00\x00\x00"} {
					os.Remove(cut) // a file that is cut and written is slow on ext4
					if err := os.WriteFile(cut, []byte(before+tail[:n]+torn), 0o644); err != nil {
						t.Fatal(err)
					}
					checkCut(t, open(t, c, cut, size), was, is, n == len(tail))
				}
			}
		}
		before, was = after, is
	}
	if err := os.WriteFile(file+"123456", []byte(before[:len(before)/2]), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := open(t, c, file, size); again.Broken() != nil || again.Text() != was {
		t.Errorf("beside half a new file: %v\n%s", again.Broken(), again.Text())
	}
}

func checkCut(t *testing.T, table *lease.Table, was, is string, whole bool) {
	t.Helper()
	got := table.Text()
	if err := table.Broken(); err != nil || whole && got != is {
		t.Fatalf("after the cut: %v\n%s\nbefore\n%s\nafter\n%s", err, got, was, is)
	}
	for line := range strings.Lines(got) {
		if !strings.Contains(was, line) && !strings.Contains(is, line) {
			t.Fatalf("line %q was never true: before\n%s\nafter\n%s", line, was, is)
		}
	}
	for line := range strings.Lines(was) {
		if strings.Contains(is, line) && !strings.Contains(got, line) {
			t.Fatalf("line %q is lost", line)
		}
	}
}

func contents(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLogIsBounded: renewals for ever take no more room than the table twice and
// some changes.
func TestLogIsBounded(t *testing.T) {
	const size = 200
	c := newClock()
	file := filepath.Join(t.TempDir(), "leases")
	table := open(t, c, file, size)
	largest, appended := 0, 0
	for n := range 15_000 {
		if _, err := table.Lease(mac(n%size), addr(10+n%size)); err != nil {
			t.Fatal(err)
		}
		c.advance(10 * time.Second)
		if n%30 != 0 {
			continue
		}
		before := contentsOr(file)
		if err := table.Save(); err != nil {
			t.Fatal(err)
		}
		after := contents(t, file)
		if largest = max(largest, len(after)); strings.HasPrefix(after, before) && before != "" {
			appended++
		}
	}
	if limit := size*70 + 64<<10; largest > limit || largest < limit/2 || appended < 450 {
		t.Errorf("the file had up to %d bytes, want up to %d; %d of 500 Saves appended", largest, limit, appended)
	}
}

func contentsOr(file string) string {
	text, _ := os.ReadFile(file)
	return string(text)
}

// TestRenewalsAreKept: most renewals write nothing, and yet at no time does the
// file say less than a machine was told.
func TestRenewalsAreKept(t *testing.T) {
	c := newClock()
	file := filepath.Join(t.TempDir(), "leases")
	table := open(t, c, file, 3)
	take(t, table, mac(1))
	writes, last := 0, ""
	for range 48 {
		if _, err := table.Lease(mac(1), addr(10)); err != nil {
			t.Fatal(err)
		}
		if err := table.Save(); err != nil {
			t.Fatal(err)
		}
		if now := contents(t, file); now != last {
			writes, last = writes+1, now
		}
		again := lease.Config{First: addr(10), Last: addr(12), Time: time.Hour, File: file, Now: func() time.Time { return c.now.Add(time.Hour - 1) }}
		if other, err := lease.Open(again); err != nil {
			t.Fatal(err)
		} else if _, err := other.Lease(mac(2), addr(10)); err == nil {
			t.Fatal("the address is given away before the time is over that its machine was told")
		}
		c.advance(30 * time.Minute)
	}
	if writes != 24 {
		t.Errorf("%d of 48 renewals were written, want 24", writes)
	}
}

// TestLogDoubts: a file that is not what was left there is written whole.
func TestLogDoubts(t *testing.T) {
	for name, meddle := range map[string]func(file string){
		"removed":  func(file string) { os.Remove(file) },
		"replaced": func(file string) { os.Remove(file); os.WriteFile(file, nil, 0o644) },
		"appended": func(file string) { os.WriteFile(file, []byte("?\n"), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "leases")
			c := newClock()
			table := open(t, c, file, 20)
			for n := range 3 {
				table.Lease(mac(n), addr(10+n))
				if err := table.Save(); err != nil {
					t.Fatal(err)
				}
			}
			meddle(file)
			table.Lease(mac(3), addr(13))
			if err := table.Save(); err != nil {
				t.Fatal(err)
			}
			if got := contents(t, file); got != table.Text() {
				t.Errorf("the file is\n%s\nwant\n%s", got, table.Text())
			}
		})
	}
}

// TestSaveFails: a Save that fails part of the way leaves nothing behind that the
// next one does not mend.
func TestSaveFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	file := filepath.Join(dir, "leases")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	table := open(t, newClock(), file, 3)
	for n := range 3 {
		table.Lease(mac(n), addr(10+n))
		if n == 1 {
			os.Rename(dir, dir+"2")
		}
		if n == 2 {
			os.Rename(dir+"2", dir)
		}
		if err := table.Save(); (err != nil) != (n == 1) {
			t.Fatalf("save %d: %v", n, err)
		}
	}
	if again := open(t, newClock(), file, 3); again.Text() != table.Text() {
		t.Errorf("the file is\n%s\nwant\n%s", again.Text(), table.Text())
	}
}

// BenchmarkSave is one change on the disk.
func BenchmarkSave(b *testing.B) {
	for _, size := range []int{1000, 50_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			table, err := lease.Open(lease.Config{First: netip.MustParseAddr("10.0.0.0"), Last: netip.MustParseAddr("10.0.255.255"),
				Time: time.Hour, File: filepath.Join(b.TempDir(), "leases")})
			if err != nil {
				b.Fatal(err)
			}
			at := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
			for n := range size {
				table.Lease(mac(n), at(n))
			}
			for n := 0; b.Loop(); n++ {
				table.Release(mac(n%size), at(n%size))
				if err := table.Save(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
