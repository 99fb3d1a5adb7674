package detect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// ARP hardware types of the devices that count (if_arp.h).
const (
	etherType      = "1"
	infinibandType = "32"
)

// counts tells whether a network device is described: Ethernet and InfiniBand,
// not the loopback, tunnels and other kinds.
func counts(r reader, name string) bool {
	kind := r.text("sys/class/net", name, "type")
	return kind == etherType || kind == infinibandType
}

// networkProbes describe the network devices (reference section 3.5).
func (s Source) networkProbes() []probe {
	r := s.reader()
	var probes []probe
	for _, dir := range r.glob("sys/class/net/*") {
		if name := path.Base(dir); name != "lo" && counts(r, name) {
			probes = append(probes,
				probe{"network " + name, defaultLimit, func(_ context.Context, f *facts) error { device(r, f, name); return nil }},
				probe{"ethtool " + name, defaultLimit, func(ctx context.Context, f *facts) error { return driverSettings(ctx, r, f, name) }})
		}
	}
	return probes
}

func device(r reader, f *facts, name string) {
	dir := "sys/class/net/" + name
	add := func(field, value string) { f.add("network", name, field, value) }
	driver := r.door.Ethtool(name)
	carrier := r.text(dir, "carrier") == "1"

	add("businfo", businfo(r, dir))
	if r.link(dir, "device/subsystem") == "pci" {
		vendor, product := r.pciName(r.text(dir, "device/vendor"), r.text(dir, "device/device"))
		add("vendor", vendor)
		add("product", product)
	}
	add("firmware", driver.Firmware)
	add("driver", r.link(dir, "device/driver"))
	speed, known := r.number(dir, "speed") // Mbit/s; -1 or unreadable when not known
	known = known && speed > 0
	if known {
		add("size", strconv.FormatInt(speed*1_000_000, 10))
	}
	addAddress(add, r.door.Addresses(name))
	add("link", map[bool]string{true: "yes", false: "no"}[carrier])
	if carrier {
		add("duplex", r.text(dir, "duplex"))
	}
	if carrier && known {
		add("speed", speedText(speed))
	}
	add("autonegotiation", driver.Autonegotiation)
	add("serial", strings.ToLower(r.text(dir, "address")))
	add("latency", pciLatency(r, dir))
	add("mtu", r.text(dir, "mtu"))
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

// pciLatency is the latency timer, byte 0x0d of a PCI device's configuration.
func pciLatency(r reader, dir string) string {
	if r.link(dir, "device/subsystem") != "pci" {
		return ""
	}
	config, err := r.bytes(dir, "device/config")
	if err != nil || len(config) <= 0x0d {
		return ""
	}
	return strconv.Itoa(int(config[0x0d]))
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

// driverSettings are what ethtool says of flow control and offloads.
func driverSettings(ctx context.Context, r reader, f *facts, name string) error {
	var problems []error
	for _, option := range []string{"-a", "-k"} {
		out, err := r.run(ctx, "ethtool", option, name)
		problems = append(problems, unless(err, errNoProgram))
		if out.Exit == 0 { // 76, 94, ...: the driver does not know
			settings(f, name, out.Text)
		}
	}
	return errors.Join(problems...)
}

// settings reads "name: value"; indented names belong to the one before. Lines
// with the device's name are titles.
func settings(f *facts, device, text string) {
	parent := ""
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ":")
		if !ok || strings.Contains(line, device) || strings.TrimSpace(value) == "" {
			continue
		}
		if trimmed := strings.TrimSpace(name); trimmed == name {
			parent = name
		} else {
			name = parent + "/" + trimmed
		}
		f.add("network", device, name, strings.ReplaceAll(value, ":", ""))
	}
}
