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
 ('network', '$eth', 'ipv4', 'network(10.0.3.0/24)'),
 ('network', '$eth', 'serial', '$mac'),
]
`

// CMDB gives out the addresses 10.0.3.FIRST to 10.0.3.LAST.
func CMDB(first, last int) string {
	return fmt.Sprintf("generate({'ip': '10.0.3.%d-%d', 'hostname': 'node%d-%d',\n"+
		"          'netmask': '255.255.255.0', 'gateway': '10.0.3.1'})\n", first, last, first, last)
}

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
// own for BIOS.
func BothFirmwares(role, version string, key *Key) string {
	return `disk = '/dev/' + var['disk']

run('parted -s %s mklabel gpt mkpart root 258MiB 100%% mkpart esp fat32 2MiB 258MiB set 2 esp on mkpart bios 1MiB 2MiB set 3 bios_grub on' % disk)
run('mkfs.ext4 -q %s1' % disk)
run('mkdir -p /chroot; mount %s1 /chroot' % disk)
run('mkfs.vfat -F 32 %s2; mkdir -p /chroot/boot/efi; mount %s2 /chroot/boot/efi' % (disk, disk))
` + Settings(key) + fmt.Sprintf(`
set_role('%s', '%s', disk)
`, role, version)
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
