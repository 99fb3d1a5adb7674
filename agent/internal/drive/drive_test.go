package drive_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/drive"
)

// tree is a /sys in the making: files and links by their paths.
type tree struct {
	t   *testing.T
	dir string
}

func (s tree) file(name, text string) {
	s.t.Helper()
	name = filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

func (s tree) link(name, target string) {
	s.t.Helper()
	name = filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Symlink(target, name)); err != nil {
		s.t.Fatal(err)
	}
}

// disk makes a block device below devices/AT; files are below it, those that
// start with "device/" below what it is a disk of.
func (s tree) disk(at, name, sectors string, files map[string]string) {
	s.t.Helper()
	dir := "devices/" + at + "/block/" + name
	s.file(dir+"/size", sectors+"\n")
	s.link(dir+"/device", "../../../"+filepath.Base(at))
	s.link("block/"+name, "../"+dir)
	s.link("class/block/"+name, "../../"+dir)
	for file, text := range files {
		if below, ok := strings.CutPrefix(file, "device/"); ok {
			s.file("devices/"+at+"/"+below, text)
			continue
		}
		s.file(dir+"/"+file, text)
	}
}

// server is a machine with a disk of each kind.
func server(t *testing.T) tree {
	s := tree{t, t.TempDir()}
	s.disk("pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0", "sdb", "7814037168", map[string]string{
		"queue/rotational": "1", "removable": "0", "ro": "0", "device/vendor": "ATA     ", "device/model": "ST4000NM0035    ",
		"device/vpd_pg80": "\x00\x80\x00\x14            ZC11AAAA", "device/wwid": "naa.5000c500a1b2c3d4\n"})
	s.file("devices/pci0000:00/0000:00:1f.2/ata3/ata_port/ata3/port_no", "3\n")
	s.disk("pci0000:00/0000:00:02.0/0000:03:00.0/host0/port-0:1/end_device-0:1/target0:0:1/0:0:1:0", "sda", "937703088", map[string]string{
		"queue/rotational": "0", "device/vendor": "SEAGATE", "device/model": "XS480", "device/vpd_pg80": "\x00\x80\x00\x08HLM001  "})
	s.file("devices/pci0000:00/0000:00:02.0/0000:03:00.0/host0/port-0:1/end_device-0:1/sas_device/end_device-0:1/sas_address", "0x5000c50030000001\n")
	s.disk("pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/host9/target9:0:0/9:0:0:0", "sdc", "30000000", map[string]string{
		"removable": "1", "ro": "1", "device/vendor": "SanDisk", "device/model": "Ultra"})
	s.file("devices/pci0000:00/0000:00:14.0/usb1/1-3/serial", "4C5300\n")
	s.disk("pci0000:00/0000:00:05.0/virtio2/host4/target4:0:3/4:0:3:1", "sdd", "6291456", map[string]string{"device/model": "QEMU HARDDISK"})
	s.link("devices/pci0000:00/0000:00:05.0/virtio2/host5", "host4") // a second host of the controller
	s.disk("pci0000:00/0000:00:1d.0/0000:04:00.0/nvme/nvme0", "nvme0n1", "1000215216", map[string]string{
		"nsid": "1", "wwid": "eui.0025388b710116a1", "queue/discard_max_bytes": "2199023255040", "device/transport": "pcie", "device/serial": "S4EVNF0M  ", "device/model": "Samsung SSD 970"})
	s.disk("pci0000:00/0000:00:07.0/virtio3", "vda", "6291456", map[string]string{"serial": "root", "device/vendor": "0x1af4\n"})
	s.disk("pci0000:00/0000:00:07.0/virtio4", "vdb", "0", nil) // no medium
	s.disk("platform/host3/session1/target3:0:0/3:0:0:0", "sde", "8192", map[string]string{"queue/discard_max_bytes": "0"})
	s.disk("pci0000:00/0000:00:08.0/0000:05:00.0/host6/rport-6:0-1/target6:0:0/6:0:0:0", "sdf", "8192", nil)
	s.disk("virtual/nvme-fabrics/ctl/nvme1", "nvme1n1", "8192", map[string]string{"device/transport": "tcp"})
	s.disk("virtual/nvme-subsystem/nvme-subsys2", "nvme2n1", "8192", map[string]string{"device/nvme2/transport": "pcie", "device/nvme3/transport": "rdma"})
	s.disk("virtual", "loop0", "100", nil)
	s.disk("pci0000:00/0000:00:1f.2/ata1/host1/target1:0:0/1:0:0:0", "sr0", "1000", nil)
	return s
}

func machineOf(s tree) *drive.Machine {
	return &drive.Machine{Sys: os.DirFS(s.dir), Head: func(string) error { return nil },
		Run:         func(context.Context, command.Command) ([]byte, error) { return nil, nil },
		SetReadOnly: func(string, bool) error { return nil }, KernelLog: func() (string, error) { return "", nil }}
}

