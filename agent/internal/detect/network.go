package detect

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ARP hardware types of the devices that count (if_arp.h).
const (
	etherType      = "1"
	infinibandType = "32"
)

// network describes the network devices but the loopback (reference section
// 3.5).
func (s Source) network(r reader, f *facts) {
	pci := newPCINames(r)
	for _, name := range r.list("sys/class/net") {
		kind := r.text("sys/class/net", name, "type")
		if kind != etherType && kind != infinibandType {
			continue
		}
		s.device(r, f, name, pci)
	}
}

func (s Source) device(r reader, f *facts, name string, pci pciNames) {
	dir := "sys/class/net/" + name
	add := func(field, value string) { f.add("network", name, field, value) }
	driver := s.Ethtool(name)
	carrier := r.text(dir, "carrier") == "1"

	add("businfo", businfo(r, dir))
	vendor, product := pci.lookup(r.text(dir, "device/vendor"), r.text(dir, "device/device"), r.link(dir, "device/subsystem"))
	add("vendor", vendor)
	add("product", product)
	add("firmware", driver.Firmware)
	add("driver", r.link(dir, "device/driver"))
	speed := r.number(dir, "speed") // Mbit/s; -1 or unreadable when not known
	if speed > 0 {
		add("size", strconv.FormatInt(speed*1_000_000, 10))
	}
	addAddress(add, s.Addresses(name))
	add("link", map[bool]string{true: "yes", false: "no"}[carrier])
	if duplex := r.text(dir, "duplex"); carrier && duplex != "unknown" {
		add("duplex", duplex)
	}
	if carrier && speed > 0 {
		add("speed", speedText(speed))
	}
	add("autonegotiation", driver.Autonegotiation)
	add("serial", strings.ToLower(r.text(dir, "address")))
}

// businfo names the place of a device: bus@address.
func businfo(r reader, dir string) string {
	device := r.link(dir, "device")
	bus := r.link(dir, "device/subsystem")
	if device == "" || bus == "" {
		return ""
	}
	if bus == "virtio" {
		device = strings.TrimPrefix(device, "virtio")
	}
	return bus + "@" + device
}

// addAddress adds the first IPv4 address.
func addAddress(add func(field, value string), addresses []netip.Prefix) {
	for _, address := range addresses {
		if !address.Addr().Is4() {
			continue
		}
		add("ipv4", address.Addr().String())
		add("ipv4-netmask", net.IP(net.CIDRMask(address.Bits(), 32)).String())
		add("ipv4-cidr", strconv.Itoa(address.Bits()))
		add("ipv4-network", address.Masked().Addr().String())
		return
	}
}

// speedText writes Mbit/s as lshw does.
func speedText(mbit int64) string {
	if mbit >= 1000 && mbit%1000 == 0 {
		return strconv.FormatInt(mbit/1000, 10) + "Gbit/s"
	}
	return strconv.FormatInt(mbit, 10) + "Mbit/s"
}

// pciIDs is where Debian has the names of PCI vendors and devices.
const pciIDs = "usr/share/misc/pci.ids"

// pciNames looks vendors and products up in pci.ids, which is read once, on the
// first use.
type pciNames struct{ text func() string }

func newPCINames(r reader) pciNames {
	read, text := false, ""
	return pciNames{func() string {
		if !read {
			read, text = true, r.text(pciIDs)
		}
		return text
	}}
}

// lookup answers names for ids such as "0x8086" and "0x10d3".
func (p pciNames) lookup(vendorID, deviceID, bus string) (vendor, product string) {
	if bus != "pci" {
		return "", ""
	}
	_, section, ok := strings.Cut(p.text(), "\n"+strings.TrimPrefix(vendorID, "0x")+"  ")
	if !ok {
		return "", ""
	}
	vendor, section, _ = strings.Cut(section, "\n")
	prefix := "\t" + strings.TrimPrefix(deviceID, "0x") + "  "
	for line := range strings.Lines(section) {
		if name, ok := strings.CutPrefix(line, prefix); ok {
			return vendor, strings.TrimSpace(name)
		}
		if !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "#") {
			break
		}
	}
	return vendor, ""
}
