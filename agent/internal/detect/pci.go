package detect

import (
	"bytes"
	"context"
	"path"
	"strings"
)

// pciIDs is where Debian has the names of PCI vendors and devices.
const pciIDs = "usr/share/misc/pci.ids"

// pciName answers names for ids such as "0x8086" and "0x10d3"; without the list
// there are none.
func (r reader) pciName(vendorID, deviceID string) (vendor, product string) {
	vendorID, deviceID = strings.TrimPrefix(vendorID, "0x"), strings.TrimPrefix(deviceID, "0x")
	if len(vendorID) != 4 || len(deviceID) != 4 {
		return "", ""
	}
	return r.inList(vendorID, deviceID)
}

// pciClass answers the name of a class such as "0x020000".
func (r reader) pciClass(id string) string {
	id = strings.TrimPrefix(id, "0x")
	if len(id) != 6 {
		return ""
	}
	base, sub := r.inList("C "+id[:2], id[2:4])
	if sub != "" {
		return sub
	}
	return base
}

// inList looks for a line "ID  name" of pci.ids, and for one of those that are
// indented below it.
func (r reader) inList(id, subID string) (name, subName string) {
	list := r.door.pciList()
	name, rest, ok := entry(list, "\n"+id+"  ")
	if !ok {
		return "", ""
	}
	block := len(rest)
	for i := 0; i+1 < len(rest); i++ { // up to the next line that is neither indented nor a comment
		if rest[i] == '\n' && rest[i+1] != '\t' && rest[i+1] != '#' {
			block = i
			break
		}
	}
	subName, _, _ = entry(rest[:block], "\n\t"+subID+"  ")
	r.door.seen.pciName(id, name, subID, subName)
	return name, subName
}

// entry finds a line by its beginning; rest begins with that line's end.
func entry(list []byte, beginning string) (name string, rest []byte, ok bool) {
	_, after, ok := bytes.Cut(list, []byte(beginning))
	if !ok {
		return "", nil, false
	}
	line, _, _ := bytes.Cut(after, []byte("\n"))
	return strings.TrimSpace(string(line)), after[len(line):], true
}

// pci describes the devices on the PCI bus, which the original does not.
func pci(_ context.Context, r reader, f *facts) error {
	dirs := r.glob("sys/bus/pci/devices/*")
	if len(dirs) > 0 {
		f.count("pci", "devices", "count", len(dirs))
	}
	for _, dir := range dirs {
		pciDevice(r, f, dir)
	}
	return nil
}

func pciDevice(r reader, f *facts, dir string) {
	add := func(field, value string) { f.add("pci", path.Base(dir), field, value) }
	class, vendor, device := r.text(dir, "class"), r.text(dir, "vendor"), r.text(dir, "device")
	vendorName, deviceName := r.pciName(vendor, device)
	add("class", strings.TrimPrefix(class, "0x"))
	add("vendor", strings.TrimPrefix(vendor, "0x"))
	add("device", strings.TrimPrefix(device, "0x"))
	add("subsystem", joined(":", strings.TrimPrefix(r.text(dir, "subsystem_vendor"), "0x"), strings.TrimPrefix(r.text(dir, "subsystem_device"), "0x")))
	add("revision", strings.TrimPrefix(r.text(dir, "revision"), "0x"))
	add("class-name", r.pciClass(class))
	add("vendor-name", vendorName)
	add("device-name", deviceName)
	add("driver", r.link(dir, "driver"))
	if strings.HasPrefix(class, "0x01") || strings.HasPrefix(class, "0x02") { // what transfers data: others sleep at a lower speed
		add("link-speed", r.text(dir, "current_link_speed"))
		add("link-width", r.text(dir, "current_link_width"))
		add("link-speed-max", r.text(dir, "max_link_speed"))
		add("link-width-max", r.text(dir, "max_link_width"))
	}
	if node, ok := r.number(dir, "numa_node"); ok && node >= 0 {
		add("numa_node", decimal(uint64(node)))
	}
}

// joined joins texts, or is empty when one is.
func joined(separator string, texts ...string) string {
	for _, text := range texts {
		if text == "" {
			return ""
		}
	}
	return strings.Join(texts, separator)
}

// gpus describes graphics and other processors on the PCI bus (classes 03 and
// 1200), which the original does not.
func gpus(_ context.Context, r reader, f *facts) error {
	n := 0
	list := &facts{}
	for _, dir := range r.glob("sys/bus/pci/devices/*") {
		class := r.text(dir, "class")
		if !strings.HasPrefix(class, "0x03") && !strings.HasPrefix(class, "0x1200") {
			continue
		}
		add := func(field, value string) { list.add("gpu", "gpu"+decimal(uint64(n)), field, value) }
		vendor, product := r.pciName(r.text(dir, "vendor"), r.text(dir, "device"))
		add("businfo", "pci@"+path.Base(dir))
		add("pci-id", joined(":", strings.TrimPrefix(r.text(dir, "vendor"), "0x"), strings.TrimPrefix(r.text(dir, "device"), "0x")))
		add("vendor", vendor)
		add("product", product)
		add("driver", r.link(dir, "driver"))
		n++
	}
	if n > 0 {
		f.count("gpu", "logical", "count", n)
	}
	f.list = append(f.list, list.list...)
	return nil
}
