package detect

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/jaypipes/ghw"
	"github.com/jaypipes/pcidb"
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

// network describes the network devices (reference section 3.5).
func (s Source) network(r reader, f *facts, devices []*ghw.NIC, log *slog.Logger) {
	names := pciNames(s.Root, log)
	for _, device := range devices {
		if counts(r, device.Name) {
			s.device(r, f, device, names)
		}
	}
}

func (s Source) device(r reader, f *facts, device *ghw.NIC, names func() *pcidb.DB) {
	dir := "sys/class/net/" + device.Name
	add := func(field, value string) { f.add("network", device.Name, field, value) }
	driver := s.Ethtool(device.Name)
	carrier := r.text(dir, "carrier") == "1"

	if device.PCIAddress != nil {
		add("businfo", "pci@"+*device.PCIAddress)
		vendor, product := pciName(names(), r.text(dir, "device/vendor"), r.text(dir, "device/device"))
		add("vendor", vendor)
		add("product", product)
	} else {
		add("businfo", businfo(r, dir))
	}
	add("firmware", driver.Firmware)
	add("driver", r.link(dir, "device/driver"))
	speed, err := strconv.ParseInt(device.Speed, 10, 64) // Mbit/s; -1 or unreadable when not known
	known := err == nil && speed > 0
	if known {
		add("size", strconv.FormatInt(speed*1_000_000, 10))
	}
	addAddress(add, s.Addresses(device.Name))
	add("link", map[bool]string{true: "yes", false: "no"}[carrier])
	if carrier {
		add("duplex", device.Duplex)
	}
	if carrier && known {
		add("speed", speedText(speed))
	}
	add("autonegotiation", driver.Autonegotiation)
	// ghw has the addresses that devices were made with, not those that were
	// given to them (bonds, bridges, virtual machines).
	add("serial", strings.ToLower(cmp.Or(device.MACAddress, r.text(dir, "address"))))
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

// pciNames reads pci.ids on the first call; without the file there are no names.
func pciNames(root string, log *slog.Logger) func() *pcidb.DB {
	return sync.OnceValue(func() *pcidb.DB {
		file, never := filepath.Join(root, pciIDs), false
		if _, err := os.Stat(file); err != nil {
			return &pcidb.DB{}
		}
		return ask(context.Background(), log, "names of PCI devices", func(...any) (*pcidb.DB, error) {
			return pcidb.New(&pcidb.WithOption{Path: &file, EnableNetworkFetch: &never})
		})
	})
}

// pciName answers names for ids such as "0x8086" and "0x10d3".
func pciName(db *pcidb.DB, vendorID, deviceID string) (vendor, product string) {
	vendorID, deviceID = strings.TrimPrefix(vendorID, "0x"), strings.TrimPrefix(deviceID, "0x")
	if v := db.Vendors[vendorID]; v != nil {
		vendor = v.Name
	}
	if p := db.Products[vendorID+deviceID]; p != nil {
		product = p.Name
	}
	return vendor, product
}
