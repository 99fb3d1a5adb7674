package machine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

type blockDevice struct {
	name string
	ids  []string // its links by-id/...
}

// blockDevices are all that have a size, whole disks before their partitions.
func blockDevices(sys fs.FS) ([]blockDevice, error) {
	names, err := blockNames(sys)
	var found []blockDevice
	for _, name := range names {
		dir := "block/" + name
		ids := DiskIDs(sys, dir)
		found = append(found, blockDevice{name, ids})
		found = append(found, partitions(sys, dir, ids)...)
	}
	return found, err
}

// notBlock are prefixes of devices in /sys/block that hold nothing of their own.
var notBlock = []string{"loop", "ram", "zram", "fd"}

// blockNames are those in /sys/block that have a size.
func blockNames(sys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(sys, "block")
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	var names []string
	for _, entry := range entries {
		size := attribute(sys, "block/"+entry.Name()+"/size")
		if !hasPrefix(entry.Name(), notBlock...) && size != "" && size != "0" {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func hasPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// partitions of a disk get the disk's links with "-partN" behind.
func partitions(sys fs.FS, disk string, ids []string) []blockDevice {
	files, _ := fs.Glob(sys, disk+"/*/partition")
	var found []blockDevice
	for _, file := range files {
		part := blockDevice{name: path.Base(path.Dir(file))}
		for _, id := range ids {
			part.ids = append(part.ids, id+"-part"+attribute(sys, file))
		}
		found = append(found, part)
	}
	slices.SortFunc(found, func(a, b blockDevice) int {
		return cmp.Or(len(a.name)-len(b.name), strings.Compare(a.name, b.name))
	})
	return found
}

// DiskIDs are the by-id names that can be had from sysfs for the disk in a
// directory such as block/sda: World Wide Name, model and serial number, or the
// name of a mapped or RAID device. Each is "by-id/...".
func DiskIDs(sys fs.FS, dir string) []string {
	get := func(name string) string { return attribute(sys, dir+"/"+name) }
	var ids []string
	add := func(prefix, value string) {
		if value != "" {
			ids = append(ids, "by-id/"+prefix+value)
		}
	}
	switch name := path.Base(dir); {
	case strings.HasPrefix(name, "vd"):
		add("virtio-", linkName(get("serial")))
	case strings.HasPrefix(name, "nvme"):
		add("nvme-", get("wwid"))
		if serial := get("device/serial"); serial != "" {
			add("nvme-", linkName(get("device/model")+"_"+serial))
		}
	case strings.HasPrefix(name, "dm-"):
		add("dm-name-", get("dm/name"))
		add("dm-uuid-", get("dm/uuid"))
	case strings.HasPrefix(name, "md"):
		add("md-uuid-", get("md/uuid"))
	case strings.HasPrefix(name, "sd"):
		scsiIDs(sys, dir, add)
	}
	return ids
}

// scsiIDs reads the vital product data page 0x83 (SPC-4, 7.8.6), as the kernel
// keeps it: one NAA name, and for SATA disks a vendor text with model and serial.
func scsiIDs(sys fs.FS, dir string, add func(prefix, value string)) {
	page, _ := fs.ReadFile(sys, dir+"/device/vpd_pg83")
	for _, d := range designators(page) {
		switch {
		case d.kind == 3: // NAA
			add("wwn-0x", hex.EncodeToString(d.value))
			add("scsi-3", hex.EncodeToString(d.value))
		case d.kind == 1 && bytes.HasPrefix(d.value, []byte("ATA     ")):
			// libata's layout (ata_scsiop_inq_83): 8 bytes ATA, 40 model, 20 serial.
			if text := d.value[8:]; len(text) == 60 {
				add("ata-", linkName(strings.TrimSpace(string(text[:40]))+"_"+strings.TrimSpace(string(text[40:]))))
			}
		}
	}
}

type designator struct {
	kind  byte // 1: vendor text, 3: NAA
	value []byte
}

// designators splits page 0x83 and keeps those of the logical unit (not of its
// port). A truncated page gives what is whole.
func designators(page []byte) []designator {
	if len(page) < 4 || page[1] != 0x83 {
		return nil
	}
	rest := page[4:min(len(page), 4+int(binary.BigEndian.Uint16(page[2:])))]
	var found []designator
	for len(rest) >= 4 && len(rest) >= 4+int(rest[3]) {
		association, kind := rest[1]>>4&3, rest[1]&15
		if association == 0 {
			found = append(found, designator{kind, rest[4 : 4+int(rest[3])]})
		}
		rest = rest[4+int(rest[3]):]
	}
	return found
}

func attribute(sys fs.FS, name string) string {
	text, err := fs.ReadFile(sys, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// linkName writes text as udev does in links: runs of blanks become "_",
// other characters than letters, digits and "#+-.:=@_" too.
func linkName(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("#+-.:=@_", r):
			return r
		}
		return '_'
	}, strings.Join(strings.Fields(text), "_"))
}
