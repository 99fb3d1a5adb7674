package detect

import (
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Recording is everything that detection looks at on one machine: enough to
// describe it again anywhere, which is how odd hardware becomes a test. Paths
// are relative to the root; none goes through a link.
type Recording struct {
	Comment   string                    `json:"comment"` // which machine, from where
	Files     map[string]string         `json:"files"`
	Binary    map[string][]byte         `json:"binary"` // files that are not text
	Links     map[string]string         `json:"links"`  // targets of symbolic links
	Addresses map[string][]netip.Prefix `json:"addresses"`
	Ethtool   map[string]Ethtool        `json:"ethtool"`
}

// recorded are patterns for all that detection looks at, but the names of PCI
// devices: a vendor's full list is not this machine's.
var recorded = []string{
	"dev/disk/by-id/*",
	"proc/cmdline", "proc/cpuinfo", "proc/meminfo", "proc/sys/kernel/arch", "proc/sys/kernel/osrelease",
	"sys/block/*", "sys/block/*/size",
	"sys/block/*/device/model", "sys/block/*/device/rev", "sys/block/*/device/revision",
	"sys/block/*/device/scsi_disk/*/cache_type", "sys/block/*/device/vendor",
	"sys/block/*/queue/nr_requests", "sys/block/*/queue/optimal_io_size",
	"sys/block/*/queue/physical_block_size", "sys/block/*/queue/rotational", "sys/block/*/queue/scheduler",
	"sys/class/dmi/id/bios_*", "sys/class/dmi/id/board_*", "sys/class/dmi/id/product_*", "sys/class/dmi/id/sys_vendor",
	"sys/class/net/*", "sys/class/net/*/addr*", "sys/class/net/*/carrier", "sys/class/net/*/duplex",
	"sys/class/net/*/speed", "sys/class/net/*/type",
	"sys/class/net/*/device/device", "sys/class/net/*/device/driver", "sys/class/net/*/device/subsystem",
	"sys/class/net/*/device/vendor",
	"sys/devices/system/cpu/cpu[0-9]*/cache/index*/[lst][eiy][vzp]e*", // level, size, type
	"sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_m*",
	"sys/devices/system/cpu/cpu[0-9]*/online",
	"sys/devices/system/cpu/cpu[0-9]*/topology/core_id",
	"sys/devices/system/cpu/cpu[0-9]*/topology/physical_package_id",
	"sys/devices/system/cpu/smt/control",
	"sys/devices/system/memory/block_size_bytes", "sys/devices/system/memory/memory*/state",
	"sys/devices/system/node/node[0-9]*/cpu[0-9]*", "sys/devices/system/node/node[0-9]*/cpumap",
	"sys/firmware/devicetree/base/compatible", "sys/firmware/devicetree/base/model",
	"sys/firmware/devicetree/base/serial-number",
	"sys/firmware/dmi/tables/DMI",
}

// Record answers what detection looks at. An error means that there is no /sys.
func (s Source) Record(comment string) (Recording, error) {
	if err := s.check(); err != nil {
		return Recording{}, fmt.Errorf("record hardware: %w", err)
	}
	rec := Recording{Comment: comment, Files: map[string]string{}, Binary: map[string][]byte{}, Links: map[string]string{},
		Addresses: map[string][]netip.Prefix{}, Ethtool: map[string]Ethtool{}}
	r := reader{os.DirFS(s.Root)}
	for _, pattern := range recorded {
		for _, name := range r.glob(pattern) {
			rec.note(r, name)
		}
	}
	for _, device := range r.list("sys/class/net") {
		if counts(r, device) {
			rec.Addresses[device], rec.Ethtool[device] = s.Addresses(device), s.Ethtool(device)
		}
	}
	return rec, nil
}

// note adds a file with all links on the way to it.
func (rec Recording) note(r reader, name string) {
	place, rest := "", strings.Split(name, "/")
	for len(rest) > 0 {
		next := path.Join(place, rest[0])
		rest = rest[1:]
		target, err := fs.ReadLink(r.root, next)
		if err != nil {
			place = next
			continue
		}
		rec.Links[next] = target
		place, rest = "", append(strings.Split(path.Join(place, target), "/"), rest...)
	}
	// What is not a regular file is a directory or, behind a name of a disk, the disk.
	if info, err := fs.Stat(r.root, place); err != nil || !info.Mode().IsRegular() {
		return
	}
	data, err := fs.ReadFile(r.root, place)
	switch {
	case err != nil: // in sysfs: there is no value
	case utf8.Valid(data):
		rec.Files[place] = string(data)
	default:
		rec.Binary[place] = data
	}
}

// Source lays the recording out in an empty directory, to play it from there.
func (rec Recording) Source(dir string) (Source, error) {
	s := Source{
		Root:      dir,
		Addresses: func(device string) []netip.Prefix { return rec.Addresses[device] },
		Ethtool:   func(device string) Ethtool { return rec.Ethtool[device] },
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Source{}, fmt.Errorf("lay out recording: %w", err)
	}
	defer root.Close()
	if err := rec.layOut(root); err != nil {
		return Source{}, fmt.Errorf("lay out recording in %s: %w", dir, err)
	}
	return s, nil
}

func (rec Recording) layOut(root *os.Root) error {
	contents := maps.Clone(rec.Binary)
	if contents == nil {
		contents = map[string][]byte{}
	}
	for name, text := range rec.Files {
		contents[name] = []byte(text)
	}
	for _, name := range slices.Sorted(maps.Keys(contents)) {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(name, contents[name], 0o644); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rec.Links)) {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := root.Symlink(rec.Links[name], name); err != nil {
			return err
		}
	}
	return nil
}
