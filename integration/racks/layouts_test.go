package racks

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
	"edeploy/server/wire"
)

// diskLayout is a way to lay a system out on disks.
type diskLayout struct {
	name   string // of the profile, and of the machine's product, by which it is found
	disks  int    // of 3 GB each
	script string // from blank disks to a root that is mounted
	shows  string // a command of the installed machine, and what it prints:
	want   string
	short  bool // in make test; the others with EDEPLOY_LONG=1
}

var diskLayouts = []diskLayout{
	{"raid1", 2, rack.RAID1, "findmnt -no SOURCE,FSTYPE / | xargs; swapon --noheadings --show=NAME; cat /sys/block/md0/md/level; lsmod | grep -ow '^megaraid_sas\\|^e1000e' | sort",
		"/dev/md0 ext4\n/dev/md1\nraid1\ne1000e\nmegaraid_sas\n", true},

	{"raid1-uefi", 2, rack.RAID1UEFI, "findmnt -no SOURCE,FSTYPE / | xargs; cat /sys/block/md0/md/level; if mountpoint -q /boot/efi && mountpoint -q /boot/efi2; then diff -r /boot/efi/EFI /boot/efi2/EFI; [ $(efibootmgr | grep -c ' debian') = 2 ] || efibootmgr; fi",
		"/dev/md0 ext4\nraid1\n", false},

	{"lvm", 1, rack.LVM, "findmnt -no SOURCE,FSTYPE / | xargs; swapon --noheadings --show=NAME | xargs readlink -f | xargs dmsetup info -c --noheadings -o name", "/dev/mapper/vg0-root ext4\nvg0-swap\n", false},

	{"gpt", 1, `
boot = '/dev/' + var['disk1']
run('parted -s %s mklabel gpt mkpart bios 1MiB 2MiB set 1 bios_grub on mkpart boot 2MiB 300MiB mkpart root 300MiB 100%%' % boot)
run('mkfs.ext4 -q %s3; mkdir -p /chroot; mount %s3 /chroot' % (boot, boot))
run('mkfs.ext4 -q %s2; mkdir /chroot/boot; mount %s2 /chroot/boot' % (boot, boot))
`, "findmnt -no SOURCE /; findmnt -no SOURCE /boot", "/dev/vda3\n/dev/vda2\n", false},

	{"data-disk", 2, `
boot, data = '/dev/' + var['disk1'], '/dev/' + var['disk2']
run('parted -s %s mklabel msdos mkpart primary 1MiB 2600MiB mkpart primary linux-swap 2600MiB 100%%' % boot)
run('mkfs.ext4 -q %s1; mkdir -p /chroot; mount %s1 /chroot; mkswap %s2' % (boot, boot, boot))
run('parted -s %s mklabel gpt mkpart srv 1MiB 100%%; mkfs.xfs -q -f %s1' % (data, data))
run('mkdir /chroot/srv; mount -o noatime %s1 /chroot/srv' % data)
`, "findmnt -no SOURCE /; findmnt -no SOURCE,FSTYPE /srv | xargs; swapon --noheadings --show=NAME", "/dev/vda1\n/dev/vdb1 xfs\n/dev/vda2\n", false},

	{"xfs", 1, `
boot = '/dev/' + var['disk1']
run('parted -s %s mklabel msdos mkpart primary xfs 1MiB 100%%; mkfs.xfs -q -f %s1' % (boot, boot))
run('mkdir -p /chroot; mount %s1 /chroot' % boot)
`, "findmnt -no SOURCE,FSTYPE / | xargs", "/dev/vda1 xfs\n", false},

	{"btrfs", 1, `
boot = '/dev/' + var['disk1']
run('parted -s %s mklabel msdos mkpart primary btrfs 1MiB 100%%; mkfs.btrfs -q -f %s1' % (boot, boot))
run('mkdir -p /mnt /chroot; mount %s1 /mnt; btrfs subvolume create /mnt/root; btrfs subvolume create /mnt/home; umount /mnt' % boot)
run('mount -o subvol=root %s1 /chroot; mkdir /chroot/home; mount -o subvol=home %s1 /chroot/home' % (boot, boot))
`, "findmnt -no SOURCE,FSTYPE / | xargs; findmnt -no SOURCE /home", "/dev/vda1[/root] btrfs\n/dev/vda1[/home]\n", false},

	{"kexec", 1, `
boot = '/dev/' + var['disk1']
run('parted -s %s mklabel msdos mkpart primary 1MiB 100%%; mkfs.ext4 -q %s1' % (boot, boot))
run('mkdir -p /chroot; mount %s1 /chroot' % boot)
open('/vars', 'a').write('ONSUCCESS=kexec\n')
`, "grep -c BOOT_IMAGE= /proc/cmdline; true", "0\n", false}, // GRUB would have set it
}

