package drive_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/drive"
)

func TestNamed(t *testing.T) {
	s := tree{t, t.TempDir()}
	s.disk("pci0/1", "sda", "100", nil)
	s.disk("pci0/2", "sdb", "100", nil)
	s.link("block/md0", "../devices/virtual/block/md0")
	s.link("devices/virtual/block/md0/slaves/sdb1", "../../../../pci0/2/block/sdb/sdb1")
	s.link("class/block/sdb1", "../../devices/pci0/2/block/sdb/sdb1")
	s.file("devices/pci0/2/block/sdb/sdb1/partition", "1")
	s.file("devices/virtual/block/dm-0/dm/name", "vg0-root")
	s.link("block/dm-0", "../devices/virtual/block/dm-0")
	s.link("devices/virtual/block/dm-0/slaves/md0", "../../md0")
	m := machineOf(s)
	all := []drive.Drive{
		{Name: "sda", Place: "pci-0000:00:1f.2-ata-1", IDs: []string{"ata-DISK_A1", "wwn-0x5000"}, Contents: []drive.Content{{Name: "sda", Table: "gpt"},
			{Name: "sda1", UUID: "1b2c-33", Label: "data", PartUUID: "0f0f-01"}, {Name: "sda2", Type: "LVM2_member", Group: "vgold"}}},
		{Name: "sdb", Contents: []drive.Content{{Name: "sdb"}}},
		{Name: "sdc", IDs: []string{"virtio-twin"}, Contents: []drive.Content{{Name: "sdc"}, {Name: "sdc1", Type: "linux_raid_member"}}},
		{Name: "sdd", IDs: []string{"virtio-twin"}},
		{Name: "sdaa"}, {Name: "nvme0n1"}, {Name: "nvme10n1"},
	}
	for text, want := range map[string]string{
		"parted -s /dev/sda mklabel gpt":                      "sda",
		"mkfs /dev/sda1":                                      "sda",
		"disk = 'sda'":                                        "sda",
		"mkfs /dev/sdaa2":                                     "sdaa",
		"/dev/sdab /dev/sd sda_x asda":                        "",
		"/dev/nvme0n1p2":                                      "nvme0n1",
		"nvme format /dev/nvme0":                              "nvme0n1",
		"/dev/nvme10n1":                                       "nvme10n1",
		"mount /dev/disk/by-id/ata-DISK_A1-part1 /x":          "sda",
		"/dev/disk/by-id/ata-DISK_A12":                        "",
		"/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part2":      "sda",
		"/dev/disk/by-path/pci-0000:00:1f.2-ata-10":           "",
		"mount UUID=1b2c-33 /x":                               "sda",
		"/dev/disk/by-partuuid/0f0f-01":                       "sda",
		"mount LABEL=data /x":                                 "sda",
		"mount -L data /x":                                    "sda",
		"ls /data; echo data":                                 "",
		"vgremove -f vgold":                                   "sda",
		"mkfs /dev/vgold/root":                                "sda",
		"mkfs /dev/mapper/vgold-root":                         "sda",
		"mdadm --stop /dev/md0":                               "sdb",
		"mount /dev/mapper/vg0-root /x":                       "sdb",
		"mount /dev/dm-0 /x":                                  "sdb",
		"wipefs -a /dev/sd*":                                  "sda sdb sdc sdd sdaa",
		"wipefs -a /dev/sd[ab]":                               "sda sdb",
		"wipefs -a /dev/sd{a,b}":                              "sda sdb sdc sdd sdaa",
		"wipefs -a /dev/sd[!a]":                               "sdb sdc sdd",
		"pvremove -y -ff /dev/sdb* || true":                   "sdb",
		"wipefs -a /dev/disk/by-id/wwn-*":                     "sda",
		"wipefs -a /dev/nvme*n1":                              "nvme0n1 nvme10n1",
		"mdadm --assemble --scan":                             "sdc",
		"mdadm -As && x":                                      "sdc",
		"mdadm --create /dev/md9 -l1 -n2 /dev/sda1 /dev/sdb1": "sda sdb",
		"mkfs /dev/disk/by-id/virtio-twin":                    "two disks have the name /dev/disk/by-id/virtio-twin: /dev/sdc (no model, serial unknown, 0 MB, unknown transport), /dev/sdd (no model, serial unknown, 0 MB, unknown transport)",
		"":                                                    "",
	} {
		got, err := m.Named(all, text)
		if diff := cmp.Diff(want, outcome(got, err)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestComputes(t *testing.T) {
	for command, want := range map[string]bool{
		"for d in $(ls /sys/block); do wipefs -a /dev/$d; done":             true,
		"for d in /sys/block/sd*; do wipefs -a /dev/${d##*/}; done":         true,
		"lsblk -dno NAME | xargs -I{} wipefs -a /dev/{}":                    true,
		"awk '{print $4}' /proc/partitions | while read d; do x; done":      true,
		"mkfs.ext4 `lsblk -dpno NAME | head -1`":                            true,
		"sfdisk -l | while read a b; do dd of=$b; done":                     true,
		"echo UUID=$(blkid -s UUID -o value /dev/sda1) / ext4 >>/fstab":     false,
		"mkfs $(blkid -t TYPE=swap -o device)":                              true,
		"lsblk":                                                             false,
		"blkid -s UUID -o value /dev/sda1 > /tmp/uuid":                      false,
		"echo 1 > /sys/block/sda/device/delete":                             false,
		"for scan in /sys/class/scsi_host/host*/scan; do echo >$scan; done": false,
		"cat /sys/block/sda/size; echo $x":                                  false,
		"parted -s /dev/sda mklabel gpt; echo $?":                           false,
	} {
		if got := drive.Computes(command); got != want {
			t.Errorf("%s: computes %v, want %v", command, got, want)
		}
	}
}

// FuzzNamed: a disk whose device node is in a text between blanks is named.
func FuzzNamed(f *testing.F) {
	f.Add("mkfs ", " -q")
	all := []drive.Drive{{Name: "sda"}, {Name: "nvme0n1"}}
	f.Fuzz(func(t *testing.T, before, after string) {
		m := machineOf(tree{t, t.TempDir()})
		for _, d := range all {
			got, err := m.Named(all, before+" "+d.Device()+" "+after)
			if err != nil || !strings.Contains(outcome(got, nil), d.Name) {
				t.Errorf("%q %q: %v, %v", before, after, got, err)
			}
		}
	})
}
