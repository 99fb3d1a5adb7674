package rack

import "fmt"

// VM is a profile in the seed's own form: state, specs, configure and CMDB of
// one profile "vm". The machines get the addresses 10.0.3.10 and up, and let
// in the operator's key.
func VM(role, version string, key *Key) map[string]string {
	return map[string]string{
		"state":        "[('vm', '*')]\n",
		"vm.specs":     Specs,
		"vm.configure": Configure(role, version, key),
		"vm.cmdb":      CMDB(10, 60),
	}
}

// Specs fits every machine of the rack.
const Specs = `[
 ('disk', '$disk', 'size', 'gt(1)'),
` + card

// card is the end of specs that fit every machine of the rack.
const card = ` ('network', '$eth', 'ipv4', 'network(10.0.3.0/24)'),
 ('network', '$eth', 'serial', '$mac'),
]
`

// SpecsOf fits machines of a product. A comment chooses so many disks by what they
// are: $disk1, $disk2 ...
func SpecsOf(product string, disks int) string {
	comment := "# edeploy: disks "
	for i := range disks {
		comment += fmt.Sprintf("$disk%d, ", i+1)
	}
	return comment + "size=gt(1)\n" + fmt.Sprintf("[\n ('system', 'product', 'name', '%s'),\n", product) + card
}

// CMDB gives out the addresses 10.0.3.FIRST to 10.0.3.LAST.
func CMDB(first, last int) string {
	return fmt.Sprintf("generate({'ip': '10.0.3.%d-%d', 'hostname': 'node%d-%d',\n"+
		"          'netmask': '255.255.255.0', 'gateway': '10.0.3.1'})\n", first, last, first, last)
}

// ByArchive is the line of a configuration script that lets the agent fetch the
// role as one file over HTTP: in emulation transfer and verify take half of what
// they take by rsync.
var ByArchive = fmt.Sprintf("open('/vars', 'a').write('HSERV=%s\\n')\n", Appliance)

// Configure is a configuration script: one partition on one disk, a static
// address, the operator's key.
func Configure(role, version string, key *Key) string {
	return `disk1 = '/dev/' + var['disk']

for disk, path in ((disk1, '/chroot'), ):
    run('parted -s %s mklabel msdos' % disk)
    run('parted -s %s mkpart primary ext2 0%% 100%%' % disk)
    run('mkfs.ext4 -q %s1' % disk)
    run('mkdir -p %s; mount %s1 %s' % (path, disk, path))
` + Settings(key) + fmt.Sprintf(`
set_role('%s', '%s', disk1)
`, role, version)
}

// BothFirmwares is a configuration script whose disk BIOS and UEFI machines
// start: a GPT with the root, an EFI system partition, and a place for GRUB's
// own for BIOS. The tree comes as an archive.
func BothFirmwares(role, version string, key *Key) string {
	return `disk = '/dev/' + var['disk']

run('parted -s %s mklabel gpt mkpart root 258MiB 100%% mkpart esp fat32 2MiB 258MiB set 2 esp on mkpart bios 1MiB 2MiB set 3 bios_grub on' % disk)
run('mkfs.ext4 -q %s1' % disk)
run('mkdir -p /chroot; mount %s1 /chroot' % disk)
run('mkfs.vfat -F 32 %s2; mkdir -p /chroot/boot/efi; mount %s2 /chroot/boot/efi' % (disk, disk))
` + ByArchive + Settings(key) + fmt.Sprintf(`
set_role('%s', '%s', disk)
`, role, version)
}

// RAID1, RAID1UEFI and LVM are the parts of configuration scripts that lay a
// system out: on arrays of two disks, and on logical volumes. They leave the disk that
// set_role is to name in boot.
const (
	RAID1 = `
pair = ['/dev/' + var['disk1'], '/dev/' + var['disk2']]
for disk in pair:
    run('parted -s %s mklabel msdos mkpart primary 1MiB 2400MiB mkpart primary 2400MiB 2600MiB' % disk)
raid1('/dev/md0', [disk + '1' for disk in pair])
raid1('/dev/md1', [disk + '2' for disk in pair])
run('mkfs.ext4 -q /dev/md0; mkdir -p /chroot; mount /dev/md0 /chroot')
run('mkswap /dev/md1')
boot = pair[0]
`
	RAID1UEFI = `
pair = ['/dev/' + var['disk1'], '/dev/' + var['disk2']]
for disk in pair:
    run('parted -s %s mklabel gpt mkpart esp fat32 1MiB 65MiB set 1 esp on mkpart root 65MiB 2800MiB; mkfs.vfat -F 32 %s1' % (disk, disk))
raid1('/dev/md0', [disk + '2' for disk in pair])
run('mkfs.ext4 -q /dev/md0; mkdir -p /chroot; mount /dev/md0 /chroot')
run('mkdir -p /chroot/boot/efi /chroot/boot/efi2; mount %s1 /chroot/boot/efi; mount %s1 /chroot/boot/efi2' % (pair[0], pair[1]))
boot = pair[0]
`
	LVM = `
boot = '/dev/' + var['disk1']
run('parted -s %s mklabel msdos mkpart primary 1MiB 100%% set 1 lvm on' % boot)
run('pvcreate -q -ff -y %s1; vgcreate -q vg0 %s1' % (boot, boot))
run('lvcreate -q -y -W y -L 2400M -n root vg0; mkfs.ext4 -q /dev/vg0/root')
run('lvcreate -q -y -W y -L 128M -n swap vg0; mkswap /dev/vg0/swap')
run('mkdir -p /chroot; mount /dev/vg0/root /chroot')
`
)

// LaidOut is a configuration script: a layout such as RAID1, a static address,
// the operator's key. The tree comes as an archive.
func LaidOut(layout, role, version string, key *Key) string {
	return layout + ByArchive + Settings(key) + fmt.Sprintf("\nset_role('%s', '%s', boot)\n", role, version)
}

// Settings is the part of a configuration script that every profile here
// shares: network, host name, key.
func Settings(key *Key) string {
	return `
open('/interfaces', 'w').write('''
auto lo
iface lo inet loopback

auto %(eth)s
allow-hotplug %(eth)s
iface %(eth)s inet static
     address %(ip)s
     netmask %(netmask)s
     gateway %(gateway)s
     hwaddress %(mac)s
''' % var)

config('/etc/hostname').write(var['hostname'] + '\n')
config('/root/.ssh/authorized_keys', fmode=0o600).write('` + key.Authorized + `\n')
`
}
