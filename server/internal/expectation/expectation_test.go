package expectation_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"edeploy/server/api"
	"edeploy/server/internal/expectation"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func fact(category, id, field string, value any) wire.Fact {
	return wire.Fact{Category: category, ID: id, Field: field, Value: value}
}

// node is a server with two banks, two disks and two adapters.
func node() wire.Hardware {
	return wire.Hardware{
		fact("system", "product", "name", "R7"), fact("system", "product", "serial", "CZ1"), fact("system", "kernel", "version", "6.1"),
		fact("firmware", "bios", "version", "1.1"),
		fact("memory", "banks", "count", "2"),
		fact("memory", "bank:0", "size", "17179869184"), fact("memory", "bank:0", "clock", "3200000000"),
		fact("memory", "bank:1", "size", "17179869184"), fact("memory", "bank:1", "clock", "3200000000"),
		fact("disk", "logical", "count", "2"),
		fact("disk", "sda", "size", "480"), fact("disk", "sda", "model", "SSD"), fact("disk", "sda", "rev", "F1"), fact("disk", "sda", "id", "ata-1"),
		fact("disk", "sdb", "size", "4000"), fact("disk", "sdb", "model", "HDD"), fact("disk", "sdb", "rev", "G1"), fact("disk", "sdb", "SMART/Power(9)/raw", "9"),
		fact("network", "eth0", "serial", "02:00:00:00:00:01"), fact("network", "eth0", "speed", "10Gbit/s"), fact("network", "eth0", "driver", "ixgbe"),
		fact("network", "eth1", "serial", "02:00:00:00:00:02"), fact("network", "eth1", "speed", "1Gbit/s"), fact("network", "eth1", "ipv4", "10.0.0.1"),
	}
}

// without are the facts that begin with these words.
func without(h wire.Hardware, words ...string) wire.Hardware {
	return slices.DeleteFunc(slices.Clone(h), func(f wire.Fact) bool {
		return slices.Equal([]string{f.Category, f.ID, f.Field}[:len(words)], words)
	})
}

// with replaces the value of a fact, or adds it.
func with(h wire.Hardware, category, id, field string, value any) wire.Hardware {
	return append(without(h, category, id, field), fact(category, id, field, value))
}

// renamed gives components of a category other names.
func renamed(h wire.Hardware, names map[string]string) wire.Hardware {
	h = slices.Clone(h)
	for i := range h {
		if to, ok := names[h[i].Category+" "+h[i].ID]; ok {
			h[i].ID = to
		}
	}
	return h
}

