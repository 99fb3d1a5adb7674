// Package detect describes a machine's hardware with the names of the original
// eDeploy (reference section 3), so that its specs files keep matching. All
// values are strings.
//
// Most of it is what ghw finds: disks with size and vendor, product, board and
// firmware, the size of the memory, network devices, processors. The package
// reads itself what ghw does not know, or knows only where udev runs, which is
// not so in an initrd:
//
//   - disks: model, revision, scheduler and caches, names in by-id (serial
//     number, WWN)
//   - network devices: kind, carrier, driver, places on other buses than PCI,
//     MAC addresses that are not the device's own, names of vendor and product;
//     from the kernel's interfaces: IP addresses, firmware, autonegotiation
//   - processors: family, model, stepping, microcode, clock, caches; NUMA nodes
//   - memory banks (SMBIOS type 17)
//   - the kernel's version and command line
//   - how the firmware started the machine: BIOS or UEFI, Secure Boot
//
// It reads /sys, /proc, /dev/disk/by-id, /run/udev/data and, for the names of
// PCI devices, /usr/share/misc/pci.ids; none of them must exist but /sys. It
// runs no programs, sends nothing and changes nothing.
package detect

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/jaypipes/ghw/pkg/util"

	"edeploy/server/wire"
)

// Source is where a description comes from: a running machine, or a recorded one.
type Source struct {
	// Root is the directory that holds sys, proc, dev and usr.
	Root string
	// Addresses are the addresses of one network device; called once for
	// each.
	Addresses func(device string) []netip.Prefix
	// Ethtool is what the driver says about one network device; called once
	// for each.
	Ethtool func(device string) Ethtool
}

// Ethtool is the part of ethtool(8)'s answers that sysfs does not have. Empty
// fields are not known.
type Ethtool struct {
	Firmware        string
	Autonegotiation string // "on" or "off"
}

// ThisMachine is the machine that the program runs on.
func ThisMachine() Source {
	return Source{Root: "/", Addresses: addresses, Ethtool: ethtool}
}

// Hardware describes this machine.
func Hardware(ctx context.Context, log *slog.Logger) (wire.Hardware, error) {
	return ThisMachine().Hardware(ctx, log)
}

// Hardware describes the machine behind the source. Specs take the first fact
// that fits, so the order is fixed: disk, system, firmware, memory, network,
// cpu, numa; inside, disks and devices in natural order (sda before sdb before
// sdaa, eth2 before eth10). What cannot be read is left out; an error means
// that there is no /sys to look at, or that ctx ended.
func (s Source) Hardware(ctx context.Context, log *slog.Logger) (wire.Hardware, error) {
	log = cmp.Or(log, slog.New(slog.DiscardHandler))
	if err := cmp.Or(s.check(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("describe hardware: %w", err)
	}
	inv := takeInventory(ctx, s.Root, log)
	f := &facts{}
	r := reader{os.DirFS(s.Root)}
	for _, part := range []func(){
		func() { disks(r, f, inv.disks) },
		func() { system(r, f, inv) },
		func() { firmware(r, f, inv.bios) },
		func() { memory(r, f, inv.memory, log) },
		func() { s.network(r, f, inv.devices, log) },
		func() { processors(r, f, inv.cpu) },
		func() { numa(r, f) },
	} {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("describe hardware: %w", err)
		}
		part()
	}
	replaceBadSerial(f)
	return f.list, nil
}

// check reports whether there is something to look at.
func (s Source) check() error {
	_, err := os.Stat(filepath.Join(s.Root, "sys/class"))
	return err
}

// facts is a description under construction.
type facts struct{ list wire.Hardware }

// add appends a fact unless its value is not known, which the kernel and ghw
// write as "unknown".
func (f *facts) add(category, id, field, value string) {
	if value = tidy(value); value != "" && value != util.UNKNOWN {
		f.list = append(f.list, wire.Fact{Category: category, ID: id, Field: field, Value: value})
	}
}

// tidy drops the padding and control characters of firmware texts.
func tidy(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "")))
}

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
