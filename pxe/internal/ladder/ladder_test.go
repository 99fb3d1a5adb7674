package ladder_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/pxe/internal/firmware"
	"edeploy/pxe/internal/ladder"

	"github.com/google/go-cmp/cmp"
)

var uefi = firmware.Ladder(firmware.UEFI, "")

// TestNext: what is offered after what was seen.
func TestNext(t *testing.T) {
	type rungs = []firmware.Loader
	for _, test := range []struct {
		name   string
		is     ladder.History
		failed string // and now these fail, in this order
		hints  rungs
		want   firmware.Loader
	}{
		{name: "nothing is known", want: "ipxe"},
		{name: "the first one fails", failed: "ipxe", want: "ipxe-native"},
		{name: "three fail", failed: "ipxe ipxe-native grub", want: "http"},
		{name: "all fail", failed: "ipxe ipxe-native grub http", want: "ipxe"},
		{name: "all fail, and the first one again", failed: "ipxe ipxe-native grub http ipxe", want: "ipxe-native"},
		{name: "one works", is: ladder.History{Works: "grub"}, want: "grub"},
		{name: "it slips", is: ladder.History{Works: "grub"}, failed: "grub", want: "grub"},
		{name: "it works no longer", is: ladder.History{Works: "grub"}, failed: "grub grub", want: "ipxe"},
		{name: "the model has another", hints: rungs{"grub"}, want: "grub"},
		{name: "which fails here", hints: rungs{"grub", "ipxe-native"}, failed: "grub", want: "ipxe-native"},
		{name: "own experience counts more", is: ladder.History{Works: "ipxe-native"}, hints: rungs{"grub"}, want: "ipxe-native"},
		{name: "what works is gone", is: ladder.History{Works: "lilo"}, hints: rungs{"elilo"}, want: "ipxe"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := test.is
			for _, l := range strings.Fields(test.failed) {
				h = h.Fail(firmware.Loader(l), uefi)
			}
			if got := h.Next(uefi, test.hints); got != test.want {
				t.Errorf("next is %s, want %s, of %+v", got, test.want, h)
			}
		})
	}
	if got := (ladder.History{Works: "ipxe"}).Next(nil, nil); got != "" {
		t.Errorf("without rungs: %q", got)
	}
}

// TestFindsItsLoader: whichever loaders work on a machine, whatever it remembers
// and whatever works for others, one is offered within as many boots as there
// are rungs and the slips; and then every time.
func TestFindsItsLoader(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	pick := func() firmware.Loader { return uefi[r.IntN(len(uefi))] }
	for range 5000 {
		works := map[firmware.Loader]bool{pick(): true, pick(): true}
		h := ladder.History{}
		for range r.IntN(6) {
			h = h.Fail(pick(), uefi)
		}
		if r.IntN(2) == 0 {
			h.Works = pick()
		}
		hints := []firmware.Loader{pick(), pick()}[:r.IntN(3)]
		boots, limit := 0, 2*len(uefi)+1
		for next := h.Next(uefi, hints); !works[next]; next = h.Next(uefi, hints) {
			h = h.Fail(next, uefi)
			if boots++; boots > limit {
				t.Fatalf("%d boots, and none of %v is offered: %+v", boots, works, h)
			}
		}
	}
}

// world is a ladder with its surroundings.
type world struct {
	*ladder.Ladder
	now   time.Time
	known map[string]bool
	model map[string]string
	said  []string
	pause time.Duration // between boots
}

func newWorld(t *testing.T, file string) *world {
	t.Helper()
	w := &world{pause: time.Minute, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), known: map[string]bool{}, model: map[string]string{}}
	l, err := ladder.Open(ladder.Config{File: file, Now: func() time.Time { return w.now },
		Known: func(mac string) bool { return w.known[mac] },
		Model: func(mac, _ string) string { return w.model[mac] },
		Say:   func(_, _, sentence string) { w.said = append(w.said, sentence) }})
	if err != nil {
		t.Fatal(err)
	}
	w.Ladder = l
	return w
}