func TestCompare(t *testing.T) {
	bill := expectation.New(node(), nil)
	for _, tt := range []struct {
		name string
		hw   wire.Hardware
		want []string
	}{
		{"itself", node(), nil},
		{"another of the same order", with(with(with(node(), "system", "product", "serial", "CZ2"), "network", "eth0", "serial", "02:00:00:00:00:09"), "disk", "sda", "id", "ata-2"), nil},
		{"another kernel", with(with(node(), "system", "kernel", "version", "6.12"), "network", "eth0", "driver", "ixgbe2"), nil},
		{"measured", with(with(node(), "disk", "sdb", "SMART/Power(9)/raw", "10"), "network", "eth1", "ipv4", "10.0.0.2"), nil},
		{"a number instead of a text", with(node(), "disk", "sda", "size", int64(480)), nil},
		{"a DIMM is missing", with(without(node(), "memory", "bank:1"), "memory", "banks", "count", "1"),
			[]string{"memory bank:1 is missing: clock 3200000000, size 17179869184", "memory banks count: 1 instead of 2"}},
		{"a smaller DIMM", with(node(), "memory", "bank:1", "size", "8589934592"), []string{"memory bank:1 size: 8589934592 instead of 17179869184"}},
		{"other firmware", with(node(), "firmware", "bios", "version", "1.0"), []string{"firmware bios version: 1.0 instead of 1.1"}},
		{"a slow link", with(node(), "network", "eth0", "speed", "1Gbit/s"), []string{"network eth0 speed: 1Gbit/s instead of 10Gbit/s"}},
		{"no link", without(node(), "network", "eth1", "speed"), []string{"network eth1 is missing: speed 1Gbit/s"}},
		{"a disk is missing", with(without(node(), "disk", "sdb"), "disk", "logical", "count", "1"),
			[]string{"disk logical count: 1 instead of 2", "disk sdb is missing: model HDD, rev G1, size 4000"}},
		{"a disk is missing, the other one has its name", with(renamed(without(node(), "disk", "sda"), map[string]string{"disk sdb": "sda"}), "disk", "logical", "count", "1"),
			[]string{"disk logical count: 1 instead of 2", "disk sda is missing: model SSD, rev F1, size 480"}},
		{"a disk more", append(with(node(), "disk", "logical", "count", "3"), fact("disk", "sdc", "size", "16")),
			[]string{"disk logical count: 3 instead of 2", "disk sdc is not in the bill: size 16"}},
		{"disks and adapters change places", renamed(node(), map[string]string{"disk sda": "sdb", "disk sdb": "sda", "network eth0": "eth1", "network eth1": "eth0"}), nil},
		{"changed places, and other firmware", with(renamed(node(), map[string]string{"disk sda": "nvme0n1"}), "disk", "nvme0n1", "rev", "F2"),
			[]string{"disk sda (here nvme0n1) rev: F2 instead of F1"}},
		{"DIMMs do not change places", renamed(node(), map[string]string{"memory bank:1": "bank:2"}),
			[]string{"memory bank:1 is missing: clock 3200000000, size 17179869184", "memory bank:2 is not in the bill: clock 3200000000, size 17179869184"}},
		{"a property more", with(node(), "firmware", "bios", "date", "2020"), []string{"firmware bios date: 2020 instead of nothing"}},
		{"a property less", with(without(node(), "disk", "sda", "rev"), "disk", "sda", "model", "SSD"), []string{"disk sda rev: nothing instead of F1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, d := range bill.Compare(expectation.Of(tt.hw)) {
				got = append(got, d.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIgnore(t *testing.T) {
	other := with(with(with(node(), "network", "eth0", "speed", "1"), "network", "eth1", "speed", "2"), "firmware", "bios", "version", "9")
	for _, tt := range []struct {
		pattern expectation.Pattern
		want    int // differences
	}{
		{expectation.Pattern{Category: "network", ID: "*", Field: "speed"}, 1},
		{expectation.Pattern{Category: "network", ID: "eth0", Field: "speed"}, 2},
		{expectation.Pattern{Category: "*", ID: "*", Field: "*"}, 0},
		{expectation.Pattern{Category: "net*k", ID: "e*0", Field: "*eed"}, 2},
		{expectation.Pattern{Category: "network", ID: "eth", Field: "speed"}, 3},
		{expectation.Pattern{Category: "firmware", ID: "b*i*s", Field: "v*"}, 2},
		{expectation.Pattern{Category: "firmware", ID: "b*i*i*s", Field: "v*"}, 3},
	} {
		if got := expectation.New(node(), []expectation.Pattern{tt.pattern}).Compare(expectation.Of(other)); len(got) != tt.want {
			t.Errorf("%v: %v, want %d", tt.pattern, got, tt.want)
		}
	}
}

func TestIdentifies(t *testing.T) {
	for _, tt := range []struct {
		fact wire.Fact
		want bool
	}{
		{fact("cpu", "logical", "number", "16"), true},
		{fact("cpu", "physical_0", "flags", "fpu vmx"), false},
		{fact("cpu", "physical_0", "governor", "performance"), false},
		{fact("cpu", "physical_0", "version", "0x2b"), true},
		{fact("cpu", "physical_0", "vulnerability_spectre", "Mitigation"), false},
		{fact("disk", "sda", "scheduler", "none"), false},
		{fact("disk", "sda", "rev", "F1"), true},
		{fact("disk", "sda", "SMART/firmware_version", "F1"), true},
		{fact("disk", "sda", "SMART/health", "OK"), false},
		{fact("disk", "nvme0n1", "nvme/percentage_used", "3"), false},
		{fact("network", "eth0", "firmware", "3.2"), true},
		{fact("network", "eth0", "driver", "igb"), false},
		{fact("network", "eth0", "driverversion", "1"), true},
		{fact("network", "eth0", "tx-checksumming", "fixed"), false},
		{fact("network", "eth0", "large-receive-offload", "off [fixed]"), false},
		{fact("network", "eth0", "speed", "1Gbit/s"), true},
		{fact("network", "eth0", "serial", "02:00:00:00:00:01"), false},
		{fact("system", "kernel", "version", "6.1"), false},
		{fact("firmware", "boot", "mode", "efi"), true},
		{fact("cpu", "vulnerabilities", "meltdown", "Mitigation: PTI"), false},
		{fact("cpu", "physical_0", "Core_0/critical_alarm", "0"), false},
		{fact("hwmon", "nvme.0", "Composite/critical", "84850"), false},
		{fact("ipmi", "lan", "ip-address-source", "Static Address"), false},
		{fact("disk", "logical", "count", "2"), true},
		{fact("disk", "1I:1:1", "phy_count", "2"), true},
		{fact("disk", "sda", "Write Cache Enable", "1"), false},
		{fact("pdisk", "disk0", "FirmwareState", "Online, Spun Up"), false},
		{fact("pdisk", "disk0", "ShieldCounter", "0"), false},
		{fact("pdisk", "disk0", "PredictiveFailureCount", "0"), false},
		{fact("pdisk", "disk0", "LastPredictiveFailureEventSeqNumber", "0"), false},
		{fact("pdisk", "disk0", "DeviceFirmwareLevel", "ST31"), true},
		{fact("ldisk", "disk0", "Name", "system"), false},
		{fact("megaraid", "Controller_0", "MemorySize", "1024MB"), true},
		{fact("areca", "hardware", "ControllerTemp.", "38"), false},
		{fact("areca", "system", "FirmwareVersion", "V1.49"), true},
		{fact("infiniband", "card0_port1", "physical_state", "LinkUp"), false},
		{fact("infiniband", "card0_port1", "rate", "40"), true},
		{fact("network", "eth0", "mtu", "1500"), false},
		{fact("pci", "0000:01:00.0", "link-width", "8"), true},
		{fact("temperature", "cpu0", "value", "45"), false},
		{fact("pci", "0000:01:00.0", "device", "0x10fb"), true},
	} {
		if got := expectation.Identifies(tt.fact); got != tt.want {
			t.Errorf("%v: got %v", tt.fact, got)
		}
	}
}

// random is any description: few names, so that they meet, and values of all
// types, some of which look like measurements.
func random(r *rand.Rand) wire.Hardware {
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	var h wire.Hardware
	for range r.IntN(40) {
		var value any = pick("480", "on", "02:00:00:00:00:01", "1.5", "it's", "\"", "\\n\n", "é\x00", "", "*")
		switch r.IntN(6) {
		case 0:
			value = r.Int64N(5)
		case 1:
			value = r.Float64() * 1e22
		case 2:
			value = r.IntN(2) == 0
		case 3:
			value = nil
		}
		h = append(h, fact(pick("disk", "network", "memory", "x'"), pick("sda", "sdb", "a*", "10.0.0.1", "logical"), pick("size", "model", "serial", "SMART/x", "speed", "é"), value))
	}
	return h
}

// TestOwnBill: a machine always equals the bill made from it, also after it was
// written and read, in whatever order its facts come, and whatever its disks
// and adapters are called.
func TestOwnBill(t *testing.T) {
	ignores := [][]expectation.Pattern{nil, {{Category: "disk", ID: "*", Field: "size"}}, {{Category: "*", ID: "a*", Field: "mo*"}, {Category: "x'", ID: "*", Field: "*"}}}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		h := random(r)
		made := expectation.New(h, ignores[r.IntN(len(ignores))])
		if len(made.Facts) == 0 {
			continue
		}
		read, err := expectation.Parse("x.bill", made.Text())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, made.Text())
		}
		if read.Text() != made.Text() {
			t.Fatalf("seed %d: text changes:\n%s\n%s", seed, made.Text(), read.Text())
		}
		r.Shuffle(len(h), func(i, j int) { h[i], h[j] = h[j], h[i] })
		if slices.ContainsFunc(made.Ignore, func(p expectation.Pattern) bool { return p.ID != "*" }) {
			continue // names matter
		}
		for _, machine := range []wire.Hardware{h, renamed(h, map[string]string{"disk sda": "sdb", "disk sdb": "sda", "network sda": "eth7"})} {
			for _, b := range []*expectation.Bill{made, read} {
				if d := b.Compare(expectation.Of(machine)); len(d) > 0 {
					t.Fatalf("seed %d: %v\n%s", seed, d, made.Text())
				}
			}
		}
	}
}

// TestOther: two machines equal each other's bills or neither does.
func TestOther(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		a, b := random(r), random(r)
		if r.IntN(2) == 0 {
			b = with(slices.Clone(a), "memory", "sda", "size", "7")
		}
		there := len(expectation.New(a, nil).Compare(expectation.Of(b))) == 0
		back := len(expectation.New(b, nil).Compare(expectation.Of(a))) == 0
		if there != back {
			t.Fatalf("seed %d: %v and %v", seed, there, back)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ text, err string }{
		{"", "x.bill:1:1"},
		{"[]", "want a dictionary with 'facts' and 'ignore'"},
		{"{'facts': []}", "has no facts that are compared"},
		{"{'ignore': []}", "has no facts that are compared"},
		{"{'facts': [('a', 'b', 'c', 'd')], 'facts': []}", "each once"},
		{"{'fact': []}", "x.bill:1:10: a bill has no 'fact'"},
		{"{'facts': 'a'}", "want a list of tuples of 4 texts"},
		{"{'facts': [('a', 'b', 'c')]}", "x.bill:1:12: want a list of tuples of 4 texts"},
		{"{'facts': [('a', 2, 'c', 'd')]}", "x.bill:1:18"},
		{"{'facts': [('a', 'b', 'c', 'd')], 'ignore': [('a', 'b')]}", "tuples of 3 texts"},
		{"{'facts': [('a', 'b', 'c', 'd')], 'ignore': [" + strings.Repeat("('a', 'b', 'c'),", 1001) + "]}", "more than 1000 lines"},
		{"{'facts': [('a', 'b', 'c', 'd')], 'ignore': [" + strings.Repeat("('a', 'b', 'c*'),", 51) + "]}", "more than 50 patterns with a *"},
		{"{'facts': [('a', 'b', 'serial', 'd')], 'ignore': [('q', '*', 'r')]}", "has no facts that are compared"},
	} {
		if _, err := expectation.Parse("x.bill", tt.text); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%.60s: %v, want %q", tt.text, err, tt.err)
		}
	}
	b, err := expectation.Parse("x.bill", "# by hand\n{'facts': [('disk', 'sda', 'size', 480), ['a', 'b', 'c', u'd']]}")
	if err != nil || len(b.Facts) != 2 {
		t.Errorf("%v %v", b, err)
	}
}

// TestDiffering: what is kept of a machine that has nothing in common with the
// bill is bounded, and differs when the rest does.
func TestDiffering(t *testing.T) {
	var all []api.Difference
	for i := range 1000 {
		all = append(all, api.Difference{Category: "disk", ID: fmt.Sprint(i), Field: strings.Repeat("é", 1000), Want: strings.Repeat("w", 1<<12)})
	}
	is := expectation.Differing("vm", "r7", all)
	size := 0
	for _, d := range is.Differences {
		size += len(d.String())
	}
	if is.Count() != 1000 || len(is.Differences) > 50 || size > 50*500 {
		t.Errorf("%d of %d, %d bytes", len(is.Differences), is.Count(), size)
	}
	all[999].Want += "x"
	if expectation.Differing("vm", "r7", all).Mark == is.Mark {
		t.Error("the mark is the same though the last one differs otherwise")
	}
	if expectation.Differing("vm", "r7", nil) != nil {
		t.Error("no difference makes one")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(expectation.New(node(), []expectation.Pattern{{Category: "a", ID: "*", Field: "c"}}).Text())
	f.Add("{'facts': [('a', 'b', 'd', 1.5e300)], 'ignore': [('*', '**', 'c*')]}")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := expectation.Parse("x.bill", text)
		if err != nil {
			return
		}
		if d := b.Compare(expectation.Of(b.Facts)); len(d) > 0 {
			t.Errorf("a machine with its facts differs: %v", d)
		}
		b.Compare(expectation.Of(node()))
		again, err := expectation.Parse("x.bill", b.Text())
		if err != nil || again.Text() != b.Text() {
			t.Errorf("%v: reads back otherwise: %s", err, b.Text())
		}
	})
}

// BenchmarkCompare compares a description of the largest size with a bill that
// has nothing of it, and ignores as much as it may.
func BenchmarkCompare(b *testing.B) {
	h, other := make(wire.Hardware, wire.MaxFacts), make(wire.Hardware, wire.MaxFacts)
	for i := range h {
		h[i], other[i] = fact("disk", fmt.Sprint("sd", i), "size", fmt.Sprint(i)), fact("disk", fmt.Sprint("sd", i), "model", "x")
	}
	var ignore []expectation.Pattern
	for i := range 50 {
		ignore = append(ignore, expectation.Pattern{Category: "*disk*", ID: fmt.Sprint("*", i, "x*"), Field: "*"})
	}
	bill := expectation.New(h, ignore)
	for b.Loop() {
		bill.Compare(expectation.Of(other))
	}
}
