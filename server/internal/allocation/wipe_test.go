package allocation_test

import (
	"errors"
	"strings"
	"testing"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

func toWipe(r *machine.Record) { r.State, r.Boot = machine.Installed, machine.Wipe }

func wiping(r *machine.Record) {
	holds("vm")(r)
	r.State, r.Boot, r.Wipe = machine.Wiping, machine.Wipe, &api.Wipe{Begun: now}
	r.Image, r.BootDisk, r.Disks = wire.ImageRef{Role: "db", Version: "1"}, "12345678", []wire.DiskID{"12345678"}
}

// TestOrderWipe: who may erase its disks. Whoever is not surely meant may not, and
// nothing is written.
func TestOrderWipe(t *testing.T) {
	was := wire.Identity{MACs: []string{mac(1)}, Serial: "CZJ1"}
	withSerial := func(r *machine.Record) { toWipe(r); r.Identity = was }
	for _, tt := range []struct {
		name  string
		known []machine.Record
		is    wire.Identity
		err   error
		doubt bool // the operator hears of it
	}{
		{"the one that is meant", []machine.Record{known(1, toWipe)}, wire.Identity{MACs: []string{mac(1)}}, nil, false},
		{"again, after a power cut", []machine.Record{known(1, wiping)}, wire.Identity{MACs: []string{mac(1)}}, nil, false},
		{"one that nobody knows", nil, wire.Identity{MACs: []string{mac(1)}}, refusal.Conflict, false},
		{"installed, and nobody has said so", []machine.Record{known(1, installed)}, wire.Identity{MACs: []string{mac(1)}}, refusal.Conflict, false},
		{"taken back", []machine.Record{known(1, func(r *machine.Record) { wiping(r); r.Boot = machine.Hold })}, wire.Identity{MACs: []string{mac(1)}}, refusal.Conflict, false},
		{"the next machine", []machine.Record{known(1, toWipe), known(2, installed)}, wire.Identity{MACs: []string{mac(2)}}, refusal.Conflict, false},
		{"its adapter in another machine", []machine.Record{known(1, withSerial)}, wire.Identity{MACs: []string{mac(1)}, Serial: "CZJ2"}, refusal.Conflict, true},
		{"adapters of two machines", []machine.Record{known(1, withSerial), known(2, nil)}, wire.Identity{MACs: []string{mac(1), mac(2)}, Serial: "CZJ1"}, refusal.Conflict, true},
		{"two that fit equally", []machine.Record{known(1, toWipe), known(2, toWipe)}, wire.Identity{MACs: []string{mac(1), mac(2)}}, refusal.Conflict, true},
		{"nothing tells who it is", []machine.Record{known(1, toWipe)}, wire.Identity{}, refusal.Unusable, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, c, err := allocation.OrderWipe(snapshot(site(t, files), tt.known...), tt.is)
			if !errors.Is(err, tt.err) || (len(out.Notes) > 0) != tt.doubt {
				t.Fatalf("error %v, notes %+v", err, out.Notes)
			}
			if err != nil {
				if len(c.Records) > 0 {
					t.Errorf("refused, and changed: %+v", c)
				}
				return
			}
			if r := c.Records[0]; r.ID != id(1) || r.State != machine.Wiping || r.Boot != machine.Wipe || !r.Wipe.Begun.Equal(now) || len(out.Lines) != 1 {
				t.Errorf("record %+v, lines %v", r, out.Lines)
			}
		})
	}
}

// TestMayBoot: what has begun is not called back, and what nobody has seen is
// not erased.
func TestMayBoot(t *testing.T) {
	awaited := func(r *machine.Record) { r.Expected = &api.Expected{Name: "node1"} }
	for _, tt := range []struct {
		name   string
		change func(*machine.Record)
		boot   machine.Boot
		err    error
	}{
		{"wipe what is installed", installed, machine.Wipe, nil},
		{"wipe what has not come", awaited, machine.Wipe, refusal.Conflict},
		{"hold what has not come", awaited, machine.Hold, nil},
		{"take back", toWipe, machine.Auto, nil},
		{"take back what has begun", wiping, machine.Auto, refusal.Conflict},
		{"boot what has begun", wiping, machine.Local, refusal.Conflict},
		{"hold what has begun", wiping, machine.Hold, nil},
		{"reinstall what has begun", wiping, machine.Reinstall, nil},
	} {
		if out, _, err := allocation.SetBoot(snapshot(site(t, files), known(1, tt.change)), id(1), tt.boot); !errors.Is(err, tt.err) || err == nil && out.Record.Boot != tt.boot {
			t.Errorf("%s: boots %s, %v", tt.name, out.Record.Boot, err)
		}
	}
}

