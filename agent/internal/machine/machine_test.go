package machine_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"edeploy/agent/internal/machine"
	"edeploy/integration/needs"
)

func TestSettle(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name          string
		at, lastEvent time.Duration
		disks         int
		coming        bool
		want          time.Duration
	}{
		{"just started", 0, 0, 1, false, 1000 * ms},
		{"quiet, disk there", 1000 * ms, 0, 1, false, 0},
		{"quiet, another one coming", 1500 * ms, 0, 1, true, 13_500 * ms},
		{"it never came", 15_000 * ms, 0, 1, true, 0},
		{"busy", 1000 * ms, 900 * ms, 2, false, 900 * ms},
		{"quiet, no disk", 1000 * ms, 0, 0, false, 14_000 * ms},
		{"no disk ever", 15_000 * ms, 0, 0, false, 0},
		{"busy without disk", 15_000 * ms, 14_900 * ms, 0, false, 900 * ms},
		{"never quiet", 60_000 * ms, 60_000 * ms, 1, false, 0},
	} {
		if got := machine.Settle(test.at, test.lastEvent, test.disks, test.coming); max(got, 0) != test.want {
			t.Errorf("%s: waits %v, want %v", test.name, got, test.want)
		}
	}
}

// A disk on USB is waited for from its driver's coming to its block device's.
func TestDiskComing(t *testing.T) {
	const host = "bus/usb/drivers/usb-storage/2-1:1.0/host6"
	sys := fstest.MapFS{"bus/usb/drivers/usb-storage/module/x": {}, "bus/usb/drivers/uas/bind": {}}
	for _, step := range []struct {
		file, text string
		want       bool
	}{
		{"devices/pci0/usb2/2-1/modalias", "usb:v46F4p0001", false},
		{host + "/scsi_host/host6/state", "running", true},
		{host + "/target6:0:0/power/control", "auto", true},
		{host + "/target6:0:0/6:0:0:0/type", "0\n", true},
		{host + "/target6:0:0/6:0:0:1/type", "5\n", true},
		{host + "/target6:0:0/6:0:0:0/block/sda/size", "0\n", false}, // a card reader without a card
		{"bus/usb/drivers/uas/2-2:1.0/host7/target7:0:0/7:0:0:0/type", "0\n", true},
		{"bus/usb/drivers/uas/2-2:1.0/host7/target7:0:0/7:0:0:0/block/sdb/size", "2048\n", false},
		{"bus/usb/drivers/usb-storage/2-3:1.0/host8/target8:0:0/8:0:0:0/type", "5\n", false},
	} {
		sys[step.file] = &fstest.MapFile{Data: []byte(step.text)}
		if got := machine.DiskComing(sys); got != step.want {
			t.Errorf("with %s: %v, want %v", step.file, got, step.want)
		}
	}
}

func TestEventAlias(t *testing.T) {
	for _, test := range []struct{ message, want string }{
		{"add@/devices/pci0/x\x00ACTION=add\x00MODALIAS=pci:v00001AF4\x00SEQNUM=1\x00", "pci:v00001AF4"},
		{"remove@/devices/pci0/x\x00MODALIAS=pci:v00001AF4\x00", ""},
		{"add@/devices/block/sda\x00ACTION=add\x00", ""},
		{"", ""},
	} {
		if got := machine.EventAlias([]byte(test.message)); got != test.want {
			t.Errorf("%q: %q, want %q", test.message, got, test.want)
		}
	}
}

func TestModuleNames(t *testing.T) {
	got := machine.ModuleNames("# all\n\ndm-mod\n  raid1 # mirror\n#x\n8021q")
	if diff := cmp.Diff([]string{"dm-mod", "raid1", "8021q"}, got); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
}

func TestDeviceAliases(t *testing.T) {
	sys := fstest.MapFS{
		"devices/pci0/a/modalias":   {Data: []byte("pci:a\n")},
		"devices/pci0/a/b/modalias": {Data: []byte("virtio:b\n")},
		"devices/pci0/a/b/uevent":   {Data: []byte("MODALIAS=no\n")},
		"class/modalias":            {Data: []byte("elsewhere\n")},
	}
	got, err := machine.DeviceAliases(sys)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"virtio:b", "pci:a"}, got); diff != "" {
		t.Errorf("aliases (-want +got):\n%s", diff)
	}
}

// page83 is what Linux shows in vpd_pg83 for a SATA disk; TestVM of the initrd
// sees the same on a real kernel.
func page83() []byte {
	vendor := fmt.Sprintf("%-8s%-40s%-20s", "ATA", "Test Disk 4G", "SATA0001")
	port := []byte{0x01, 0x93, 0, 8, 0x50, 0, 0xc5, 0, 0, 0, 0, 1} // the port's name, not the disk's
	body := append([]byte{0x02, 0x01, 0, byte(len(vendor))}, vendor...)
	body = append(body, port...)
	naa, _ := hex.DecodeString("5000c50012345678")
	body = append(body, append([]byte{0x01, 0x03, 0, 8}, naa...)...)
	return append([]byte{0, 0x83, byte(len(body) >> 8), byte(len(body))}, body...)
}