// files are the layout's profile.
func (l diskLayout) files(number int, image wire.ImageRef, key *rack.Key) map[string]string {
	return map[string]string{
		l.name + ".specs":     rack.SpecsOf(l.name, l.disks),
		l.name + ".configure": rack.LaidOut(l.script, image.Role, image.Version, key),
		l.name + ".cmdb":      rack.CMDB(10+number, 10+number),
	}
}

func (l diskLayout) blank() rack.Blank {
	b := rack.Blank{Name: l.name, Product: l.name}
	if l.short { // a machine of each kind would take make test too long
		b.Bus, b.Card = lab.MegaSAS, "e1000e"
	}
	if l.script == rack.RAID1UEFI {
		b.Firmware = lab.UEFI
	}
	for range l.disks {
		b.Disks = append(b.Disks, 3e9)
	}
	return b
}

// One role tree is installed on each layout, boots from it, and is equal to its
// manifest.
func TestLayouts(t *testing.T) {
	r := racktest.Start(t)
	state, files := "[\n", map[string]string{}
	for i, l := range diskLayouts {
		state += fmt.Sprintf(" ('%s', '*'),\n", l.name)
		maps.Copy(files, l.files(i, racktest.Base, r.Key))
	}
	files["state"] = state + "]\n"
	r.Configure(files)
	for _, l := range diskLayouts {
		t.Run(l.name, func(t *testing.T) {
			if !l.short && os.Getenv("EDEPLOY_LONG") != "1" {
				t.Skip("EDEPLOY_LONG=1 runs it (make test-long)")
			}
			r, blank := r.In(t), l.blank()
			vm := r.Power(blank)
			r.AwaitState(vm, "installed", 10*time.Minute)
			if l.name == "kexec" {
				l.good(t, r, vm)
				return
			}
			off(t, vm)
			for _, b := range l.starts(blank) {
				vm := r.Power(b)
				l.good(t, r, vm)
				off(t, vm)
			}
		})
	}
}

// starts are the machines that must start from what the installation left: as
// it is; of an array also with either disk pulled, the first one first, which
// the boot loader was asked for. On UEFI the network's script names both.
func (l diskLayout) starts(b rack.Blank) []rack.Blank {
	if l.disks < 2 || !strings.HasPrefix(l.name, "raid1") {
		return []rack.Blank{b}
	}
	first, second := b, b
	first.Copy, first.Pulled = "without-0", []int{0}
	second.Copy, second.Pulled = "without-1", []int{1}
	if os.Getenv("EDEPLOY_LONG") != "1" {
		return []rack.Blank{first}
	}
	return []rack.Blank{b, first, second} // firmware forgets the entries of disks that are gone
}

// good waits until the installed machine is up, and looks at it.
func (l diskLayout) good(t *testing.T, r *racktest.Rack, vm *lab.VM) {
	t.Helper()
	r.Expect(vm, 5*time.Minute, `node\d+ login:`)
	if got := r.SSH(vm, l.shows); got != l.want {
		t.Errorf("%s prints\n%swant\n%s", l.shows, got, l.want)
	}
	answer := r.SSH(vm, "edeploy verify; echo exit $?")
	t.Logf("edeploy verify:\n%s", answer)
	if !strings.HasSuffix(answer, "exit 0\n") {
		t.Errorf("edeploy verify found differences:\n%s", answer)
	}
}

func off(t *testing.T, vm *lab.VM) {
	t.Helper()
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
}
