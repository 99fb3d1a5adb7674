// Package drive knows the disks of a machine: which there are, what is on them,
// which one a rule or a text means, and how the others are kept from being
// written to.
//
// It reads /sys, runs blkid(8) and, where there are physical volumes, pvs(8),
// and tells the kernel which disks are read-only (BLKROSET).
package drive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/detect"
	"edeploy/agent/internal/machine"
)

// Drive is a whole disk.
type Drive struct {
	Name      string   // "sda"
	Place     string   // where it is plugged in, as udev's names in by-path say it: "pci-0000:00:1f.2-ata-1"
	IDs       []string // its names in /dev/disk/by-id
	Model     string
	Serial    string
	WWN       string // as the kernel says it: "naa.5000c500a1b2c3d4", "eui.0025388b710116a1"
	Transport string // "usb", "sata", "sas", "nvme", "virtio", "mmc", else "scsi"
	SizeBytes int64

	Rotational     bool
	Removable      bool // the kernel says so, or it is on USB
	WriteProtected bool // by itself or its controller
	Remote         bool // behind a network: other machines may use it, too
	Discards       bool // it can be told to forget what it holds (TRIM, UNMAP)

	// Twin is the kernel's word on another NVMe controller that says it is this
	// disk's: it takes the one that answers first, another one each time. "": none.
	Twin string

	Contents []Content // what is on the disk itself, then on its partitions
}

// Device is the name of its device node: "/dev/sda".
func (d Drive) Device() string { return "/dev/" + d.Name }

// String names the disk for an operator.
func (d Drive) String() string {
	words := []string{cmp.Or(d.Model, "no model"), "serial " + cmp.Or(d.Serial, "unknown"), d.size(), cmp.Or(d.Transport, "unknown transport")}
	if d.Removable {
		words = append(words, "removable")
	}
	if d.WriteProtected {
		words = append(words, "write-protected")
	}
	return d.Device() + " (" + strings.Join(words, ", ") + ")"
}

// size is in decimal units, as it is printed on disks.
func (d Drive) size() string {
	for _, unit := range []struct {
		bytes float64
		name  string
	}{{1e12, "TB"}, {1e9, "GB"}} {
		if n := float64(d.SizeBytes) / unit.bytes; n >= 1 {
			return strconv.FormatFloat(n, 'f', 1, 64) + " " + unit.name
		}
	}
	return strconv.FormatInt(d.SizeBytes/1e6, 10) + " MB"
}

// list is the disks, one after the other.
func list(drives []Drive) string {
	var all []string
	for _, d := range drives {
		all = append(all, d.String())
	}
	return strings.Join(all, ", ")
}

// Machine is where disks are found, and the door to them.
type Machine struct {
	Sys         fs.FS // what is in /sys
	Run         command.Runner
	SetReadOnly func(device string, on bool) error
	Head        func(device string) error // reads the first bytes of a disk
	KernelLog   func() (string, error)    // the kernel's messages so far
	Patience    time.Duration             // for one disk to say what is on it; 0 is 20 s
}

// ThisMachine is the machine that the program runs on; kernelLog is its dmesg.
func ThisMachine(kernelLog func() ([]byte, error)) *Machine {
	return &Machine{Sys: os.DirFS("/sys"), Run: command.On(nil), SetReadOnly: setReadOnly, Head: readHead,
		KernelLog: func() (string, error) { text, err := kernelLog(); return string(text), err }}
}

func setReadOnly(device string, on bool) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	value := 0
	if on {
		value = 1
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, value); err != nil {
		return &fs.PathError{Op: "BLKROSET", Path: device, Err: err}
	}
	return nil
}

// readHead is there for the error: blkid takes a disk that cannot be read for
// an empty one.
func readHead(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(make([]byte, 4096), 0)
	return err
}

// whole are the names of whole disks. CD drives, arrays, volumes, RAM disks and
// the boot areas of an eMMC are none.
var whole = regexp.MustCompile(`^(sd[a-z]+|hd[a-z]+|x?vd[a-z]+|dasd[a-z]+|nvme[0-9]+n[0-9]+|mmcblk[0-9]+|pmem[0-9]+)$`)

// Read lists the disks in the order of their names, without their contents. Those
// without a medium are left out.
func (m *Machine) Read() ([]Drive, error) {
	all, err := m.All()
	return slices.DeleteFunc(all, func(d Drive) bool { return d.SizeBytes == 0 }), err
}

// All is Read with those that have no medium, or are too broken to say their
// size.
func (m *Machine) All() ([]Drive, error) {
	entries, err := fs.ReadDir(m.Sys, "block")
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var found []Drive
	for _, e := range entries {
		if whole.MatchString(e.Name()) {
			found = append(found, m.drive(e.Name()))
		}
	}
	slices.SortFunc(found, func(a, b Drive) int { return detect.Natural(a.Name, b.Name) })
	m.twins(found)
	return found, nil
}

