package rootdriver

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/images/manifest/initramfs"
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

// behind are the devices that the block devices of a stack depend on.
func behind(stack []string) []device {
	var found []device
	seen := map[string]bool{}
	todo := slices.Clone(stack)
	for len(todo) > 0 {
		dir := todo[0]
		todo = todo[1:]
		// A disk of a multipath subsystem is below a device that is none; the
		// controllers are links there (drivers/nvme/host/multipath.c).
		if strings.Contains(dir, "/virtual/nvme-subsystem/") {
			controllers, _ := filepath.Glob(filepath.Join(subsystem(dir), "nvme[0-9]*"))
			todo = append(todo, targets(controllers)...)
		}
		for ; dir != filepath.Dir(dir) && filepath.Base(dir) != "devices"; dir = filepath.Dir(dir) {
			if d, ok := readDevice(dir); ok && !seen[dir] && d.disk() {
				found = append(found, d)
			}
			seen[dir] = true
		}
	}
	return found
}

// subsystem is the directory of the NVMe subsystem that dir is below.
func subsystem(dir string) string {
	for !strings.HasPrefix(filepath.Base(dir), "nvme-subsys") {
		dir = filepath.Dir(dir)
	}
	return dir
}

// targets are where those of the names lead that are links.
func targets(names []string) []string {
	var all []string
	for _, name := range names {
		info, err := os.Lstat(name)
		if err != nil || info.Mode()&os.ModeSymlink == 0 {
			continue
		}
		if target, err := filepath.EvalSymlinks(name); err == nil {
			all = append(all, target)
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
