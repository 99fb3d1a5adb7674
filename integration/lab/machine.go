package lab

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
)

// Machine describes a machine before it is started: firmware, disks, network
// cards. The zero value of every field but Name is good.
type Machine struct {
	Name     string // names its logs; letters, digits, - and _
	MemoryMB int    // default 1024
	CPUs     int    // default 1

	Firmware Firmware // default BIOS
	Boot     Boot     // default NetworkFirst

	Disks []Disk
	NICs  []NIC

	SMBIOS SMBIOS

	// Kernel is what QEMU starts itself, if it names an image.
	Kernel Kernel

	// Extra are more arguments for QEMU, as they stand.
	Extra []string
}

// Firmware is what starts a machine.
type Firmware string

// The firmwares.
const (
	BIOS Firmware = "bios" // SeaBIOS, with iPXE in the network card
	UEFI Firmware = "uefi" // OVMF; its variables are kept in NAME.vars.fd
	// SecureBoot is OVMF with Microsoft's keys, which starts only what is
	// signed; its variables are kept in NAME.secure.vars.fd.
	SecureBoot Firmware = "uefi-secure"
)

// Kernel is a Linux kernel that is started as a loader would, without one.
type Kernel struct {
	Image, Initrd string // files
	Args          string // its command line, to which Accelerator.KernelArgs are added
}

func (k Kernel) args(a Accelerator) []string {
	if k.Image == "" {
		return nil
	}
	args := []string{"-kernel", k.Image, "-append", strings.TrimSpace(k.Args + " " + a.KernelArgs())}
	if k.Initrd != "" {
		args = append(args, "-initrd", k.Initrd)
	}
	return args
}

// Boot is the order in which a firmware tries its devices.
type Boot string

// The boot orders. Within network and disks the order is that of the fields; a
// user-mode card is never booted from.
const (
	NetworkFirst Boot = "network first"
	DiskFirst    Boot = "disk first"
)

// Bus is how a disk is attached, which decides its name in Linux.
type Bus string

// The buses.
const (
	Virtio  Bus = "virtio"  // vda
	IDE     Bus = "ide"     // sda, by AHCI
	SCSI    Bus = "scsi"    // sda, by virtio-scsi
	NVMe    Bus = "nvme"    // nvme0n1
	MegaSAS Bus = "megasas" // sda, behind an LSI MegaRAID SAS 2108
	MPTSAS  Bus = "mptsas"  // sda, behind an LSI SAS1068
	LSI     Bus = "lsi"     // sda, behind an LSI 53C895A
	PVSCSI  Bus = "pvscsi"  // sda, behind VMware's controller
)

// controllers are QEMU's devices that disks of a SCSI bus are behind.
var controllers = map[Bus]string{
	SCSI: "virtio-scsi-pci", MegaSAS: "megasas-gen2", MPTSAS: "mptsas1068", LSI: "lsi53c895a", PVSCSI: "pvscsi",
}

// cards are QEMU's network cards by the model's name.
var cards = map[string]string{
	"virtio": "virtio-net-pci", "e1000": "e1000", "e1000e": "e1000e", "igb": "igb", "rtl8139": "rtl8139", "vmxnet3": "vmxnet3",
}

// Disk is one disk of a machine.
type Disk struct {
	Path   string // a raw file, or a qcow2 file whose name ends in .qcow2 (see Overlay)
	Bus    Bus    // default Virtio
	Serial string // what the drive says its serial number is
	// Cache is QEMU's cache mode, default "unsafe": flushes of the guest are
	// ignored, which is much faster and still survives VM.Kill, because what
	// QEMU has written is in this host's page cache. See the README for what
	// a power cut loses.
	Cache string
}

// NIC is one network card of a machine: on a hub, or QEMU's user-mode network.
type NIC struct {
	Hub   *Hub
	User  *UserNet
	MAC   string // default: made of the machine's name and the card's number
	Model string // virtio (default), e1000, e1000e, igb (QEMU 8.0), rtl8139 or vmxnet3
	// NoROM takes iPXE out of the card: UEFI then uses its own PXE, and BIOS
	// cannot boot from it.
	NoROM bool
}

