package detect

import (
	"context"
	"encoding/hex"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// diskName selects among the block devices: SCSI, SATA, IDE, virtio and NVMe,
// not what is made of them (md, dm) or removable media (sr).
var diskName = regexp.MustCompile(`^([shv]d[a-z]+|nvme[0-9]+n[0-9]+)$`)

// diskProbes describe the disks (reference section 3.3): their number, then
// each of them, and behind it what it says about its health.
func diskProbes(r reader) []probe {
	names := diskNames(r)
	ids := diskIDs(r)
	probes := []probe{{"disks", defaultLimit, func(_ context.Context, f *facts) error {
		f.count("disk", "logical", "count", len(names))
		return nil
	}}}
	for _, name := range names {
		probes = append(probes,
			probe{"disk " + name, defaultLimit, func(_ context.Context, f *facts) error { disk(r, f, name, ids[name]); return nil }},
			probe{"smart " + name, limits["smart"], func(ctx context.Context, f *facts) error { return smart(ctx, r, f, name) }})
	}
	return probes
}

// diskNames are the disks that have a size.
func diskNames(r reader) []string {
	var names []string
	for _, dir := range r.glob("sys/block/*") {
		name := path.Base(dir)
		if diskName.MatchString(name) && sectors(r, name) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// sectors is a disk's size in units of 512 bytes.
func sectors(r reader, name string) uint64 {
	n, err := strconv.ParseUint(r.text("sys/block", name, "size"), 10, 54)
	if err != nil {
		return 0
	}
	return n
}

func disk(r reader, f *facts, name string, ids []string) {
	dir := "sys/block/" + name
	add := func(field, value string) { f.add("disk", name, field, value) }
	add("size", decimal(sectors(r, name)*512/1_000_000_000))
	add("vendor", r.text(dir, "device/vendor"))
	add("model", r.text(dir, "device/model"))
	if rev := r.text(dir, "device/rev"); rev != "" {
		add("rev", rev)
	} else {
		add("revision", r.text(dir, "device/revision"))
	}
	for _, field := range []string{"optimal_io_size", "physical_block_size", "rotational", "nr_requests"} {
		add(field, r.text(dir, "queue", field))
	}
	add("scheduler", bracketed(r.text(dir, "queue/scheduler")))
	for _, file := range r.glob(dir, "device/scsi_disk/*/cache_type") {
		write, read := caches(r.text(file))
		add("Write Cache Enable", write)
		add("Read Cache Disable", read)
	}
	for _, id := range ids {
		add(idField(id), id)
	}
	moreOfDisk(r, dir, name, add)
}

// moreOfDisk is what the original does not have.
func moreOfDisk(r reader, dir, name string, add func(field, value string)) {
	add("firmware_rev", r.text(dir, "device/firmware_rev"))
	add("logical_block_size", r.text(dir, "queue/logical_block_size"))
	add("removable", r.text(dir, "removable"))
	add("transport", transport(name, r.target(dir)))
	add("serial", diskSerial(r, dir))
	add("wwn", worldWideName(r, dir))
}

// transports are marks in the path of a disk's device, and what they say about
// the way to the disk. The first that fits counts: a USB adapter has a SCSI
// host behind it.
var transports = []struct{ mark, name string }{
	{"/usb", "usb"}, {"/virtio", "virtio"}, {"/ata", "sata"}, {"/end_device-", "sas"}, {"/rport-", "fc"}, {"/session", "iscsi"},
}

// transport is how a disk is connected; "" where a RAID controller hides it.
func transport(name, device string) string {
	switch {
	case strings.HasPrefix(name, "nvme"):
		return "nvme"
	case strings.HasPrefix(name, "vd"):
		return "virtio"
	}
	for _, t := range transports {
		if strings.Contains(device, t.mark) {
			return t.name
		}
	}
	return ""
}

// diskSerial is a disk's serial number: of virtio and NVMe disks a file has it,
// of SCSI and SATA disks the vital product data page 0x80 (SPC-4, 7.8.15).
func diskSerial(r reader, dir string) string {
	for _, file := range []string{"serial", "device/serial"} {
		if serial := r.text(dir, file); serial != "" {
			return serial
		}
	}
	page, err := r.bytes(dir, "device/vpd_pg80")
	if err != nil || len(page) < 4 || page[1] != 0x80 {
		return ""
	}
	return string(page[4:min(len(page), 4+int(page[3]))])
}

// worldWideName is the name that no other disk has: 0x5000c500... or eui.0025...
func worldWideName(r reader, dir string) string {
	wwid := r.text(dir, "wwid")
	if wwid == "" {
		wwid = r.text(dir, "device/wwid")
	}
	if naa, ok := strings.CutPrefix(wwid, "naa."); ok {
		return "0x" + naa
	}
	if wwid == "" || strings.HasPrefix(wwid, "t10.") {
		return nameOfPage(r, dir)
	}
	return wwid
}

// nameOfPage is the NAA name in the vital product data page 0x83 (SPC-4, 7.8.6).
func nameOfPage(r reader, dir string) string {
	page, _ := r.bytes(dir, "device/vpd_pg83")
	if len(page) < 4 || page[1] != 0x83 {
		return ""
	}
	for rest := page[4:]; len(rest) >= 4 && len(rest) >= 4+int(rest[3]); rest = rest[4+int(rest[3]):] {
		if unit, naa := rest[1]>>4&3 == 0, rest[1]&15 == 3; unit && naa {
			return "0x" + hex.EncodeToString(rest[4:4+int(rest[3])])
		}
	}
	return ""
}

// bracketed is the chosen word of a list such as "none [mq-deadline] bfq".
func bracketed(text string) string {
	_, rest, _ := strings.Cut(text, "[")
	word, _, ok := strings.Cut(rest, "]")
	if !ok {
		return ""
	}
	return word
}

// caches translates the kernel's cache_type into two mode page bits.
func caches(kind string) (writeEnabled, readDisabled string) {
	switch {
	case strings.Contains(kind, "daft"):
		return "1", "1"
	case kind == "write through":
		return "0", "0"
	case kind == "none":
		return "0", "1"
	}
	return "1", "0"
}

// diskIDs are the names of the links in /dev/disk/by-id, by disk.
func diskIDs(r reader) map[string][]string {
	ids := map[string][]string{}
	for _, link := range r.glob("dev/disk/by-id/*") {
		disk := r.link(link)
		ids[disk] = append(ids[disk], path.Base(link))
	}
	return ids
}

// idField is the field that a link's name goes to.
func idField(id string) string {
	switch {
	case strings.HasPrefix(id, "wwn"):
		return "wwn-id"
	case strings.HasPrefix(id, "scsi"):
		return "scsi-id"
	}
	return "id"
}
