package install_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edeploy/agent/internal/drive"
	"edeploy/agent/internal/wipe"
	"edeploy/server/wire"
)

// platter is a disk in memory.
type platter struct {
	data   []byte
	broken bool
}

func (p *platter) ReadAt(b []byte, at int64) (int, error) { return copy(b, p.data[at:]), nil }
func (p *platter) Sync() error                            { return nil }
func (p *platter) Close() error                           { return nil }
func (p *platter) WriteAt(b []byte, at int64) (int, error) {
	if p.broken {
		return 0, errors.New("input/output error")
	}
	return copy(p.data[at:], b), nil
}

// wiping is a machine with two disks and a stick.
func wiping(t *testing.T, a *appliance) (*blank, map[string]*platter) {
	m := newBlank(t, a, "")
	m.env.Cmdline = "WIPE=1 " + m.env.Cmdline
	sys, disks := fstest.MapFS{}, map[string]*platter{}
	for _, name := range []string{"vda", "vdb", "sdc"} {
		disks[name] = &platter{data: bytes.Repeat([]byte("data"), 2<<20/4)}
		sys["block/"+name+"/size"] = &fstest.MapFile{Data: []byte("4096\n")}
	}
	sys["block/sdc/removable"] = &fstest.MapFile{Data: []byte("1\n")}
	m.env.Disks = &drive.Machine{Sys: sys}
	m.env.OpenDisk = func(device string) (wipe.Disk, error) {
		if disk := disks[strings.TrimPrefix(device, "/dev/")]; disk != nil {
			return disk, nil
		}
		return nil, errors.New("no such disk")
	}
	a.order = &wire.WipeOrder{Machine: "02-00-00-00-00-01", Name: "node3", Identity: wire.Identity{MACs: []string{"02:00:00:00:00:01"}}}
	return m, disks
}

// erased are the disks that hold nothing.
func erased(disks map[string]*platter) (names []string) {
	for name, disk := range disks {
		if len(bytes.Trim(disk.data, "\x00")) == 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// The disks of a machine are erased when the server says so right before, and the
// server hears what became of each.
func TestWipe(t *testing.T) {
	a := newAppliance(t)
	m, disks := wiping(t, a)
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"devices", "network", "reboot"}, m.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"vda", "vdb"}, erased(disks)); diff != "" {
		t.Errorf("erased (-want +got):\n%s", diff)
	}
	last := a.last()
	want := wire.Report{Protocol: wire.Protocol, Machine: wire.Identity{MACs: []string{"02:00:00:00:00:01"}, Serial: "SN/1"}, Step: wire.StepWipe, Status: wire.StatusDone,
		Wiped: []wire.WipedDisk{{Name: "vda", Bytes: 2 << 20, Method: "zeros", Samples: 512, Held: 512}, {Name: "vdb", Bytes: 2 << 20, Method: "zeros", Samples: 512, Held: 512}}}
	if diff := cmp.Diff(want, last, cmpopts.IgnoreFields(wire.Report{}, "Seconds"), cmpopts.IgnoreFields(wire.WipedDisk{}, "Seconds")); diff != "" {
		t.Errorf("last report (-want +got):\n%s", diff)
	}
	told := a.told()
	if told[0] != "devices started" || slices.Index(told, "detect done") > slices.Index(told, "wipe started") || len(a.logs) != 1 {
		t.Errorf("reports %q, %d logs", told, len(a.logs))
	}
	for _, line := range []string{"the server says that the disks of this machine, 02-00-00-00-00-01 (node3), are to be erased", "sdc (no model, serial unknown, 2 MB, unknown transport, removable): left as it is: it is removable",
		"wipe: disk vda: erased by zeros in ", "wiped: 2 disks in "} {
		if !strings.Contains(m.console.String(), line) {
			t.Errorf("the console has no line with %q", line)
		}
	}
}