// boot is a firmware that is switched on and loads what it is named.
func (w *world) boot(mac string) firmware.Loader {
	w.now = w.now.Add(w.pause)
	ask := ladder.Ask{Firmware: ladder.Firmware{MAC: mac, Kind: firmware.UEFI}, UUID: "uuid-" + mac, Rungs: uefi, First: true}
	ask.Transaction = [4]byte{byte(w.now.Unix()), byte(w.now.Unix() >> 8)}
	w.Offer(ask)
	ask.First, ask.Last = false, true
	return w.Offer(ask)
}

// bootUntil boots a machine until its loader brings it to the agent.
func (w *world) bootUntil(mac string, works firmware.Loader) (boots int) {
	for boots = 1; w.boot(mac) != works; boots++ {
		if boots > 20 {
			return boots
		}
	}
	w.Script(mac, "", false)
	w.Script(mac, "", true)
	return boots
}

func machine(n int) string { return fmt.Sprintf("52:54:00:00:%02x:%02x", n>>8, n&255) }

// TestLearns: each loader in turn is found in at most four boots and kept, also
// over a restart, and known machines teach others like them.
func TestLearns(t *testing.T) {
	for i, works := range uefi {
		t.Run(string(works), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "loaders")
			w := newWorld(t, file)
			if boots := w.bootUntil(machine(1), works); boots != i+1 {
				t.Errorf("%d boots, want %d", boots, i+1)
			}
			if err := w.Save(); err != nil {
				t.Fatal(err)
			}
			again := newWorld(t, file)
			if boots := again.bootUntil(machine(1), works); boots != 1 {
				t.Errorf("after a restart: %d boots", boots)
			}
			if boots := again.bootUntil(machine(2), works); boots != i+1 {
				t.Errorf("a stranger taught another machine: %d boots", boots)
			}
			again.known[machine(1)] = true
			again.now = again.now.Add(time.Minute)
			if boots := again.bootUntil(machine(3), works); boots != 1 {
				t.Errorf("the next machine of its kind: %d boots", boots)
			}
			if want := "the loader " + string(works) + " works, and is remembered"; w.said[len(w.said)-1] != want {
				t.Errorf("said %q", w.said)
			}
		})
	}
}

// TestModel: a machine's model counts more than the maker of its card.
func TestModel(t *testing.T) {
	w := newWorld(t, "")
	for n := range 5 {
		w.known[machine(n)], w.model[machine(n)] = true, "ACME small"
		w.bootUntil(machine(n), "ipxe-native")
	}
	w.known[machine(6)], w.model[machine(6)] = true, "ACME large"
	w.bootUntil(machine(6), "grub")
	w.model[machine(7)] = "ACME large"
	if got := w.boot(machine(7)); got != "grub" {
		t.Errorf("a machine of the model is offered %s", got)
	}
	if got := w.boot(machine(8)); got != "ipxe-native" {
		t.Errorf("a machine whose model is not known is offered %s", got)
	}
}

