package rootdriver_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/rootdriver"
)

const (
	megasas = "pci:v00001000d00000079sv00001000sd00009261bc01sc04i00"
	nvme    = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02"
	bridge  = "pci:v00008086d00003420sv00000000sd00000000bc06sc04i00"
)

// file, link and dir make parts of a sysfs or a tree.
func file(t *testing.T, content string, parts ...string) {
	t.Helper()
	name := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to string, parts ...string) {
	t.Helper()
	name := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// driven is a device of sysfs that has a driver.
func driven(t *testing.T, sys, dir, alias, driver string) {
	t.Helper()
	file(t, alias+"\n", sys, dir, "modalias")
	at := filepath.Join(sys, "bus", strings.ReplaceAll(alias, ":", "_"), driver)
	link(t, at, sys, dir, "driver")
	link(t, "../../../module/"+driver+"_pci", at, "module")
}

// machine is the sysfs of a machine with a disk behind a megasas controller
// behind a bridge, an NVMe disk of a multipath subsystem, and an array and a
// volume on them.
func machine(t *testing.T) string {
	sys := t.TempDir()
	const raid, sda = "devices/pci0000:00/0000:00:02.0/0000:01:00.0", "/host0/target0:2:0/0:2:0:0"
	driven(t, sys, "devices/pci0000:00/0000:00:02.0", bridge, "pcieport")
	driven(t, sys, raid, megasas, "megaraid_sas")
	driven(t, sys, raid+sda, "scsi:t-0x00", "sd")
	file(t, "1", sys, raid+sda+"/block/sda/sda1/partition")
	link(t, "../../"+raid+sda+"/block/sda/sda1", sys, "class/block/sda1")

	driven(t, sys, "devices/pci0000:00/0000:00:05.0", nvme, "nvme")
	file(t, "x", sys, "devices/pci0000:00/0000:00:05.0/nvme/nvme0/model")
	const subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0"
	file(t, "1", sys, subsystem+"/nvme0n1/nvme0n1p1/partition")
	link(t, "../../../pci0000:00/0000:00:05.0/nvme/nvme0", sys, subsystem+"/nvme0")
	link(t, "../../"+subsystem+"/nvme0n1/nvme0n1p1", sys, "class/block/nvme0n1p1")

	file(t, "1", sys, "devices/virtual/block/md0/md0p1/partition")
	link(t, "../../devices/virtual/block/md0/md0p1", sys, "class/block/md0p1")
	for dm, parts := range map[string][]string{"md0": {"sda1", "nvme0n1p1"}, "dm-0": {"md0"}} {
		file(t, "0", sys, "devices/virtual/block", dm, "size")
		file(t, map[string]string{"md0": "raid1\n", "dm-0": ""}[dm], sys, "devices/virtual/block", dm, "md/level")
		file(t, map[string]string{"md0": "", "dm-0": "LVM-x\n"}[dm], sys, "devices/virtual/block", dm, "dm/uuid")
		file(t, "vg0-root\n", sys, "devices/virtual/block", dm, "dm/name")
		link(t, "../../devices/virtual/block/"+dm, sys, "class/block", dm)
		for _, part := range parts {
			link(t, "../../../../../class/block/"+part, sys, "devices/virtual/block", dm, "slaves", part)
		}
	}
	return sys
}

// initrd is an initramfs with these modules, and files where the name has a
// slash, not compressed.
func initrd(modules ...string) string {
	var s strings.Builder
	for _, m := range append(modules, "TRAILER!!!") {
		name := m
		if m != "TRAILER!!!" && !strings.Contains(m, "/") {
			name = "usr/lib/modules/6.1/kernel/drivers/" + m + ".ko"
		}
		fmt.Fprintf(&s, "070701%s%08x%s%s\x00", strings.Repeat("0", 8*11), len(name)+1, strings.Repeat("0", 8), name)
		s.WriteString(strings.Repeat("\x00", -s.Len()&3))
	}
	return s.String()
}

const tables = "# Aliases\nalias pci:v00001000d00000079sv*sd*bc*sc*i* megaraid_sas\nalias pci:v*d*sv*sd*bc01sc08i02* nvme\n" +
	"alias scsi:t-0x00* sd_mod\nalias pci:v*d*sv*sd*bc06sc04i* shpchp\n"

func TestCheck(t *testing.T) {
	sys := machine(t)
	disks := []string{"megaraid_sas", "sd_mod", "nvme"}
	all := append(disks, "raid1", "dm-mod", "usr/sbin/mdadm", "sbin/lvm")
	without := func(name string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(m string) bool { return m == name })
	}
	for _, test := range []struct {
		name, source, aliases, builtin string
		early                          []string
		want                           string
	}{
		{"good", "/dev/sda1", tables, "", all, ""},
		{"a file system on an array on both", "/dev/dm-0", tables, "", all, ""},
		{"not in the initramfs", "/dev/sda1", tables, "", []string{"sd_mod", "nvme"},
			"would not find its root on /dev/sda1: the initramfs of its kernel 6.1 has no driver for the device 0000:01:00.0 (" + megasas + ", here megaraid_sas) (it would be megaraid_sas); MODULES=most"},
		{"no driver at all", "/dev/sda1", strings.ReplaceAll(tables, "00000079", "0000007A"), "", all, "its kernel 6.1 has no driver for the device 0000:01:00.0"},
		{"part of the kernel", "/dev/sda1", strings.ReplaceAll(tables, "00000079", "0000007A"), "kernel/fs/binfmt_script.ko\nkernel/drivers/scsi/megaraid/megaraid_sas.ko\n", []string{"sd_mod"}, ""},
		{"disks are part of the kernel", "/dev/sda1", tables, "kernel/drivers/scsi/sd_mod.ko\n", []string{"megaraid_sas"}, ""},
		{"the module has another name than its driver", "/dev/nvme0n1p1", "", "kernel/drivers/nvme/host/nvme_pci.ko\n", nil, ""},
		{"no disks", "/dev/sda1", tables, "", []string{"megaraid_sas"}, "no driver for the device 0:2:0:0 (scsi:t-0x00, here sd)"},
		{"NVMe behind its subsystem", "/dev/nvme0n1p1", tables, "", []string{"sd_mod"}, "0000:00:05.0"},
		{"half of an array", "/dev/md0", tables, "", []string{"sd_mod", "megaraid_sas"}, "root on /dev/md0: the initramfs of its kernel 6.1 has no driver for the device 0000:00:05.0"},
		{"half of an array that has partitions", "/dev/md0p1", tables, "", []string{"sd_mod", "megaraid_sas"}, "no driver for the device 0000:00:05.0"},
		{"a volume", "/dev/mapper/dm-0", tables, "", []string{"sd_mod", "nvme"}, "root on /dev/mapper/dm-0"},
		{"a disk needs no array", "/dev/sda1", tables, "", disks, ""},
		{"no level", "/dev/md0", tables, "", without("raid1"), "root on /dev/md0: the initramfs of its kernel 6.1 has no module raid1 for the array md0; MODULES=most"},
		{"a level that is part of the kernel", "/dev/md0", tables, "kernel/drivers/md/raid1.ko\n", without("raid1"), ""},
		{"no mdadm", "/dev/md0p1", tables, "", without("usr/sbin/mdadm"), "has no program mdadm, which starts the array md0; the package mdadm in the role brings it"},
		{"no mdadm below a volume", "/dev/dm-0", tables, "", without("usr/sbin/mdadm"), "has no program mdadm"},
		{"no device mapper", "/dev/dm-0", tables, "", without("dm-mod"), "has no module dm_mod for the logical volume vg0-root"},
		{"no lvm", "/dev/dm-0", tables, "", without("sbin/lvm"), "has no program lvm, which starts the logical volume vg0-root; the package lvm2 in the role brings it"},
		{"XFS", "/dev/sda1 xfs", tables, "", append(disks, "xfs"), ""},
		{"no XFS", "/dev/sda1 xfs", tables, "", disks, "has no module xfs for its file system, xfs"},
		{"ext3 by ext4", "/dev/sda1 ext3", tables, "kernel/fs/ext4/ext4.ko\n", disks, ""},
		{"a file system that nobody knows", "/dev/sda1 bcachefs", tables, "", disks, ""},
		{"other spelling", "/dev/sda1", strings.ReplaceAll(tables, "sd_mod", "sd-mod"), "", all, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			link(t, "usr/lib", root, "lib")
			file(t, test.aliases, root, "usr/lib/modules/6.1/modules.alias")
			file(t, test.builtin, root, "usr/lib/modules/6.1/modules.builtin")
			file(t, initrd(test.early...), root, "boot/initrd.img-6.1")
			source, fileSystem, _ := strings.Cut(test.source, " ")
			err := rootdriver.Check(sys, disk.Mount{Source: source, Type: fileSystem}, rootdriver.Kernel{Root: root, Release: "6.1", Initrd: filepath.Join(root, "boot/initrd.img-6.1")})
			if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || errors.Is(err, rootdriver.ErrUnknown)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// What cannot be looked at is no judgement.
func TestUnknown(t *testing.T) {
	sys, root := machine(t), t.TempDir()
	file(t, tables, root, "lib/modules/6.1/modules.alias")
	file(t, "", root, "lib/modules/6.1/modules.builtin")
	file(t, "no initramfs", root, "boot/bad")
	for name, err := range map[string]error{
		"no such device": rootdriver.Check(sys, disk.Mount{Source: "/dev/none"}, rootdriver.Kernel{Root: root, Release: "6.1"}),
		"no tables":      rootdriver.Check(sys, disk.Mount{Source: "/dev/sda1"}, rootdriver.Kernel{Root: root, Release: "6.2"}),
		"bad initramfs":  rootdriver.Check(sys, disk.Mount{Source: "/dev/sda1"}, rootdriver.Kernel{Root: root, Release: "6.1", Initrd: filepath.Join(root, "boot/bad")}),
		"none":           rootdriver.Check(sys, disk.Mount{Source: "/dev/sda1"}, rootdriver.Kernel{Root: root, Release: "6.1", Initrd: filepath.Join(root, "boot/none")}),
	} {
		if !errors.Is(err, rootdriver.ErrUnknown) {
			t.Errorf("%s: %v, want it not known", name, err)
		}
	}
}
