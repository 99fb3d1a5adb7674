package detect

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/jaypipes/ghw"
)

// diskName selects among the block devices: SCSI, SATA, IDE, virtio and NVMe,
// not what is made of them (md, dm) or removable media (sr).
var diskName = regexp.MustCompile(`^([shv]d[a-z]+|nvme[0-9]+n[0-9]+)$`)

// disks describes the disks (reference section 3.3).
func disks(r reader, f *facts, devices []*ghw.Disk) {
	var found []*ghw.Disk
	for _, device := range devices {
		if diskName.MatchString(device.Name) && device.SizeBytes > 0 {
			found = append(found, device)
		}
	}
	f.add("disk", "logical", "count", strconv.Itoa(len(found)))
	ids := diskIDs(r)
	for _, device := range found {
		disk(r, f, device)
		for _, id := range ids[device.Name] {
			f.add("disk", device.Name, idField(id), id)
		}
	}
}

func disk(r reader, f *facts, device *ghw.Disk) {
	dir := "sys/block/" + device.Name
	add := func(field, value string) { f.add("disk", device.Name, field, value) }
	add("size", decimal(device.SizeBytes/1_000_000_000))
	add("vendor", device.Vendor)
	add("model", r.text(dir, "device/model"))
	if rev := r.text(dir, "device/rev"); rev != "" {
		add("rev", rev)
	} else {
		add("revision", r.text(dir, "device/revision"))
	}
	add("optimal_io_size", r.text(dir, "queue/optimal_io_size"))
	if device.PhysicalBlockSizeBytes > 0 {
		add("physical_block_size", decimal(device.PhysicalBlockSizeBytes))
	}
	// What ghw makes of the kernel's flag.
	add("rotational", map[bool]string{true: "1", false: "0"}[device.DriveType == ghw.DriveTypeHDD])
	add("nr_requests", r.text(dir, "queue/nr_requests"))
	add("scheduler", bracketed(r.text(dir, "queue/scheduler")))
	for _, file := range r.glob(dir, "device/scsi_disk/*/cache_type") {
		write, read := caches(r.text(file))
		add("Write Cache Enable", write)
		add("Read Cache Disable", read)
	}
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
