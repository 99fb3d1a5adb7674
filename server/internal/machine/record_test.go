package machine_test

import (
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/machine"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func TestBootAction(t *testing.T) {
	for _, tt := range []struct {
		state machine.State
		boot  machine.Boot
		want  wire.BootAction
	}{
		{machine.Unknown, machine.Auto, wire.BootInstall},
		{machine.Installing, machine.Auto, wire.BootInstall},
		{machine.Failed, machine.Auto, wire.BootInstall},
		{machine.Installed, machine.Auto, wire.BootLocal},
		{machine.Installed, machine.Reinstall, wire.BootInstall},
		{machine.Installed, machine.Rescue, wire.BootRescue},
		{machine.Installed, machine.Hold, wire.BootHold},
		{machine.Installing, machine.Hold, wire.BootHold},
		{machine.Unknown, machine.Local, wire.BootLocal},
		{machine.Unknown, machine.Rescue, wire.BootRescue},
		{machine.Installed, machine.Wipe, wire.BootWipe},
		{machine.Wiping, machine.Wipe, wire.BootWipe},
		{machine.Wiping, machine.Auto, wire.BootHold},
		{machine.Wiped, machine.Hold, wire.BootHold},
		{machine.Wiped, machine.Auto, wire.BootInstall},
		{machine.WipeFailed, machine.Auto, wire.BootInstall},
	} {
		if got := (machine.Record{State: tt.state, Boot: tt.boot}).BootAction(); got != tt.want {
			t.Errorf("%s, %s: got %s, want %s", tt.state, tt.boot, got, tt.want)
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	want := rec("02-00-00-00-00-01", uuidA, "SN1", 1, 2)
	want.FormerMACs = macs(3)
	want.State, want.Since = machine.Installed, time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	want.Image = wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.0"}
	want.Allocation = &machine.Allocation{
		Holding: assign.Holding{Profile: "vm", Counted: true, Before: "{'ip': '10.0.0.1'}", After: "{'ip': '10.0.0.1', 'used': 1}"},
		Section: "SERVER", Var: "{'disk': 'vda'}", Given: want.Since, Asked: 2}
	text, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := machine.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{`:              "unexpected end",
		`{"id": "../x"}`: "no machine id",
		`{"id":"a"}`:     "boot action",
		`{"id":"a","boot":"auto","state":"dancing"}`: "dancing",
	} {
		if _, err := machine.Decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
}
