// Package detect describes a machine's hardware with the names of the original
// eDeploy (reference section 3), so that its specs files keep matching. All
// values are strings; what the original does not have has names of its own.
//
// Everything is read through one door, a Source: files of /sys, /proc, /dev
// and /usr/share/misc/pci.ids, the answers of a few programs (smartctl,
// ethtool, ipmitool and the tools of RAID controllers, those that are there),
// and what only system calls tell. None of them must exist but /sys. Nothing
// is changed, and nothing is sent but what Source.LLDP sends.
//
// The description is made by probes, one for each disk, card and subject. They
// run side by side, each with a time limit of its own: what fails or hangs is
// left out and named by facts system/detection/skipped. A Recording is all
// that the probes of one machine were told, so that the machine can be
// described again anywhere.
package detect

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os/exec"
	"strings"
	"sync"

	"edeploy/server/wire"
)

// Source is the door to a machine: a running one, or a recorded one. A function
// that is nil knows nothing.
type Source struct {
	// FS holds sys, proc, dev and usr.
	FS fs.FS
	// Run runs a program with empty input; an error is that of exec.Cmd, which
	// wraps exec.ErrNotFound where the program is not there. An exit status is
	// no error.
	Run func(ctx context.Context, argv ...string) (Output, error)
	// Addresses are the addresses of a network device.
	Addresses func(device string) []netip.Prefix
	// Ethtool is what the driver says about a network device.
	Ethtool func(device string) Ethtool
	// DMI are texts of the firmware's tables, by their names in sys/class/dmi/id;
	// nil: they are read there.
	DMI func() map[string]string
	// LLDP is what the neighbours of network devices say, as lldptool prints it; it
	// may wait for them.
	LLDP func(ctx context.Context) (map[string]string, error)
	// NVMe is what the controller of an NVMe disk says about itself.
	NVMe func(disk string) (NVMe, error)

	seen    *recorder
	pciList func() []byte // pci.ids, read when it is asked for
}

// whole fills in what the source does not have.
func (s Source) whole() Source {
	if s.Run == nil {
		s.Run = func(context.Context, ...string) (Output, error) { return Output{}, exec.ErrNotFound }
	}
	if s.Addresses == nil {
		s.Addresses = func(string) []netip.Prefix { return nil }
	}
	if s.Ethtool == nil {
		s.Ethtool = func(string) Ethtool { return Ethtool{} }
	}
	if s.LLDP == nil {
		s.LLDP = func(context.Context) (map[string]string, error) { return nil, nil }
	}
	if s.NVMe == nil {
		s.NVMe = func(string) (NVMe, error) { return NVMe{}, fs.ErrNotExist }
	}
	s.pciList = sync.OnceValue(func() []byte {
		list, _ := fs.ReadFile(s.FS, pciIDs) // without it there are no names
		return append([]byte("\n"), list...) // each line is found by what is in front of it, too
	})
	return s
}

// Output is what a program wrote to its standard output, and its exit status.
type Output struct {
	Text string `json:"text"`
	Exit int    `json:"exit,omitempty"`
}

// Ethtool is what sysfs does not have. Empty fields are not known.
type Ethtool struct {
	Firmware        string
	Autonegotiation string // "on" or "off"
}

// NVMe are two answers of a controller (NVM Express Base Specification 2.0).
type NVMe struct {
	Identify []byte `json:"identify"` // Identify Controller data structure, section 5.17.2.1
	Health   []byte `json:"health"`   // SMART / Health Information log page, section 5.16.1.3
}

// Identity says who this machine is: what Hardware's identity would be, without
// asking disks, BMC and programs.
func Identity(ctx context.Context) (wire.Identity, error) {
	s := ThisMachine().whole()
	h, err := s.describe(ctx, nil, append([]probe{s.probe("system", system)}, s.networkProbes()...))
	return h.Identity(), err
}

// Hardware describes the machine behind the source. Specs take the first fact
// that fits, so the order is fixed: areca, hpa, megaraid, disk, system,
// firmware, memory, network, lldp, cpu, numa, ipmi, infiniband, hwmon, pci, gpu, tpm;
// inside, disks and devices in natural order (sda before sdb before sdaa, eth2
// before eth10). What cannot be read is left out; an error means that there is
// no /sys to look at, or that ctx ended.
func (s Source) Hardware(ctx context.Context, log *slog.Logger) (wire.Hardware, error) {
	s = s.whole()
	return s.describe(ctx, log, s.probes())
}

func (s Source) describe(ctx context.Context, log *slog.Logger, probes []probe) (wire.Hardware, error) {
	log = cmp.Or(log, slog.New(slog.DiscardHandler))
	if err := cmp.Or(s.check(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("describe hardware: %w", err)
	}
	f := &facts{}
	for i, found := range runAll(ctx, probes) {
		f.list = append(f.list, found.facts...)
		f.skipped(probes[i].name, found.problem, log)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("describe hardware: %w", err)
	}
	f.collectSkipped()
	replaceBadSerial(f)
	return f.list, nil
}

// check reports whether there is something to look at.
func (s Source) check() error {
	_, err := fs.Stat(s.FS, "sys/class")
	return err
}

// probes are the parts of a description, in its order.
func (s Source) probes() []probe {
	r := s.reader()
	probes := []probe{s.probe("areca", areca), s.probe("hpa", hpRAID), s.probe("megaraid", megaRAID)}
	probes = append(probes, diskProbes(r)...)
	probes = append(probes, s.probe("system", system), s.probe("firmware", firmware), s.probe("memory", memory))
	probes = append(probes, s.networkProbes()...)
	return append(probes, s.probe("lldp", neighbours), s.probe("cpu", processors), s.probe("numa", numa),
		s.probe("ipmi", ipmi), s.probe("infiniband", infiniband), s.probe("temperatures", temperatures),
		s.probe("ipmi sensors", ipmiSensors), s.probe("pci", pci), s.probe("gpu", gpus), s.probe("tpm", tpm))
}

// probe gives a subject its time limit.
func (s Source) probe(name string, look func(context.Context, reader, *facts) error) probe {
	limit, special := limits[name]
	if !special {
		limit = defaultLimit
	}
	r := s.reader()
	return probe{name, limit, func(ctx context.Context, f *facts) error { return look(ctx, r, f) }}
}

func (s Source) reader() reader { return reader{s} }

// badSerials are what vendors leave in boards.
var badSerials = []string{"0123456789", "0000000000"}

// replaceBadSerial removes a placeholder and puts the UUID, else the board's
// serial, else the first MAC address without colons at the end of the list
// (reference section 3.4).
func replaceBadSerial(f *facts) {
	for i, fact := range f.list {
		if fact.Category != "system" || fact.ID != "product" || fact.Field != "serial" {
			continue
		}
		for _, bad := range badSerials {
			if fact.Text() == bad {
				f.list = append(f.list[:i], f.list[i+1:]...)
				f.add("system", "product", "serial", betterSerial(f.list))
				return
			}
		}
	}
}

func betterSerial(h wire.Hardware) string {
	if uuid, ok := h.Find("system", "product", "uuid"); ok {
		return uuid
	}
	if serial, ok := h.Find("system", "motherboard", "serial"); ok {
		return serial
	}
	for _, fact := range h {
		if fact.Category == "network" && fact.Field == "serial" {
			return strings.ReplaceAll(fact.Text(), ":", "")
		}
	}
	return ""
}
