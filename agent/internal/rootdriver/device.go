package rootdriver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"edeploy/images/manifest/initramfs"

	"golang.org/x/sys/unix"
)

// device is something between the machine and a disk that needs a driver.
type device struct {
	name    string   // in sysfs: "0000:00:03.0"
	alias   string   // what it says it is: "pci:v00001000d00000079..."
	driver  string   // that drives it here
	modules []string // what the module with the driver may be called: a table of builtin modules has no aliases
}

func (d device) String() string {
	return fmt.Sprintf("the device %s (%s, here %s)", d.name, d.alias, d.driver)
}

// behind are the devices that a block device depends on, those of the disks
// below an array or a volume too.
func behind(sys, source string) ([]device, error) {
	var found []device
	seen := map[string]bool{}
	todo := []string{blockDir(sys, source)}
	for len(todo) > 0 {
		dir, err := filepath.EvalSymlinks(todo[0])
		todo = todo[1:]
		if err != nil {
			return nil, fmt.Errorf("%w: the disks of %s: %w", ErrUnknown, source, err)
		}
		below, err := filepath.Glob(filepath.Join(dir, "slaves/*"))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		// A disk of a multipath subsystem is below a device that is none; the
		// controllers are links there (drivers/nvme/host/multipath.c).
		if strings.Contains(dir, "/virtual/nvme-subsystem/") {
			below, _ = filepath.Glob(filepath.Join(subsystem(dir), "nvme[0-9]*"))
			below = links(below)
		}
		todo = append(todo, below...)
		for ; dir != filepath.Dir(dir) && filepath.Base(dir) != "devices"; dir = filepath.Dir(dir) {
			if d, ok := readDevice(dir); ok && !seen[dir] && d.disk() {
				found = append(found, d)
			}
			seen[dir] = true
		}
	}
	return found, nil
}

// blockDir is the directory of a block device, by its number: device nodes
// have names of many kinds.
func blockDir(sys, source string) string {
	var stat unix.Stat_t
	if err := unix.Stat(source, &stat); err == nil && stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		return filepath.Join(sys, fmt.Sprintf("dev/block/%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev)))
	}
	return filepath.Join(sys, "class/block", filepath.Base(source))
}

// subsystem is the directory of the NVMe subsystem that dir is below.
func subsystem(dir string) string {
	for !strings.HasPrefix(filepath.Base(dir), "nvme-subsys") {
		dir = filepath.Dir(dir)
	}
	return dir
}

func links(names []string) []string {
	var all []string
	for _, name := range names {
		if info, err := os.Lstat(name); err == nil && info.Mode()&os.ModeSymlink != 0 {
			all = append(all, name)
		}
	}
	return all
}

// readDevice reads a device that has a driver.
func readDevice(dir string) (device, bool) {
	alias, err := os.ReadFile(filepath.Join(dir, "modalias"))
	if err != nil {
		return device{}, false
	}
	driver, err := os.Readlink(filepath.Join(dir, "driver"))
	if err != nil {
		return device{}, false
	}
	d := device{name: filepath.Base(dir), alias: strings.TrimSpace(string(alias)), driver: filepath.Base(driver)}
	d.modules = []string{initramfs.ModuleName(d.driver), d.driver + "_mod"} // sd is in sd_mod
	if module, err := os.Readlink(filepath.Join(dir, "driver/module")); err == nil {
		d.modules = append(d.modules, filepath.Base(module))
	}
	return d, true
}

// disk says whether a device is a disk or a controller of disks: those need a
// driver of their own. Bridges and host adapters of other buses are not judged.
// The numbers are PCI's base class 1 and USB's class 0x0c03, USB's mass
// storage class 8, virtio's devices 2 and 8, and SCSI's type 0.
func (d device) disk() bool {
	bus, rest, _ := strings.Cut(d.alias, ":")
	switch bus {
	case "pci":
		return strings.Contains(rest, "bc01sc") || strings.Contains(rest, "bc0Csc03")
	case "usb":
		return strings.Contains(rest, "ic08isc")
	case "virtio":
		return strings.HasPrefix(rest, "d00000002") || strings.HasPrefix(rest, "d00000008")
	case "scsi":
		return strings.HasPrefix(rest, "t-0x00")
	}
	return d.alias == "xen:vbd"
}