// UserNet is QEMU's user-mode network: the guest reaches the host's network
// through it, and chosen ports of the guest are reached from 127.0.0.1.
type UserNet struct {
	// Forward are TCP ports of the guest; VM.Forwarded says where they are
	// found on the host.
	Forward []int
	// Alone gives the guest addresses, and nobody beyond this network.
	Alone bool
}

// SMBIOS is what the firmware says the machine is (type 1).
type SMBIOS struct {
	UUID         string // default: made of the machine's name
	Serial       string
	Product      string
	Manufacturer string
}

// completed is m with its defaults, or what is wrong with it.
func (m Machine) completed() (Machine, error) {
	if err := checkName(m.Name); err != nil {
		return m, err
	}
	m.MemoryMB, m.CPUs = cmp.Or(m.MemoryMB, 1024), cmp.Or(m.CPUs, 1)
	m.Firmware, m.Boot = cmp.Or(m.Firmware, BIOS), cmp.Or(m.Boot, NetworkFirst)
	m.SMBIOS.UUID = cmp.Or(m.SMBIOS.UUID, uuidOf(m.Name))
	m.Disks, m.NICs = slices.Clone(m.Disks), slices.Clone(m.NICs)
	for i := range m.Disks {
		d := &m.Disks[i]
		d.Bus, d.Cache = cmp.Or(d.Bus, Virtio), cmp.Or(d.Cache, "unsafe")
		if d.Path == "" {
			return m, fmt.Errorf("disk %d has no path", i)
		}
	}
	for i := range m.NICs {
		n := &m.NICs[i]
		n.Model, n.MAC = cmp.Or(n.Model, "virtio"), cmp.Or(n.MAC, macOf(m.Name, i))
		if (n.Hub == nil) == (n.User == nil) {
			return m, fmt.Errorf("network card %d: want either a hub or the user-mode network", i)
		}
		mac, err := net.ParseMAC(n.MAC)
		if err != nil || len(mac) != 6 {
			return m, fmt.Errorf("network card %d: %q is not an Ethernet address", i, n.MAC)
		}
		n.MAC = mac.String()
	}
	return m, m.checkWords()
}

func (m Machine) checkWords() error {
	check := func(what, got string, allowed ...string) error {
		if !slices.Contains(allowed, got) {
			return fmt.Errorf("%s %q: want one of %s", what, got, strings.Join(allowed, ", "))
		}
		return nil
	}
	errs := []error{
		check("firmware", string(m.Firmware), string(BIOS), string(UEFI), string(SecureBoot)),
		check("boot order", string(m.Boot), string(NetworkFirst), string(DiskFirst)),
	}
	for _, d := range m.Disks {
		errs = append(errs, check("disk bus", string(d.Bus), string(Virtio), string(IDE), string(SCSI), string(NVMe), string(MegaSAS), string(MPTSAS), string(LSI), string(PVSCSI)))
	}
	for _, n := range m.NICs {
		errs = append(errs, check("network card", n.Model, slices.Sorted(maps.Keys(cards))...))
	}
	return cmp.Or(errs...)
}