// TestAttempts: what ends an attempt, and what does not.
func TestAttempts(t *testing.T) {
	ask := ladder.Ask{Firmware: ladder.Firmware{MAC: machine(1), Kind: firmware.UEFI}, UUID: "u", Transaction: [4]byte{1}, Rungs: uefi, First: true, Last: true}
	other := ask
	other.Transaction = [4]byte{2}
	for _, test := range []struct {
		name string
		do   func(w *world)
		want firmware.Loader
	}{
		{"asks again", func(w *world) { w.now = w.now.Add(time.Minute) }, "ipxe-native"},
		{"asks again at once", func(w *world) { w.now = w.now.Add(time.Second) }, "ipxe"},
		{"has its script, not the agent", func(w *world) {
			w.now = w.now.Add(time.Minute)
			w.Script(ask.MAC, "", false)
			w.now = w.now.Add(time.Minute)
		}, "ipxe-native"},
		{"has its script by another card", func(w *world) { w.Script(machine(9), "u", true); w.now = w.now.Add(time.Minute) }, "ipxe"},
		{"an agent without a script", func(w *world) { w.Agent(ask.MAC, "u"); w.now = w.now.Add(time.Minute) }, "ipxe-native"},
		{"script, and the agent asks DHCP", func(w *world) { w.Script(ask.MAC, "u", false); w.Agent(ask.MAC, ""); w.now = w.now.Add(time.Minute) }, "ipxe"},
		{"another machine's script", func(w *world) { w.Script(machine(9), "v", true); w.now = w.now.Add(time.Minute) }, "ipxe-native"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "")
			w.Offer(ask)
			test.do(w)
			if got := w.Offer(other); got != test.want {
				t.Errorf("offers %s, want %s; said %q", got, test.want, w.said)
			}
		})
	}
	t.Run("the same try for ever", func(t *testing.T) {
		w := newWorld(t, "")
		w.Offer(ask)
		w.now = w.now.Add(time.Minute)
		if got := w.Offer(ask); got != "ipxe" {
			t.Errorf("after a minute: %s", got)
		}
		late := other // to the boot server, port 4011
		if late.First = false; w.Offer(late) != "ipxe" {
			t.Error("another request of the same try ends it")
		}
		w.now = w.now.Add(ladder.Patience)
		w.Expire()
		if got := w.Offer(ask); got != "ipxe-native" || len(w.said) != 1 || !strings.Contains(w.said[0], "nothing was heard of it for 5m0s; next: ipxe-native") {
			t.Errorf("after its time: %s, %q", got, w.said)
		}
	})
}

// TestStrangers: any number of random machines take a bounded place, and not
// that of known machines, which also stay in the file.
func TestStrangers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "loaders")
	w := newWorld(t, file)
	for n := range 200 {
		w.known[machine(n)] = true
		w.bootUntil(machine(n), "grub")
	}
	w.pause = 10 * time.Millisecond
	for n := range 10_000 {
		mac := fmt.Sprintf("02:00:00:%02x:%02x:00", n>>8, n&255)
		if w.boot(mac); n%2 == 0 {
			w.Script(mac, "", true)
		}
	}
	if n := w.Size(); n > 200+ladder.MaxStrangers*5/4 {
		t.Errorf("%d machines are remembered", n)
	}
	if err := w.Save(); err != nil {
		t.Fatal(err)
	}
	w.pause = time.Minute
	again := newWorld(t, file)
	again.known = w.known
	for n := range 200 {
		for _, w := range []*world{w, again} {
			if got := w.boot(machine(n)); got != "grub" {
				t.Fatalf("known machine %d is offered %s", n, got)
			}
		}
	}
}

// TestBrokenFile: a file is taken whole or not at all.
func TestBrokenFile(t *testing.T) {
	const good = "52:54:00:00:00:01 uefi-x64 grub - 0\n"
	for _, bad := range []string{"52:54:00:00:00:02 uefi-x64 gr", "52:54:00:00:00:02 uefi-x64 grub - 9\n", "x uefi-x64 grub - 0\n", "52:54:00:00:00:02 bios a a,a,a,a,a,a,a,a,a 0\n", "\x00\x00"} {
		file := filepath.Join(t.TempDir(), "loaders")
		if err := os.WriteFile(file, []byte(good+bad), 0o644); err != nil {
			t.Fatal(err)
		}
		l, err := ladder.Open(ladder.Config{File: file})
		if err == nil || !strings.Contains(err.Error(), file+": line 2: ") {
			t.Errorf("%q: %v", bad, err)
		}
		if n := l.Size(); n != 0 {
			t.Errorf("%q: %d machines", bad, n)
		}
	}
}

// FuzzFile: whatever the file holds, it is read or refused; what is read is
// written in a form that is read again as the same.
func FuzzFile(f *testing.F) {
	f.Add("# x\n52:54:00:00:00:01 uefi-x64 grub ipxe,http 1\n")
	f.Add("52-54-00-00-00-01 bios - - 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		first, err := ladder.Parse(text)
		if err != nil {
			return
		}
		again, err := ladder.Parse(ladder.Text(first))
		if err != nil {
			t.Fatalf("own file is refused: %v", err)
		}
		for m, h := range first {
			if h.Works == "" && len(h.Failed) == 0 {
				delete(first, m)
			}
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Error(diff)
		}
	})
}
