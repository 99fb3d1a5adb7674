package hardware_test

import (
	"fmt"
	"testing"

	"edeploy/server/internal/hardware"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// node is a description with its name.
type node struct {
	name  string
	facts wire.Hardware
}

// groups sorts machines.
func groups(nodes ...node) []hardware.Kind {
	var g hardware.Groups
	for _, n := range nodes {
		g.Add(n.name, n.facts)
	}
	return g.Kinds()
}

// machine is a Rack Node with a disk of this size.
func machine(name, serial, disk string, more ...wire.Fact) node {
	facts := wire.Hardware{
		{Category: "system", ID: "product", Field: "vendor", Value: "Acme"},
		{Category: "system", ID: "product", Field: "name", Value: "Node"},
		{Category: "system", ID: "product", Field: "serial", Value: serial},
		{Category: "disk", ID: "sda", Field: "size", Value: disk},
		{Category: "disk", ID: "sda", Field: "id", Value: "ata-" + serial},
		{Category: "network", ID: "eth0", Field: "serial", Value: "02:00:00:00:00:" + serial},
	}
	return node{name, append(facts, more...)}
}

func TestPersonal(t *testing.T) {
	for _, tt := range []struct {
		fact wire.Fact
		want bool
	}{
		{wire.Fact{Category: "system", ID: "product", Field: "serial", Value: "S1"}, true},
		{wire.Fact{Category: "system", ID: "product", Field: "uuid", Value: "4c4c"}, true},
		{wire.Fact{Category: "system", ID: "product", Field: "name", Value: "R7"}, false},
		{wire.Fact{Category: "network", ID: "eth0", Field: "serial", Value: "02:00:00:00:00:01"}, true},
		{wire.Fact{Category: "network", ID: "eth0", Field: "ipv4-netmask", Value: "255.255.255.0"}, true},
		{wire.Fact{Category: "network", ID: "eth0", Field: "speed", Value: "1Gbit/s"}, false},
		{wire.Fact{Category: "disk", ID: "sda", Field: "wwn-id", Value: "wwn-0x5"}, true},
		{wire.Fact{Category: "disk", ID: "sda", Field: "size", Value: "480"}, false},
		{wire.Fact{Category: "disk", ID: "sda", Field: "SMART/serial_number", Value: "Z1"}, true},
		{wire.Fact{Category: "disk", ID: "sda", Field: "SMART/firmware_version", Value: "F1"}, false},
		{wire.Fact{Category: "disk", ID: "sda", Field: "SMART/Power_On_Hours(9)/raw", Value: "12"}, true},
		{wire.Fact{Category: "disk", ID: "sda", Field: "SMART/Seek_Time(8)/thresh", Value: "12"}, false},
		{wire.Fact{Category: "memory", ID: "bank:0", Field: "serial", Value: "A"}, true},
		{wire.Fact{Category: "memory", ID: "bank:0", Field: "size", Value: int64(8)}, false},
		{wire.Fact{Category: "ipmi", ID: "lan", Field: "ip-address", Value: "10.0.0.1"}, true},
		{wire.Fact{Category: "ipmi", ID: "P5V", Field: "value", Value: "4.97"}, true},
		{wire.Fact{Category: "lldp", ID: "eth0", Field: "Port ID/Ifname", Value: "ge-0/0/1"}, true},
		{wire.Fact{Category: "cpu", ID: "logical", Field: "number", Value: "16"}, false},
		{wire.Fact{Category: "cpu", ID: "physical_0", Field: "Core_0/temperature", Value: "41000"}, true},
		{wire.Fact{Category: "network", ID: "eth0", Field: "10.0.0.7", Value: "934"}, true},
		{wire.Fact{Category: "network", ID: "10.0.0.7:5001", Field: "result", Value: "934"}, true},
		{wire.Fact{Category: "network", ID: "eth0", Field: "to fe80::1", Value: "934"}, true},
		{wire.Fact{Category: "disk", ID: "0:0:0:0", Field: "model", Value: "X"}, false},
		{wire.Fact{Category: "disk", ID: "sda", Field: "randread_4k_new_unit", Value: "934"}, true},
		{wire.Fact{Category: "disk", ID: "sda", Field: "nominal", Value: "2394.23"}, true},
		{wire.Fact{Category: "disk", ID: "sda", Field: "nominal", Value: 2394.23}, true},
		{wire.Fact{Category: "disk", ID: "sda", Field: "size", Value: "1.8"}, false},
		{wire.Fact{Category: "firmware", ID: "bios", Field: "version", Value: "1.1"}, false},
		{wire.Fact{Category: "infiniband", ID: "card0", Field: "node_guid", Value: "0x1"}, true},
		{wire.Fact{Category: "pdisk", ID: "disk0", Field: "InquiryData[2]", Value: "ST31S0K3A0C0"}, true},
		{wire.Fact{Category: "pdisk", ID: "disk0", Field: "SasAddress(0)", Value: "0x5000c500a1b2c305"}, true},
		{wire.Fact{Category: "disk", ID: "nvme0n1", Field: "SMART/percentage_used", Value: "3%"}, true},
		{wire.Fact{Category: "system", ID: "detection", Field: "skipped", Value: "smart sda: no answer within 30s"}, true},
		{wire.Fact{Category: "pci", ID: "0000:03:00.0", Field: "link-speed", Value: "8.0 GT/s PCIe"}, false},
	} {
		if got := hardware.Personal(tt.fact); got != tt.want {
			t.Errorf("%v: got %v", tt.fact, got)
		}
	}
}

func TestDiff(t *testing.T) {
	a := machine("a", "01", "480", wire.Fact{Category: "disk", ID: "sdb", Field: "size", Value: "1"})
	b := machine("b", "02", "960")
	size := hardware.Key{Category: "disk", ID: "sda", Field: "size"}
	gone := hardware.Key{Category: "disk", ID: "sdb", Field: "size"}
	want := []hardware.Difference{{Key: size, A: "480", B: "960"}, {Key: gone, A: "1", B: ""}}
	if diff := cmp.Diff(want, hardware.Diff(a.facts, b.facts, false)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(hardware.Diff(a.facts, b.facts, true)); n != 5 {
		t.Errorf("with identities %d differences, want 5", n)
	}
	if n := len(hardware.Diff(a.facts, a.facts, true)); n != 0 {
		t.Errorf("a machine differs from itself in %d facts", n)
	}
}

// TestPlugged: equal machines are on different ports of switches, and one of them is
// on a switch that says nothing.
func TestPlugged(t *testing.T) {
	port := func(field, value string) wire.Fact {
		return wire.Fact{Category: "lldp", ID: "eth0", Field: field, Value: value}
	}
	a := machine("a", "01", "480", port("Port ID/Ifname", "gi1_1"), port("Port Description/rack 4", "node 1"))
	b, c := machine("b", "02", "480", port("Port ID/Ifname", "gi1_2"), port("Management Address/IPv4", "10.0.0.9")), machine("c", "03", "480")
	for _, other := range []node{b, c} {
		if d := hardware.Diff(a.facts, other.facts, false); len(d) != 0 {
			t.Errorf("%s: %v", other.name, d)
		}
	}
	if kinds := groups(a, b, c); len(kinds) != 1 {
		t.Errorf("%d kinds of machines, want one", len(kinds))
	}
}

// TestOrder: the order in which several values of a property come says nothing.
func TestOrder(t *testing.T) {
	one := wire.Fact{Category: "disk", ID: "sda", Field: "model", Value: "x"}
	two := wire.Fact{Category: "disk", ID: "sda", Field: "model", Value: "y"}
	if d := hardware.Diff(wire.Hardware{one, two}, wire.Hardware{two, one}, true); len(d) != 0 {
		t.Errorf("%v", d)
	}
	if d := hardware.Diff(wire.Hardware{one, two}, wire.Hardware{one}, true); len(d) != 1 {
		t.Errorf("%v", d)
	}
}

func TestGroups(t *testing.T) {
	other := node{"x", wire.Hardware{{Category: "disk", ID: "vda", Field: "size", Value: "4"}}}
	got := groups(machine("c", "03", "960"), other, machine("b", "02", "480"), machine("a", "01", "480"))
	want := []hardware.Kind{
		{Name: "Acme Node", Groups: []hardware.Group{{Machines: []string{"a", "b"}}, {Machines: []string{"c"}}}, Odd: []hardware.Outlier{{
			Key:    hardware.Key{Category: "disk", ID: "sda", Field: "size"},
			Values: []hardware.Value{{Text: "480", Machines: []string{"a", "b"}}, {Text: "960", Machines: []string{"c"}}},
		}}},
		{Name: "unknown product", Groups: []hardware.Group{{Machines: []string{"x"}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAbsent: a machine that lacks a property is an odd one.
func TestAbsent(t *testing.T) {
	second := wire.Fact{Category: "disk", ID: "sdb", Field: "size", Value: "480"}
	got := groups(machine("a", "01", "480", second), machine("b", "02", "480"), machine("c", "03", "480", second))
	want := []hardware.Outlier{{Key: hardware.Key{Category: "disk", ID: "sdb", Field: "size"},
		Values: []hardware.Value{{Text: "480", Machines: []string{"a", "c"}}, {Machines: []string{"b"}}}}}
	if diff := cmp.Diff(want, got[0].Odd); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMeasured: what is another value on most of many machines makes no groups,
// whatever it is called, and is told.
func TestMeasured(t *testing.T) {
	var nodes []node
	for i := range 12 {
		disk := "480"
		if i == 11 {
			disk = "960"
		}
		nodes = append(nodes, machine(fmt.Sprintf("n%02d", i), fmt.Sprint(i), disk, wire.Fact{Category: "cpu", ID: "logical", Field: "score", Value: fmt.Sprint(900 + i*i)}))
	}
	k := groups(nodes...)[0]
	if len(k.Groups) != 2 || len(k.Groups[0].Machines) != 11 || len(k.Odd) != 1 || k.Odd[0].Field != "size" {
		t.Errorf("%+v", k)
	}
	if diff := cmp.Diff([]hardware.Key{{Category: "cpu", ID: "logical", Field: "score"}}, k.LeftOut); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
}