// Nothing is erased without the server's word for this machine.
func TestNotWiped(t *testing.T) {
	for _, tt := range []struct {
		name    string
		arrange func(a *appliance, m *blank)
		events  []string
		last    string
	}{
		{"taken back", func(a *appliance, _ *blank) { a.order = nil }, []string{"devices", "network", "reboot"}, "the server says no: it was taken back"},
		{"meant for another", func(a *appliance, _ *blank) { a.order.MACs = []string{"02:00:00:00:00:02"} }, []string{"devices", "network", "power off"}, "is for machine 02-00-00-00-00-01 (node3), and not for this one"},
		{"no network", func(_ *appliance, m *blank) {
			m.env.Network = func(context.Context, wire.BootArgs, *slog.Logger) error { return errors.New("no link") }
		}, []string{"devices", "power off"}, ""},
		{"a rescue shell", func(_ *appliance, m *blank) { m.env.Cmdline = "RESCUE=1 " + m.env.Cmdline }, []string{"devices", "network", "shell"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAppliance(t)
			m, disks := wiping(t, a)
			tt.arrange(a, m)
			_ = m.install(t) // it fails, or restarts
			if diff := cmp.Diff(tt.events, m.events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if got := erased(disks); got != nil {
				t.Errorf("erased: %q", got)
			}
			if last := a.last(); !strings.Contains(last.Message, tt.last) || last.Status == wire.StatusDone {
				t.Errorf("last report %+v", last)
			}
		})
	}
}

// A disk that fails is named, and the others are erased.
func TestWipeFails(t *testing.T) {
	a := newAppliance(t)
	m, disks := wiping(t, a)
	disks["vda"].broken = true
	const want = "1 of 2 disks are not erased: vda: zeros: at byte 0: input/output error"
	if err := m.install(t); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if last := a.last(); last.Status != wire.StatusFailed || last.Step != wire.StepWipe || last.Message != want || len(last.Wiped) != 2 || last.Wiped[0].Error == "" || last.Wiped[1].Error != "" {
		t.Errorf("last report %+v", last)
	}
	if diff := cmp.Diff([]string{"vdb"}, erased(disks)); diff != "" || m.events[len(m.events)-1] != "power off" || len(a.failures) > 0 {
		t.Errorf("events %q, given back %q, erased (-want +got):\n%s", m.events, a.failures, diff)
	}
}

// A machine without disks is not one whose disks are erased.
func TestWipeNothing(t *testing.T) {
	a := newAppliance(t)
	m, _ := wiping(t, a)
	m.env.Disks.Sys = fstest.MapFS{"block/sr0/size": &fstest.MapFile{}}
	if err := m.install(t); err == nil || !strings.Contains(err.Error(), "there is no disk to erase") {
		t.Errorf("%v", err)
	}
}

// What the kernel does not show is not erased: a disk that it rejected for a twin
// is a failure, a controller without a driver is said.
func TestWipeHidden(t *testing.T) {
	a := newAppliance(t)
	m, disks := wiping(t, a)
	sys := m.env.Disks.Sys.(fstest.MapFS)
	sys["block/vda/device/subsysnqn"] = &fstest.MapFile{Data: []byte("nqn.2014-08.org.x:A\n")}
	for file, text := range map[string]string{"0000:00:02.0/class": "0x010802", "0000:00:02.0/vendor": "0x1b36", "0000:00:02.0/device": "0x0010",
		"0000:00:03.0/class": "0x010601", "0000:00:03.0/driver/module/x": "", "0000:00:04.0/class": "0x020000"} {
		sys["bus/pci/devices/"+file] = &fstest.MapFile{Data: []byte(text + "\n")}
	}
	const twin = "nvme nvme0: Duplicate cntlid 0 with nvme1, subsys nqn.2014-08.org.x:A, rejecting"
	m.env.Disks.KernelLog = func() (string, error) { return "[    5.6] " + twin + "\n", nil }
	const want = "the machine has a disk that the kernel does not show, and that is not erased: " + twin
	if err := m.install(t); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if last := a.last(); last.Status != wire.StatusFailed || last.Message != want || len(last.Wiped) != 2 {
		t.Errorf("last report %+v", last)
	}
	if diff := cmp.Diff([]string{"vda", "vdb"}, erased(disks)); diff != "" {
		t.Errorf("erased (-want +got):\n%s", diff)
	}
	if n := strings.Count(m.console.String(), "no driver has taken it"); n != 1 ||
		!strings.Contains(m.console.String(), "storage controller 0000:00:02.0 (1b36:0010): no driver has taken it, what is behind it is not seen") {
		t.Errorf("the console has %d such lines:\n%s", n, m.console.String())
	}
}