// TestWipeReport: only the end of what was let to begin counts, and only what is
// proven is erased.
func TestWipeReport(t *testing.T) {
	good, bad := wire.WipedDisk{Name: "sda"}, wire.WipedDisk{Name: "sdb", Error: "it is broken"}
	for _, tt := range []struct {
		name    string
		change  func(*machine.Record)
		report  wire.Report
		state   machine.State
		boot    machine.Boot
		changed bool
		free    bool // what it held is
	}{
		{"begins", wiping, wire.Report{Status: wire.StatusStarted}, machine.Wiping, machine.Wipe, false, false},
		{"is half done", wiping, wire.Report{Status: wire.StatusProgress, Bytes: 1, TotalBytes: 2}, machine.Wiping, machine.Wipe, false, false},
		{"done", wiping, wire.Report{Status: wire.StatusDone, Wiped: []wire.WipedDisk{good}}, machine.Wiped, machine.Hold, true, true},
		{"done, and on hold meanwhile", func(r *machine.Record) { wiping(r); r.Boot = machine.Reinstall },
			wire.Report{Status: wire.StatusDone, Wiped: []wire.WipedDisk{good}}, machine.Wiped, machine.Reinstall, true, true},
		{"failed", wiping, wire.Report{Status: wire.StatusFailed, Message: "sdb is broken", Wiped: []wire.WipedDisk{good, bad}}, machine.WipeFailed, machine.Hold, true, false},
		{"done, with a disk that is not", wiping, wire.Report{Status: wire.StatusDone, Wiped: []wire.WipedDisk{good, bad}}, machine.WipeFailed, machine.Hold, true, false},
		{"done, without a disk", wiping, wire.Report{Status: wire.StatusDone}, machine.WipeFailed, machine.Hold, true, false},
		{"done, and nobody had said so", func(r *machine.Record) { holds("vm")(r); installed(r) }, wire.Report{Status: wire.StatusDone, Wiped: []wire.WipedDisk{good}}, machine.Installed, machine.Auto, false, false},
		{"done, and it had not asked", func(r *machine.Record) { holds("vm")(r); toWipe(r) }, wire.Report{Status: wire.StatusDone, Wiped: []wire.WipedDisk{good}}, machine.Installed, machine.Wipe, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshot(site(t, files), known(1, tt.change))
			tt.report.Machine, tt.report.Step = wire.Identity{MACs: []string{mac(1)}}, wire.StepWipe
			out, c, err := allocation.Report(s, tt.report)
			r := out.Record
			if err != nil || r.State != tt.state || r.Boot != tt.boot || (len(c.Records) > 0) != tt.changed || (len(c.Directories) > 0) != tt.free {
				t.Fatalf("record %+v, changes %+v, error %v", r, c, err)
			}
			if tt.free && (r.Allocation != nil || r.Image.Role != "" || r.BootDisk != "" || r.Disks != nil || !strings.Contains(out.Lines[0].Message, "profile vm and one count become free")) {
				t.Errorf("it keeps something: %+v, %v", r, out.Lines)
			}
			if tt.changed && (!r.Wipe.Ended.Equal(now) || !r.Wipe.Begun.Equal(now) || len(r.Wipe.Disks) != len(tt.report.Wiped)) {
				t.Errorf("wipe %+v", r.Wipe)
			}
		})
	}
}

// TestOnTheWayToWipe: what a machine says before it is let to begin does not make
// an installation of it.
func TestOnTheWayToWipe(t *testing.T) {
	for _, tt := range []struct {
		state machine.State
		rep   wire.Report
		want  machine.State
	}{
		{machine.Installed, wire.Report{Step: wire.StepDevices, Status: wire.StatusStarted}, machine.Installed},
		{machine.Failed, wire.Report{Step: wire.StepDevices, Status: wire.StatusStarted}, machine.Failed},
		{machine.Wiping, wire.Report{Step: wire.StepNetwork, Status: wire.StatusFailed}, machine.Wiping},
		{machine.Unknown, wire.Report{Step: wire.StepDetect, Status: wire.StatusDone}, machine.Unknown},
		{machine.Installing, wire.Report{Step: wire.StepReboot, Status: wire.StatusInstalled}, machine.Installed}, // the one before the wish
	} {
		tt.rep.Machine = wire.Identity{MACs: []string{mac(1)}}
		s := snapshot(site(t, files), known(1, func(r *machine.Record) { r.State, r.Boot = tt.state, machine.Wipe }))
		if out, _, err := allocation.Report(s, tt.rep); err != nil || out.Record.State != tt.want || out.Record.Boot != machine.Wipe {
			t.Errorf("%s, %s %s: %s, %s, %v", tt.state, tt.rep.Step, tt.rep.Status, out.Record.State, out.Record.Boot, err)
		}
	}
}
