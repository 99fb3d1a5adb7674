package drive

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What the directories below /sys/devices are called, on the way to a disk.
var (
	pciDevice = regexp.MustCompile(`^[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
	ataPort   = regexp.MustCompile(`^ata([0-9]+)$`)
	usbDevice = regexp.MustCompile(`^usb[0-9]+$`)
	usbPort   = regexp.MustCompile(`^[0-9]+-([0-9.]+):([0-9.]+)$`)
	scsiHost  = regexp.MustCompile(`^host([0-9]+)$`)
	scsiDisk  = regexp.MustCompile(`^([0-9]+):([0-9]+):([0-9]+):([0-9]+)$`)
	sasDevice = regexp.MustCompile(`^end_device-[0-9:]+$`)
	mmcDevice = regexp.MustCompile(`^mmc[0-9]+:`)
)

// location is the way from /sys to a disk: devices, pci0000:00, 0000:00:1f.2 ...
func (m *Machine) location(dir string) []string {
	target, err := fs.ReadLink(m.Sys, dir)
	if err != nil {
		return nil
	}
	return strings.Split(path.Join(path.Dir(dir), target), "/")
}

// transport is how a disk is attached. A SATA disk behind a SAS controller is
// on "sas"; RAID controllers and virtual ones that talk SCSI are "scsi".
func transport(name string, at []string) string {
	has := func(r *regexp.Regexp) bool { return slices.ContainsFunc(at, r.MatchString) }
	switch {
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case has(usbDevice):
		return "usb"
	case has(ataPort):
		return "sata"
	case has(sasDevice):
		return "sas"
	case has(mmcDevice):
		return "mmc"
	case strings.HasPrefix(name, "vd"):
		return "virtio"
	case has(scsiDisk):
		return "scsi"
	}
	return ""
}

// network are directories on the way to a disk that iSCSI and Fibre Channel have.
var network = regexp.MustCompile(`^(session[0-9]+|rport-[0-9:-]+)$`)

// remote tells whether a disk is behind a network. Several controllers lead to an
// NVMe disk when the kernel sees more than one path.
func (m *Machine) remote(dir string, at []string) bool {
	if slices.ContainsFunc(at, network.MatchString) {
		return true
	}
	files, _ := fs.Glob(m.Sys, dir+"/device/nvme*/transport") // the pattern is good
	return slices.ContainsFunc(append(files, dir+"/device/transport"), func(file string) bool {
		by := m.text(file)
		return by != "" && by != "pcie"
	})
}

// place names the socket that a disk is plugged into, as systemd's
// udev-builtin-path_id.c does: it stays when disks are added or the kernel finds
// them in another order. A disk that is in no PCI device has the way to it.
func (m *Machine) place(name string, at []string) string {
	var words []string
	for i, step := range at {
		here := strings.Join(at[:i+1], "/")
		switch {
		case pciDevice.MatchString(step):
			words = []string{"pci-" + step} // the last one counts, the others are bridges
		case ataPort.MatchString(step):
			port := m.text(here, "ata_port", step, "port_no")
			if port == "" {
				port = ataPort.FindStringSubmatch(step)[1]
			}
			return strings.Join(append(words, "ata-"+port), "-")
		case usbPort.MatchString(step):
			port := usbPort.FindStringSubmatch(step)
			words = append(words, "usb-0:"+port[1]+":"+port[2])
		case sasDevice.MatchString(step):
			if address := m.text(here, "sas_device", step, "sas_address"); address != "" {
				return strings.Join(append(words, "sas-"+address+"-lun-"+lun(at)), "-")
			}
		case scsiDisk.MatchString(step):
			words = append(words, "scsi-"+m.scsiAddress(step, at[:i]))
		}
	}
	if len(words) == 0 {
		return strings.Join(at, "/")
	}
	if nsid := m.text("block", name, "nsid"); strings.HasPrefix(name, "nvme") && nsid != "" {
		words = append(words, "nvme-"+nsid)
	}
	return strings.Join(words, "-")
}

// scsiAddress is H:C:T:L with the host counted from the first of its device:
// the kernel counts those of all devices.
func (m *Machine) scsiAddress(address string, at []string) string {
	numbers := scsiDisk.FindStringSubmatch(address)
	i := slices.IndexFunc(at, scsiHost.MatchString)
	if i < 0 {
		return address
	}
	first, _ := strconv.Atoi(numbers[1])
	own := first
	hosts, _ := fs.Glob(m.Sys, strings.Join(at[:i], "/")+"/host*")
	for _, host := range hosts {
		if n := scsiHost.FindStringSubmatch(path.Base(host)); n != nil {
			number, _ := strconv.Atoi(n[1])
			first = min(first, number)
		}
	}
	return strconv.Itoa(own-first) + ":" + numbers[2] + ":" + numbers[3] + ":" + numbers[4]
}

func lun(at []string) string {
	for _, step := range at {
		if n := scsiDisk.FindStringSubmatch(step); n != nil {
			return n[4]
		}
	}
	return "0"
}