// macOf is the same for the same machine every time, with the prefix that QEMU
// uses.
func macOf(name string, card int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", name, card))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}

func uuidOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	sum[6] = sum[6]&0x0f | 0x80 // version 8, RFC 9562
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// plumbing is what QEMU connects to: unix sockets, copies and host ports.
type plumbing struct {
	accel     Accelerator
	console   string         // socket of the serial port
	monitor   string         // socket of QMP
	wires     []string       // sockets of the hubs, by card; "" for the user-mode network
	forwarded map[int]string // host address by guest port
	code      string         // UEFI firmware
	vars      string         // UEFI variables
}

// args is QEMU's command line for a completed machine.
func (m Machine) args(p plumbing) []string {
	args := append(p.accel.args(),
		"-name", m.Name,
		"-machine", "q35,graphics=off", // without graphics SeaBIOS talks on the serial port
		"-m", fmt.Sprint(m.MemoryMB), "-smp", fmt.Sprint(m.CPUs),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", "socket,id=console,path="+escape(p.console), "-serial", "chardev:console",
		"-chardev", "socket,id=monitor,path="+escape(p.monitor), "-mon", "chardev=monitor,mode=control",
		"-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
		"-uuid", m.SMBIOS.UUID, "-smbios", m.SMBIOS.arg(),
		"-boot", "strict=on")
	if m.Firmware != BIOS {
		args = append(args,
			"-drive", "if=pflash,format=raw,readonly=on,file="+escape(p.code),
			"-drive", "if=pflash,format=raw,file="+escape(p.vars))
	}
	if m.Firmware == SecureBoot {
		// Only the firmware itself may write its variables.
		args = append(args, "-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	args = append(args, m.diskArgs()...)
	args = append(args, m.nicArgs(p)...)
	args = append(args, m.Kernel.args(p.accel)...)
	return append(args, m.Extra...)
}

// escape protects the commas of a value.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func (s SMBIOS) arg() string {
	arg := "type=1,uuid=" + s.UUID
	for _, f := range [][2]string{{"manufacturer", s.Manufacturer}, {"product", s.Product}, {"serial", s.Serial}} {
		if f[1] != "" {
			arg += "," + f[0] + "=" + escape(f[1])
		}
	}
	return arg
}

func (m Machine) diskArgs() []string {
	var args []string
	for _, bus := range slices.Sorted(maps.Keys(controllers)) {
		if slices.ContainsFunc(m.Disks, func(d Disk) bool { return d.Bus == bus }) {
			args = append(args, "-device", controllers[bus]+",id="+string(bus))
		}
	}
	for i, d := range m.Disks {
		id := fmt.Sprintf("disk%d", i)
		args = append(args,
			"-drive", fmt.Sprintf("if=none,id=%s,format=%s,cache=%s,discard=unmap,file=%s", id, formatOf(d.Path), d.Cache, escape(d.Path)),
			"-device", d.device(i)+",drive="+id+fmt.Sprintf(",bootindex=%d", m.bootIndex(true, i)))
	}
	return args
}

func formatOf(path string) string {
	if filepath.Ext(path) == ".qcow2" {
		return "qcow2"
	}
	return "raw"
}

func (d Disk) device(i int) string {
	serial := d.Serial
	if serial == "" && d.Bus == NVMe { // which must have one
		serial = fmt.Sprintf("nvme%d", i)
	}
	if serial != "" {
		serial = ",serial=" + escape(serial)
	}
	if d.Bus == MPTSAS { // whose driver finds disks by their SAS address
		serial += fmt.Sprintf(",wwn=%#x", 0x5000c50000000001+i)
	}
	if controllers[d.Bus] != "" {
		return "scsi-hd,bus=" + string(d.Bus) + ".0" + serial
	}
	switch d.Bus {
	case IDE:
		return fmt.Sprintf("ide-hd,bus=ide.%d", i) + serial
	case NVMe:
		return "nvme" + serial
	}
	return "virtio-blk-pci" + serial
}

func (m Machine) nicArgs(p plumbing) []string {
	var args []string
	for i, n := range m.NICs {
		id := fmt.Sprintf("net%d", i)
		device := fmt.Sprintf("%s,netdev=%s,mac=%s", cards[n.Model], id, n.MAC)
		if n.User != nil || n.NoROM {
			device += ",romfile="
		}
		if n.Hub != nil {
			device += fmt.Sprintf(",bootindex=%d", m.bootIndex(false, i))
			args = append(args, "-netdev", "stream,id="+id+",server=off,addr.type=unix,addr.path="+escape(p.wires[i]))
		} else {
			args = append(args, "-netdev", n.User.arg(id, p.forwarded))
		}
		args = append(args, "-device", device)
	}
	return args
}

func (u UserNet) arg(id string, forwarded map[int]string) string {
	arg := "user,id=" + id
	if u.Alone {
		arg += ",restrict=on"
	}
	for _, port := range u.Forward {
		arg += fmt.Sprintf(",hostfwd=tcp:%s-:%d", forwarded[port], port)
	}
	return arg
}

// bootIndex is the place of a device in the boot order.
func (m Machine) bootIndex(disk bool, i int) int {
	if disk == (m.Boot == DiskFirst) {
		return 1 + i
	}
	return 100 + i
}
