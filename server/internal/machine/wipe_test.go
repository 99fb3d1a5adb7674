package machine_test

import (
	"errors"
	"strings"
	"testing"

	"edeploy/server/internal/machine"
	"edeploy/server/wire"
)

const uuidC = "4c4c4544-0051-3510-8052-b4c04f4d3299"

// TestCertain: what is good enough to install a machine is not to erase its
// disks. Nothing that it shows may be otherwise than in its record.
func TestCertain(t *testing.T) {
	old := rec("a", uuidA, "SN1", 1, 2)
	old.FormerMACs = macs(3)
	for _, tt := range []struct {
		name string
		is   wire.Identity
		want string // "": it is the machine
	}{
		{"all of it", is(uuidA, "SN1", 1, 2), ""},
		{"one of its adapters", is(uuidA, "SN1", 2), ""},
		{"a new adapter besides", is(uuidA, "SN1", 1, 2, 7), ""},
		{"the UUID in the other byte order", is(uuidASwapped, "SN1", 1), ""},
		{"no UUID, no serial", is("", "To be filled by O.E.M.", 1, 2), ""},
		{"no adapter of it", is(uuidA, "SN1", 7), "none of the addresses of a"},
		{"an adapter that it had once", is(uuidA, "SN1", 3), "none of the addresses of a"},
		{"no adapter at all", is(uuidA, "SN1"), "none of the addresses of a"},
		{"another UUID", is(uuidC, "SN1", 1, 2), "another UUID"},
		{"another serial", is(uuidA, "SN9", 1, 2), "another serial (SN9 instead of SN1)"},
		{"an adapter of another machine", is(uuidA, "SN1", 1, 5), "an address of a, and one of b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := machine.NewIndex(old, rec("b", uuidB, "SN2", 5)).Certain(old, tt.is)
			if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, machine.ErrUncertain) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestBootingWipe: a boot loader erases disks only for the machine that was
// meant; all others wait.
func TestBootingWipe(t *testing.T) {
	old := rec("a", uuidA, "SN1", 1)
	old.FormerMACs, old.Boot = macs(3), machine.Wipe
	index := machine.NewIndex(old, rec("b", uuidB, "SN2", 5))
	for _, tt := range []struct {
		name, mac, uuid string
		want            wire.BootAction
	}{
		{"the machine", mac(1), uuidASwapped, wire.BootWipe},
		{"without a UUID", mac(1), "", wire.BootWipe},
		{"its adapter in another machine", mac(1), uuidC, wire.BootHold},
		{"an adapter that it had once", mac(3), uuidA, wire.BootHold},
		{"its UUID alone", mac(9), uuidA, wire.BootHold},
		{"its UUID, and no address", "", uuidA, wire.BootHold},
		{"the adapter of another, with its UUID", mac(5), uuidA, wire.BootHold},
		{"another machine", mac(5), uuidB, wire.BootInstall},
	} {
		r, known, err := index.Booting(tt.mac, tt.uuid)
		if got := r.BootAction(); !known || got != tt.want || (err != nil) != (tt.want == wire.BootHold) {
			t.Errorf("%s: %s, known %v, error %v, want %s", tt.name, got, known, err, tt.want)
		}
	}
}
