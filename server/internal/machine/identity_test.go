package machine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"edeploy/server/internal/machine"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

const (
	uuidA = "4c4c4544-0051-3510-8052-b4c04f4d3232"
	uuidB = "4c4c4544-0051-3510-8052-b4c04f4d3233"
	// uuidA as firmware before SMBIOS 2.6 shows it.
	uuidASwapped = "44454c4c-5100-1035-8052-b4c04f4d3232"
)

// mac is the n-th address of a test.
func mac(n int) string { return fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&255) }

func macs(ns ...int) []string {
	var all []string
	for _, n := range ns {
		all = append(all, mac(n))
	}
	return all
}

func is(uuid, serial string, ns ...int) wire.Identity {
	return wire.Identity{MACs: macs(ns...), UUID: uuid, Serial: serial}
}

func rec(id, uuid, serial string, ns ...int) machine.Record {
	return machine.Record{ID: id, Identity: is(uuid, serial, ns...), State: machine.Unknown, Boot: machine.Auto}
}

func TestFind(t *testing.T) {
	withFormer := rec("a", uuidA, "SN1", 1)
	withFormer.FormerMACs = macs(2)
	nameless := rec("a", "", "", 1)
	nameless.FormerMACs = macs(2)
	for _, tt := range []struct {
		name  string
		known []machine.Record
		is    wire.Identity
		want  string // "": a new machine
		err   error
	}{
		{"the very same", []machine.Record{rec("a", uuidA, "SN1", 1, 2)}, is(uuidA, "SN1", 1, 2), "a", nil},
		{"adapters in another order", []machine.Record{rec("a", uuidA, "SN1", 1, 2)}, is(uuidA, "SN1", 2, 1), "a", nil},
		{"nothing in common", []machine.Record{rec("a", uuidA, "SN1", 1)}, is(uuidB, "SN2", 2), "", nil},

		// No MAC address in common: a new machine, whatever SMBIOS says.
		{"zero UUID on both", []machine.Record{rec("a", "00000000-0000-0000-0000-000000000000", "", 1)}, is("00000000-0000-0000-0000-000000000000", "", 2), "", nil},
		{"placeholders on both", []machine.Record{rec("a", "03000200-0400-0500-0006-000700080009", "To be filled by O.E.M.", 1)}, is("03000200-0400-0500-0006-000700080009", "To be filled by O.E.M.", 2), "", nil},
		{"UUID and serial twice in the world", []machine.Record{rec("a", uuidA, "SN1", 1)}, is(uuidA, "SN1", 2), "", nil},

		// Replaced adapters.
		{"one of two replaced, SMBIOS agrees", []machine.Record{rec("a", uuidA, "SN1", 1, 2)}, is(uuidA, "SN1", 1, 3), "a", nil},
		{"one of two replaced, placeholders", []machine.Record{rec("a", "", "Default string", 1, 2)}, is("", "Default string", 1, 3), "a", nil},
		{"three of four replaced, SMBIOS agrees", []machine.Record{rec("a", uuidA, "SN1", 1, 2, 3, 4)}, is(uuidA, "SN1", 1, 5, 6, 7), "a", nil},
		{"three of four replaced, placeholders", []machine.Record{rec("a", "", "0123456789", 1, 2, 3, 4)}, is("", "0123456789", 1, 5, 6, 7), "", nil},
		{"adapter added, placeholders", []machine.Record{rec("a", "", "", 1)}, is("", "", 1, 2, 3), "a", nil},
		{"adapters not up yet, placeholders", []machine.Record{rec("a", "", "", 1, 2, 3, 4)}, is("", "", 3), "a", nil},

		// Firmware that changes its mind.
		{"new UUID, same adapters", []machine.Record{rec("a", uuidA, "SN1", 1, 2)}, is(uuidB, "", 1, 2), "a", nil},
		{"UUID in the other byte order", []machine.Record{rec("a", uuidA, "", 1, 2, 3)}, is(strings.ToUpper(uuidASwapped), "", 3, 4, 5), "a", nil},
		{"same chassis serial, other UUID, other adapters but one", []machine.Record{rec("a", uuidA, "SN1", 1, 2, 3)}, is(uuidB, "SN1", 3, 4, 5), "", nil},

		// Adapters that move.
		{"its only adapter, in another machine", []machine.Record{rec("a", uuidA, "SN1", 1)}, is(uuidB, "SN2", 1), "", nil},
		{"one adapter moved to another machine", []machine.Record{rec("a", uuidA, "SN1", 1, 2)}, is(uuidB, "SN2", 2, 3), "", nil},
		{"one adapter moved, UUID different, no serial", []machine.Record{rec("a", uuidA, "", 1, 2)}, is(uuidB, "", 2, 3), "", nil},
		{"moved between two known machines", []machine.Record{rec("a", uuidA, "SN1", 1, 2), rec("b", uuidB, "SN2", 3, 4)}, is(uuidB, "SN2", 3, 2), "b", nil},
		{"same dongle in two machines with duplicated SMBIOS", []machine.Record{rec("a", uuidA, "SN1", 1, 9), rec("b", uuidA, "SN1", 2, 3)}, is(uuidA, "SN1", 2, 3, 9), "b", nil},
		{"two known machines fit equally", []machine.Record{rec("a", "", "", 1, 2), rec("b", "", "", 3, 4)}, is("", "", 2, 3), "", machine.ErrAmbiguous},

		// Adapters it had once.
		{"former adapter back, SMBIOS agrees", []machine.Record{withFormer}, is(uuidA, "SN1", 2), "a", nil},
		{"former adapter in another machine", []machine.Record{withFormer}, is(uuidB, "SN2", 2), "", nil},
		{"former adapter, nothing else known", []machine.Record{nameless}, is("", "", 2), "", nil},

		// No adapter at all.
		{"no MAC, same UUID and serial", []machine.Record{rec("a", uuidA, "SN1")}, is(uuidA, "SN1"), "a", nil},
		{"no MAC, but the known one has some", []machine.Record{rec("a", uuidA, "SN1", 1)}, is(uuidA, "SN1"), "", nil},
		{"no MAC, other serial", []machine.Record{rec("a", uuidA, "SN1")}, is(uuidA, "SN2"), "", nil},
		{"nothing at all", nil, is("00000000-0000-0000-0000-000000000000", "None"), "", machine.ErrNameless},
		{"zero and broadcast MAC only", nil, wire.Identity{MACs: []string{"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"}}, "", machine.ErrNameless},
	} {
		t.Run(tt.name, func(t *testing.T) {
			index := machine.NewIndex(tt.known...)
			got, known, err := index.Find(tt.is)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error: got %v, want %v", err, tt.err)
			}
			if got.ID != tt.want || known != (tt.want != "") {
				t.Errorf("got %q (known: %v), want %q", got.ID, known, tt.want)
			}
		})
	}
}