func TestRead(t *testing.T) {
	got, err := machineOf(server(t)).Read()
	if err != nil {
		t.Fatal(err)
	}
	want := []drive.Drive{
		{Name: "nvme0n1", Place: "pci-0000:04:00.0-nvme-1", IDs: []string{"nvme-eui.0025388b710116a1", "nvme-Samsung_SSD_970_S4EVNF0M"},
			Model: "Samsung SSD 970", Serial: "S4EVNF0M", WWN: "eui.0025388b710116a1", Transport: "nvme", SizeBytes: 1000215216 * 512, Discards: true},
		{Name: "nvme1n1", Place: "devices/virtual/nvme-fabrics/ctl/nvme1/block/nvme1n1", Transport: "nvme", SizeBytes: 8192 * 512, Remote: true},
		{Name: "nvme2n1", Place: "devices/virtual/nvme-subsystem/nvme-subsys2/block/nvme2n1", Transport: "nvme", SizeBytes: 8192 * 512, Remote: true},
		{Name: "sda", Place: "pci-0000:03:00.0-sas-0x5000c50030000001-lun-0", Model: "SEAGATE XS480", Serial: "HLM001", Transport: "sas", SizeBytes: 937703088 * 512},
		{Name: "sdb", Place: "pci-0000:00:1f.2-ata-3", Model: "ATA ST4000NM0035", Serial: "ZC11AAAA", WWN: "naa.5000c500a1b2c3d4", Transport: "sata",
			SizeBytes: 7814037168 * 512, Rotational: true},
		{Name: "sdc", Place: "pci-0000:00:14.0-usb-0:3:1.0-scsi-0:0:0:0", Model: "SanDisk Ultra", Serial: "4C5300", Transport: "usb",
			SizeBytes: 30000000 * 512, Removable: true, WriteProtected: true},
		{Name: "sdd", Place: "pci-0000:00:05.0-scsi-0:0:3:1", Model: "QEMU HARDDISK", Transport: "scsi", SizeBytes: 6291456 * 512},
		{Name: "sde", Place: "scsi-0:0:0:0", Transport: "scsi", SizeBytes: 8192 * 512, Remote: true},
		{Name: "sdf", Place: "pci-0000:05:00.0-scsi-0:0:0:0", Transport: "scsi", SizeBytes: 8192 * 512, Remote: true},
		{Name: "vda", Place: "pci-0000:00:07.0", IDs: []string{"virtio-root"}, Serial: "root", Transport: "virtio", SizeBytes: 6291456 * 512},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
	if text, want := got[5].String(), "/dev/sdc (SanDisk Ultra, serial 4C5300, 15.4 GB, usb, removable, write-protected)"; text != want {
		t.Errorf("it is called %q, want %q", text, want)
	}
}

// A disk without a medium, or so broken that it has no size, is among all.
func TestAll(t *testing.T) {
	got, err := machineOf(server(t)).All()
	if err != nil || len(got) != 11 || got[10].Name != "vdb" || got[10].SizeBytes != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Contents come from blkid and pvs; what cannot be read says so, and a disk that
// never answers costs its time.
func TestLook(t *testing.T) {
	s := tree{t, t.TempDir()}
	for _, name := range []string{"sda", "sdb", "sdc", "sdd", "sde"} {
		s.disk("pci0000:00/0000:00:01.0/virtio1/host0/target0:0:0/0:0:0:"+name, name, "8192", nil)
	}
	s.file("block/sda/sda1/partition", "1\n")
	s.file("block/sda/sda2/partition", "2\n")
	synctest.Test(t, func(t *testing.T) {
		m := machineOf(s)
		m.Head = func(device string) error {
			switch device {
			case "/dev/sdb":
				return &fs.PathError{Op: "read", Path: device, Err: errors.New("input/output error")}
			case "/dev/sdc":
				time.Sleep(time.Minute)
			}
			return nil
		}
		m.Run = func(_ context.Context, c command.Command) ([]byte, error) {
			switch text := c.String(); {
			case text == "blkid -p -o export /dev/sda":
				return []byte("DEVNAME=/dev/sda\nPTUUID=12345678\nPTTYPE=dos\n"), nil
			case text == "blkid -p -o export /dev/sda1":
				return []byte("TYPE=ntfs\nUUID=ABCD\nLABEL=System Reserved\nPART_ENTRY_UUID=12345678-01\n"), nil
			case text == "blkid -p -o export /dev/sda2":
				return []byte("TYPE=LVM2_member\nUUID=pv-uuid\n"), nil
			case c.Argv[0] == "pvs":
				return []byte("  /dev/sda2  vg0\n"), nil
			case text == "blkid -p -o export /dev/sde":
				return command.On(nil)(t.Context(), command.Shell("exit 8"))
			}
			return command.On(nil)(t.Context(), command.Shell("exit 2"))
		}
		drives, err := m.Look(t.Context())
		time.Sleep(time.Minute) // until the dead disk's reader is back
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range drives {
			got = append(got, fmt.Sprintf("%s %q %s, blank %v", d.Name, d.ID(), d.Describe(), d.Blank()))
		}
		want := []string{
			`sda "12345678" sda dos, sda1 ntfs "System Reserved", sda2 LVM2_member "vg0", blank false`,
			`sdb "" sdb cannot be read: input/output error, blank false`,
			`sdc "" sdc cannot be read: it does not answer, blank false`,
			`sdd "" empty, blank true`,
			`sde "" sde several things at once, blank false`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("disks (-want +got):\n%s", diff)
		}
	})
}
