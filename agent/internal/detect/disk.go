package detect

import (
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// diskName selects the disks in /sys/block: SCSI, SATA, IDE, virtio and NVMe,
// not what is made of them (md, dm) or removable media (sr).
var diskName = regexp.MustCompile(`^([shv]d[a-z]+|nvme[0-9]+n[0-9]+)$`)

const sectorBytes = 512 // unit of /sys/block/*/size, whatever the disk's own

// disks describes the disks (reference section 3.3).
func disks(r reader, f *facts) {
	var found []string
	for _, name := range r.list("sys/block") {
		if diskName.MatchString(name) && r.number("sys/block", name, "size") > 0 {
			found = append(found, name)
		}
	}
	f.add("disk", "logical", "count", strconv.Itoa(len(found)))
	ids := diskIDs(r)
	for _, name := range found {
		disk(r, f, name)
		for _, id := range ids[name] {
			f.add("disk", name, idField(id), id)
		}
	}
}

func disk(r reader, f *facts, name string) {
	dir := "sys/block/" + name
	bytes := r.number(dir, "size") * sectorBytes
	f.add("disk", name, "size", strconv.FormatInt(bytes/1_000_000_000, 10))
	for _, field := range []string{"vendor", "model", "rev", "revision"} {
		if field == "revision" && r.text(dir, "device/rev") != "" {
			continue
		}
		f.add("disk", name, field, r.text(dir, "device", field))
	}
	for _, field := range []string{"optimal_io_size", "physical_block_size", "rotational", "nr_requests"} {
		f.add("disk", name, field, r.text(dir, "queue", field))
	}
	f.add("disk", name, "scheduler", bracketed(r.text(dir, "queue/scheduler")))
	for _, file := range r.glob(dir, "device/scsi_disk/*/cache_type") {
		write, read := caches(r.text(file))
		f.add("disk", name, "Write Cache Enable", write)
		f.add("disk", name, "Read Cache Disable", read)
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
	const dir = "dev/disk/by-id"
	ids := map[string][]string{}
	for _, id := range r.list(dir) {
		if target, err := fs.ReadLink(r.root, path.Join(dir, id)); err == nil {
			ids[path.Base(target)] = append(ids[path.Base(target)], id)
		}
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