// rejected is what the kernel says of the second of two NVMe controllers that
// have one number in one subsystem (nvme_validate_cntlid).
var rejected = regexp.MustCompile(`nvme nvme[0-9]+: Duplicate cntlid [0-9]+ with nvme[0-9]+, subsys (\S+), rejecting`)

// twins finds the disks that another one claims to be. Without the kernel's log
// there are none.
func (m *Machine) twins(drives []Drive) {
	if m.KernelLog == nil {
		return
	}
	log, _ := m.KernelLog()
	for _, match := range rejected.FindAllStringSubmatch(log, -1) {
		for i, d := range drives {
			if m.text("block", d.Name, "device/subsysnqn") == match[1] {
				drives[i].Twin = match[0]
			}
		}
	}
}

// Undriven says of each storage controller (PCI base class 01h) without a driver
// that what is behind it is not seen.
func (m *Machine) Undriven() []string {
	var texts []string
	classes, _ := fs.Glob(m.Sys, "bus/pci/devices/*/class")
	for _, class := range classes {
		dir := path.Dir(class)
		if _, err := fs.Stat(m.Sys, dir+"/driver"); err != nil && strings.HasPrefix(m.text(class), "0x01") {
			texts = append(texts, fmt.Sprintf("storage controller %s (%s:%s): no driver has taken it, what is behind it is not seen",
				path.Base(dir), strings.TrimPrefix(m.text(dir, "vendor"), "0x"), strings.TrimPrefix(m.text(dir, "device"), "0x")))
		}
	}
	return texts
}

// drive reads one; sizes in sysfs are in sectors of 512 bytes.
func (m *Machine) drive(name string) Drive {
	dir := "block/" + name
	at := m.location(dir)
	d := Drive{Name: name, Transport: transport(name, at), Place: m.place(name, at)}
	sectors, _ := strconv.ParseInt(m.text(dir, "size"), 10, 64)
	d.SizeBytes = sectors * 512
	d.Rotational = m.text(dir, "queue/rotational") == "1"
	d.Removable = m.text(dir, "removable") == "1" || d.Transport == "usb"
	d.WriteProtected = m.text(dir, "ro") == "1"
	d.Remote = m.remote(dir, at)
	d.Discards = m.text(dir, "queue/discard_max_bytes") != "" && m.text(dir, "queue/discard_max_bytes") != "0"
	d.Model = strings.Join(strings.Fields(m.text(dir, "device/vendor")+" "+m.text(dir, "device/model")+m.text(dir, "device/name")), " ")
	if strings.HasPrefix(d.Model, "0x") { // a virtio disk has the vendor's number there, and no model
		d.Model = ""
	}
	d.Serial = m.serial(dir, at)
	d.WWN = cmp.Or(m.text(dir, "device/wwid"), m.text(dir, "wwid"))
	for _, link := range machine.DiskIDs(m.Sys, dir) {
		d.IDs = append(d.IDs, path.Base(link))
	}
	return d
}

// serial is what the disk says: a file, page 0x80 of a SCSI disk (SPC-4, 7.8.10;
// 4 bytes of header), or the serial number of the USB device that it is in.
func (m *Machine) serial(dir string, at []string) string {
	if serial := cmp.Or(m.text(dir, "serial"), m.text(dir, "device/serial")); serial != "" {
		return serial
	}
	if page := m.text(dir, "device/vpd_pg80"); len(page) > 4 {
		if serial := strings.Trim(page[4:], " \x00"); serial != "" {
			return serial
		}
	}
	for i := len(at); i > 0; i-- {
		if slices.ContainsFunc(at[:i], usbDevice.MatchString) {
			if serial := m.text(strings.Join(at[:i], "/"), "serial"); serial != "" {
				return serial
			}
		}
	}
	return ""
}

// text is a file's content without blanks around it; "" when it cannot be read.
func (m *Machine) text(elem ...string) string {
	data, err := fs.ReadFile(m.Sys, path.Join(elem...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(data), "?"))
}

// Look lists the disks with what is on them. A disk that does not answer in
// time, or cannot be read, says so itself.
func (m *Machine) Look(ctx context.Context) ([]Drive, error) {
	drives, err := m.Read()
	if err != nil {
		return nil, err
	}
	var looking errgroup.Group
	looking.SetLimit(looksAtOnce)
	for i := range drives {
		looking.Go(func() error { drives[i].Contents = m.contents(ctx, drives[i].Name); return nil })
	}
	_ = looking.Wait() // each disk has its own error
	if err := m.volumeGroups(ctx, drives); err != nil && ctx.Err() == nil {
		return drives, nil // a disk with damaged volumes is one with volumes
	}
	return drives, context.Cause(ctx)
}

// looksAtOnce bounds the disks that are read at the same time.
const looksAtOnce = 8

var errSilent = errors.New("it does not answer")
