package build

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"edeploy/images/manifest/initramfs"
)

// early is what an initramfs holds, or why nobody knows.
type early struct {
	names map[string]bool
	err   error
}

func readEarly(r io.Reader) early {
	names, err := initramfs.Read(r)
	if err != nil {
		err = fmt.Errorf("cannot be read: %w", err)
	}
	return early{names, err}
}

// recovers says what an initramfs lacks for undoing an upgrade that was
// interrupted.
func (e early) recovers() error {
	if e.err != nil {
		return e.err
	}
	for _, name := range []string{"usr/sbin/edeploy", "scripts/local-bottom/edeploy"} {
		if !e.names[name] {
			return errors.New("has no /" + name)
		}
	}
	return nil
}

// recovery checks that a machine which loses power in the middle of an upgrade
// comes back to one version, also with kernels that are installed later.
func (t *tree) recovery() []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(t.early)) {
		if err := t.early[name].recovers(); err != nil {
			found = append(found, fmt.Sprintf("an interrupted upgrade would not be undone at boot: /%s %v", name, err))
		}
	}
	for _, name := range []string{"hooks/edeploy", "scripts/local-bottom/edeploy"} {
		if !t.there("usr/share/initramfs-tools/"+name) && !t.there("etc/initramfs-tools/"+name) {
			found = append(found, "an interrupted upgrade would not be undone at boot by kernels installed later: /usr/share/initramfs-tools/"+name+" is missing")
		}
	}
	return found
}

// diskDrivers are the modules that a root file system is behind on the
// machines that the installing agent knows: controllers, and disks themselves.
var diskDrivers = []string{
	"sd_mod", "ahci", "ata_piix", "nvme", "usb_storage", "uas",
	"virtio_blk", "virtio_scsi", "virtio_pci", "vmw_pvscsi", "hv_storvsc", "xen_blkfront",
	"megaraid_sas", "mpt3sas", "mpi3mr", "mptsas", "mptspi", "aacraid", "arcmsr", "hpsa", "smartpqi", "sym53c8xx", "3w_9xxx", "3w_sas",
}

// controllers checks that each initramfs has the drivers of disks that its
// kernel has: without one a machine with such a controller does not find its root.
func (t *tree) controllers() []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(t.early)) {
		e := t.early[name]
		if e.err != nil {
			continue // said by recovery
		}
		there := t.modules(strings.TrimPrefix(path.Base(name), "initrd.img-"))
		taken := initramfs.Modules(maps.Keys(e.names))
		if missing := slices.DeleteFunc(slices.Clone(diskDrivers), func(m string) bool { return !there[m] || taken[m] }); len(missing) > 0 {
			found = append(found, fmt.Sprintf("machines with disks behind %s would not find their root: /%s lacks what the kernel has; "+
				"MODULES=most in /etc/initramfs-tools/initramfs.conf brings it", strings.Join(missing, ", "), name))
		}
	}
	return found
}

// modules are the names of a kernel's modules.
func (t *tree) modules(release string) map[string]bool {
	return initramfs.Modules(func(yield func(string) bool) {
		for name := range t.names {
			if strings.HasPrefix(name, "usr/lib/modules/"+release+"/") && !yield(name) {
				return
			}
		}
	})
}