func TestDiskIDs(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	sys := fstest.MapFS{
		"block/sda/size": file("100\n"), "block/sda/device/vpd_pg83": {Data: page83()},
		"block/sda/sda1/partition": file("1\n"), "block/sda/sda10/partition": file("10\n"),
		"block/vda/size": file("100\n"), "block/vda/serial": file("disk one"),
		"block/vdb/size":     file("100\n"),
		"block/nvme0n1/size": file("100\n"), "block/nvme0n1/wwid": file("eui.0025385000000001\n"),
		"block/nvme0n1/device/serial": file("S4  \n"), "block/nvme0n1/device/model": file("Fast  Disk/2  \n"),
		"block/nvme0n1/nvme0n1p1/partition": file("1\n"),
		"block/dm-0/size":                   file("100\n"), "block/dm-0/dm/name": file("vg0-root\n"), "block/dm-0/dm/uuid": file("LVM-abc\n"),
		"block/md0/size": file("100\n"), "block/md0/md/uuid": file("12:34\n"),
		"block/sr0/size": file("0\n"), "block/loop0/size": file("100\n"), "block/loop0/serial": file("x\n"),
	}
	got, err := machine.AllDiskIDs(sys)
	if err != nil {
		t.Fatal(err)
	}
	ata := []string{"by-id/ata-Test_Disk_4G_SATA0001", "by-id/wwn-0x5000c50012345678", "by-id/scsi-35000c50012345678"}
	part := func(ids []string, n string) (parts []string) {
		for _, id := range ids {
			parts = append(parts, id+"-part"+n)
		}
		return parts
	}
	nvme := []string{"by-id/nvme-eui.0025385000000001", "by-id/nvme-Fast_Disk_2_S4"}
	want := map[string][]string{
		"sda": ata, "sda1": part(ata, "1"), "sda10": part(ata, "10"),
		"vda": {"by-id/virtio-disk_one"}, "vdb": nil,
		"nvme0n1": nvme, "nvme0n1p1": part(nvme, "1"),
		"dm-0": {"by-id/dm-name-vg0-root", "by-id/dm-uuid-LVM-abc"}, "md0": {"by-id/md-uuid-12:34"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

func FuzzDesignators(f *testing.F) {
	f.Add(page83())
	f.Add(page83()[:20])
	f.Add([]byte{0, 0x83, 0xff, 0xff, 1, 3, 0, 0xff})
	f.Fuzz(func(t *testing.T, page []byte) {
		if n := machine.Designators(page); n > len(page)/4 {
			t.Errorf("%d designators in %d bytes", n, len(page))
		}
	})
}

func TestContentLinks(t *testing.T) {
	for _, test := range []struct {
		name, blkid string
		want        []string
	}{
		{"file system on a partition", "ID_FS_LABEL=my root\nID_FS_LABEL_ENC=my\\x20root\nID_FS_UUID_ENC=8ae8\nID_FS_USAGE=filesystem\nID_PART_ENTRY_UUID=5f6e-01\nID_PART_ENTRY_NAME=esp\n",
			[]string{"by-uuid/8ae8", "by-label/my\\x20root", "by-partuuid/5f6e-01", "by-partlabel/esp"}},
		{"member of an array", "ID_FS_UUID_ENC=aaaa\nID_FS_LABEL_ENC=host:0\nID_FS_TYPE=linux_raid_member\nID_FS_USAGE=raid\n", nil},
		{"encrypted", "ID_FS_UUID_ENC=bbbb\nID_FS_LABEL_ENC=x\nID_FS_USAGE=crypto\n", []string{"by-uuid/bbbb"}},
		{"disk with a partition table", "ID_PART_TABLE_TYPE=dos\nID_PART_TABLE_UUID=5f6e\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, machine.ContentLinks(machine.Properties(test.blkid))); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLinksAreReplaced(t *testing.T) {
	dir := t.TempDir()
	write := func(pairs ...[2]string) []string {
		t.Helper()
		refused, err := machine.WriteLinks(dir, pairs...)
		if err != nil {
			t.Fatal(err)
		}
		return refused
	}
	write([2]string{"by-uuid/1", "sda1"}, [2]string{"by-uuid/2", "sda2"})
	refused := write([2]string{"by-uuid/1", "sdb1"}, [2]string{"by-label/../../../x", "sdb1"}, [2]string{"by-uuid/1", "sdc1"}, [2]string{"by-id/3", "sdc"})
	if diff := cmp.Diff([]string{"by-uuid/1"}, refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	found := map[string]string{}
	paths, _ := filepath.Glob(dir + "/*/*")
	for _, path := range paths {
		target, err := os.Readlink(path)
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimPrefix(path, dir+"/")] = target
	}
	want := map[string]string{"by-uuid/1": "../../sdb1", `by-label/..\x2f..\x2f..\x2fx`: "../../sdb1", "by-id/3": "../../sdc"}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
}

func TestTerminals(t *testing.T) {
	for _, test := range []struct {
		active string
		want   []string
	}{
		{"tty0 ttyS0\n", []string{"/dev/ttyS0", "/dev/tty1"}},
		{"ttyS1\n", []string{"/dev/ttyS1"}},
		{"\n", nil},
	} {
		if diff := cmp.Diff(test.want, machine.Terminals(test.active, "tty1")); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.active, diff)
		}
	}
}

func TestOnDisk(t *testing.T) {
	for _, test := range []struct {
		source, target string
		want           bool
	}{
		{"/dev/vda1", "/chroot", true},
		{"/dev/mapper/vg0-x", "/chroot/my var", true},
		{"devtmpfs", "/chroot/dev", true},
		{"devtmpfs", "/dev", false},
		{"/dev/root", "/", false},
	} {
		if got := machine.OnDisk(test.source, test.target); got != test.want {
			t.Errorf("%s on %s: %v, want %v", test.source, test.target, got, test.want)
		}
	}
}

func TestIsDisk(t *testing.T) {
	for name, want := range map[string]bool{"sda": true, "vda": true, "nvme0n1": true, "mmcblk0": true, "loop0": false, "dm-0": false, "md127": false, "sr0": false, "zram0": false} {
		if got := machine.IsDisk(name); got != want {
			t.Errorf("%s is a disk: %v, want %v", name, got, want)
		}
	}
}

func TestIsMountPoint(t *testing.T) {
	for dir, want := range map[string]bool{"/proc": true, "/etc": false} {
		if got, err := machine.IsMountPoint(dir); err != nil || got != want {
			t.Errorf("%s is a mount point: %v %v, want %v", dir, got, err, want)
		}
	}
	if _, err := machine.IsMountPoint("/no/such/place"); err == nil {
		t.Error("a directory that does not exist: no error")
	}
}

// A shell on a pseudo-terminal controls it: /dev/tty opens, and ^C reaches the
// program in the foreground without ending the shell.
func TestShellControlsItsTerminal(t *testing.T) {
	master, slave := pseudoTerminal(t)
	ended := make(chan error, 1)
	go func() { ended <- machine.RunShell(context.Background(), "/bin/sh", slave) }()
	lines := bufio.NewScanner(master)
	say := func(text string) {
		t.Helper()
		if _, err := master.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(text string) {
		t.Helper()
		master.SetReadDeadline(time.Now().Add(20 * time.Second))
		for lines.Scan() {
			t.Log(lines.Text())
			if strings.Contains(lines.Text(), text) && !strings.Contains(lines.Text(), "echo") {
				return
			}
		}
		t.Fatalf("the shell did not say %q: %v", text, lines.Err())
	}
	say("set -m; true </dev/tty && echo controls $((6*7))\n")
	hear("controls 42")
	say("tr a-z A-Z\n")
	say("in front\n")
	hear("IN FRONT") // tr itself answers: it is what ^C must end
	say("\x03")
	// A shell may throw away what was typed while it noticed the ^C.
	heard := make(chan struct{})
	go func() {
		for {
			master.WriteString("echo alive $((40+3))\n")
			select {
			case <-heard:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	hear("alive 43")
	close(heard)
	say("exit 7\n")
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("error %v; what a shell exits with is none", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the shell did not end")
	}
}

// pseudoTerminal answers the master and the path of the slave (pty(7)).
func pseudoTerminal(t *testing.T) (*os.File, string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	needs.That(t, err == nil, "pseudo-terminals: %v", err)
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	master := os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	return master, fmt.Sprintf("/dev/pts/%d", n)
}

// TestLinksDown: a card that is up is down before the kernel stops.
func TestLinksDown(t *testing.T) {
	if !needs.Namespace(t) {
		return
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "card"}, PeerName: "switch"}); err != nil {
		t.Fatal(err)
	}
	isUp := func() bool {
		link, err := netlink.LinkByName("card")
		if err != nil {
			t.Fatal(err)
		}
		return link.Attrs().Flags&net.FlagUp != 0
	}
	link, err := netlink.LinkByName("card")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil || !isUp() {
		t.Fatalf("the card does not come up: %v", err)
	}
	if machine.LinksDown(); isUp() {
		t.Error("the card is still up")
	}
}
