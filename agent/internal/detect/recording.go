package detect

import (
	"cmp"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
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

// recorded is all that detection looks at, but the names of PCI devices: a
// vendor's full list is not this machine's.
var recorded = []struct{ dir, files string }{
	{"dev/disk/by-id", "*"},
	{"proc", "cmdline cpuinfo meminfo sys/kernel/arch sys/kernel/osrelease"},
	{"sys/block", "* */size"},
	{"sys/block/*/device", "vendor model rev revision scsi_disk/*/cache_type"},
	{"sys/block/*/queue", "optimal_io_size physical_block_size rotational nr_requests scheduler"},
	{"sys/class/dmi/id", "product_* sys_vendor board_* bios_*"},
	{"sys/class/net", "* */type */address */addr_assign_type */carrier */speed */duplex"},
	{"sys/class/net/*/device", "subsystem driver vendor device"},
	{"sys/devices/system/cpu", "smt/control cpu[0-9]*/online cpu[0-9]*/cpufreq/cpuinfo_m*"},
	{"sys/devices/system/cpu/cpu[0-9]*/cache/index*", "level type size"},
	{"sys/devices/system/cpu/cpu[0-9]*/topology", "physical_package_id core_id"},
	{"sys/devices/system/memory", "block_size_bytes memory*/state"},
	{"sys/devices/system/node/node[0-9]*", "cpumap cpu[0-9]*"},
	{"sys/firmware/efi", "fw_platform_size efivars/SecureBoot-*"},
	{"sys/firmware", "dmi/tables/DMI devicetree/base/model devicetree/base/compatible devicetree/base/serial-number"},
}

// Record answers what detection looks at. An error means that there is no /sys.
func (s Source) Record(comment string) (Recording, error) {
	if err := s.check(); err != nil {
		return Recording{}, fmt.Errorf("record hardware: %w", err)
	}
	rec := Recording{Comment: comment, Files: map[string]string{}, Binary: map[string][]byte{}, Links: map[string]string{},
		Addresses: map[string][]netip.Prefix{}, Ethtool: map[string]Ethtool{}}
	r := reader{os.DirFS(s.Root)}
	for _, group := range recorded {
		for pattern := range strings.FieldsSeq(group.files) {
			for _, name := range r.glob(group.dir, pattern) {
				rec.note(r, name)
			}
		}
	}
	for _, dir := range r.glob("sys/class/net/*") {
		if device := path.Base(dir); counts(r, device) {
			rec.Addresses[device], rec.Ethtool[device] = s.Addresses(device), s.Ethtool(device)
		}
	}
	return rec, nil
}

// maxSteps bounds the way to a file: links may go round in circles.
const maxSteps = 100

// note adds a file with all links on the way to it.
func (rec Recording) note(r reader, name string) {
	place, rest := "", strings.Split(name, "/")
	for range maxSteps {
		if len(rest) == 0 {
			break
		}
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
	var errs []error
	lay := func(name string, as func() error) {
		errs = append(errs, root.MkdirAll(path.Dir(name), 0o755), as())
	}
	for name, text := range rec.Files {
		lay(name, func() error { return root.WriteFile(name, []byte(text), 0o644) })
	}
	for name, data := range rec.Binary {
		lay(name, func() error { return root.WriteFile(name, data, 0o644) })
	}
	for name, target := range rec.Links {
		lay(name, func() error { return root.Symlink(target, name) })
	}
	return cmp.Or(errs...)
}