func TestAdmit(t *testing.T) {
	index := machine.NewIndex(rec("a", uuidA, "SN1", 1, 2), rec("b", uuidB, "SN2", 3))
	got, err := index.Admit(is(uuidB, "SN2", 3, 2))
	if err != nil {
		t.Fatal(err)
	}
	a := rec("a", uuidA, "SN1", 1)
	want := machine.Admission{Record: rec("b", uuidB, "SN2", 3, 2), Others: []machine.Record{a}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("an adapter moves (-want +got):\n%s", diff)
	}

	got, err = index.Admit(is(uuidA, "SN1", 1, 7))
	if err != nil {
		t.Fatal(err)
	}
	replaced := rec("a", uuidA, "SN1", 1, 7)
	replaced.FormerMACs = macs(2)
	if diff := cmp.Diff(machine.Admission{Record: replaced}, got); diff != "" {
		t.Errorf("an adapter is replaced (-want +got):\n%s", diff)
	}

	got, err = index.Admit(is("", "", 9))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(machine.Admission{Record: rec("02-00-00-00-00-09", "", "", 9), New: true}, got); diff != "" {
		t.Errorf("a new machine (-want +got):\n%s", diff)
	}
}

func TestIDs(t *testing.T) {
	for _, tt := range []struct {
		is   wire.Identity
		want string
	}{
		{is("", "", 1), "02-00-00-00-00-01-2"}, // the name is taken by a machine that had this adapter
		{is(uuidA, "SN1"), "uuid-" + uuidA},
		{is("", "../A b"), "serial-..-a-b"},
	} {
		old := rec("02-00-00-00-00-01", uuidB, "SN9", 1)
		index := machine.NewIndex(old)
		tt.is.UUID, tt.is.Serial = orElse(tt.is.UUID, ""), orElse(tt.is.Serial, "")
		if len(tt.is.MACs) > 0 {
			tt.is.UUID, tt.is.Serial = uuidA, "SN8"
		}
		got, err := index.Admit(tt.is)
		if err != nil {
			t.Fatal(err)
		}
		if got.Record.ID != tt.want || !machine.ValidID(got.Record.ID) {
			t.Errorf("got id %q, want %q", got.Record.ID, tt.want)
		}
	}
	for _, bad := range []string{"", "../x", "a/b", ".hidden", "A", "a b", strings.Repeat("a", 101)} {
		if machine.ValidID(bad) {
			t.Errorf("%q is taken for an id", bad)
		}
	}
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

func TestNotice(t *testing.T) {
	index := machine.NewIndex(rec("a", uuidA, "SN1", 1, 2), rec("b", uuidB, "SN2", 3))
	got, err := index.Notice(is(uuidA, "SN1", 2, 8))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(machine.Admission{Record: rec("a", uuidA, "SN1", 1, 2, 8)}, got); diff != "" {
		t.Errorf("a report with one new address (-want +got):\n%s", diff)
	}
	if _, err := index.Notice(is("4c4c4544-0051-3510-8052-b4c04f4d3299", "SN7", 3, 4)); !errors.Is(err, machine.ErrStranger) {
		t.Errorf("a report that would take an address away: got %v, want ErrStranger", err)
	}
	if got, err := index.Notice(is("", "", 5)); err != nil || !got.New {
		t.Errorf("a report of an unknown machine: %+v, %v", got, err)
	}
}

func TestByMACAndUUID(t *testing.T) {
	a := rec("a", uuidA, "SN1", 1)
	a.FormerMACs = macs(2)
	index := machine.NewIndex(a, rec("b", uuidB, "SN2", 3), rec("c", uuidB, "SN3", 4))
	for _, tt := range []struct{ mac, uuid, want string }{
		{mac: "02-00-00-00-00-01", want: "a"},
		{mac: mac(2), want: "a"},
		{mac: mac(99), want: ""},
		{mac: "nonsense", want: ""},
		{uuid: uuidASwapped, want: "a"},
		{uuid: uuidB, want: ""}, // two have it
		{uuid: "00000000-0000-0000-0000-000000000000", want: ""},
	} {
		got, _ := index.ByMAC(tt.mac)
		if tt.uuid != "" {
			got, _ = index.ByUUID(tt.uuid)
		}
		if got.ID != tt.want {
			t.Errorf("mac %q uuid %q: got %q, want %q", tt.mac, tt.uuid, got.ID, tt.want)
		}
	}
}

func TestGenuine(t *testing.T) {
	for _, s := range []string{"", "None", "0123456789", "To be filled by O.E.M.", "to Be Filled By O.E.M. ", "Not Specified", "System Serial Number", "Default string",
		"0000000000", "XXXXXXX", "...............", "- - -", "System  Serial Number", "N/A", "123456789"} {
		if got := machine.GenuineSerial(s); got != "" {
			t.Errorf("serial %q counts as genuine: %q", s, got)
		}
	}
	for _, s := range []string{"", "Not Settable", "00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
		"03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009", "12345678-1234-5678-90AB-CDDEEFAABBCC", "4c4c4544"} {
		if got := machine.GenuineUUID(s); got != "" {
			t.Errorf("UUID %q counts as genuine", s)
		}
	}
	if machine.GenuineSerial(" czj1234X ") != "czj1234x" {
		t.Error("a genuine serial is lost")
	}
	// A maker that writes zeros and the MAC address: unique all the same.
	if machine.GenuineUUID("00000000-0000-0000-0000-ac1f6b000001") == "" {
		t.Error("a UUID made of a MAC address is lost")
	}
	if machine.GenuineUUID(uuidA) != machine.GenuineUUID(uuidASwapped) {
		t.Error("the two byte orders of one UUID differ")
	}
	got := machine.GenuineMACs([]string{mac(1), "", "00:00:00:00:00:00", "FF:FF:FF:FF:FF:FF", "01:80:c2:00:00:0e", mac(2), strings.ToUpper(mac(1)), "ab"})
	if diff := cmp.Diff(macs(1, 2), got); diff != "" {
		t.Errorf("MAC addresses (-want +got):\n%s", diff)
	}
}

// TestFleet lets two thousand machines come several times, a third of them
// with placeholder or duplicated SMBIOS values, and replaces adapters in
// between: every machine stays itself, no two become one.
func TestFleet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	index := machine.NewIndex()
	fleet := make([]wire.Identity, 2000)
	next := 0
	for i := range fleet {
		fleet[i] = is(fmt.Sprintf("4c4c4544-0051-3510-8052-%012x", i), fmt.Sprintf("SN%d", i))
		switch random.IntN(6) {
		case 0:
			fleet[i].UUID, fleet[i].Serial = "03000200-0400-0500-0006-000700080009", "To be filled by O.E.M."
		case 1:
			fleet[i].UUID, fleet[i].Serial = uuidA, "CZJ0001"
		}
		for range 1 + random.IntN(4) {
			fleet[i].MACs = append(fleet[i].MACs, mac(next))
			next++
		}
	}
	ids := map[string]int{}
	for round := range 4 {
		for i, self := range fleet {
			got, err := index.Admit(self)
			if err != nil {
				t.Fatalf("round %d, machine %d: %v", round, i, err)
			}
			if owner, ok := ids[got.Record.ID]; got.New != !ok || ok && owner != i {
				t.Fatalf("round %d: machine %d is taken for machine %d (new: %v)", round, i, owner, got.New)
			}
			ids[got.Record.ID] = i
			index.Put(got.Record)
			for _, other := range got.Others {
				index.Put(other)
			}
			if n := len(self.MACs); n > 1 && random.IntN(3) == 0 {
				fleet[i].MACs[random.IntN(n)] = mac(next)
				next++
			}
		}
	}
	if index.Len() != len(fleet) {
		t.Errorf("%d machines became %d records", len(fleet), index.Len())
	}
}
