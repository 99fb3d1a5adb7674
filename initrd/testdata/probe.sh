# What profiles do, on the machine itself; the test reads the console.
try() { label=$1; shift; start=$(cut -d' ' -f1 /proc/uptime); if out=$("$@" 2>&1); then echo "ok: $label ($start to $(cut -d' ' -f1 /proc/uptime))"; else echo "FAILED $label: status $?: $out"; fi; }

# The seed's profile.
try msdos-label parted -s /dev/vda mklabel msdos
try msdos-partition parted -s /dev/vda mkpart primary ext2 0% 50%
try ext4 mkfs.ext4 -q -L edroot /dev/vda1
try mount sh -c 'mkdir -p /chroot && mount /dev/vda1 /chroot && mountpoint -q /chroot'
try write sh -c 'echo hello > /chroot/file && sync'
# Volumes.
try lvm-partition parted -s /dev/vda mkpart primary 50% 100%
try pvcreate pvcreate -q /dev/vda2
try vgcreate vgcreate -q vg0 /dev/vda2
try lvcreate lvcreate -q -y -L 64M -n root vg0
try lv-node test -b /dev/vg0/root
try lv-ext4 mkfs.ext4 -q /dev/vg0/root
try lv-mount sh -c 'mkdir -p /mnt/lv && mount /dev/mapper/vg0-root /mnt/lv'
try lv-umount umount /mnt/lv
# A GPT with a FAT.
try gpt parted -s /dev/vdb mklabel gpt mkpart esp fat32 1MiB 100MiB set 1 esp on mkpart data 100MiB 100%
try vfat mkfs.vfat -F 32 -n EFI /dev/vdb1
try fsck.vfat fsck.vfat -n /dev/vdb1
try sfdisk sfdisk -d /dev/vdb
try swap mkswap -L edswap /dev/vdb2
try blkid sh -c 'blkid /dev/vda1 | grep -q edroot'
try xfs sh -c '! command -v mkfs.xfs || mkfs.xfs -q -f /dev/vdb2'
try wipefs wipefs -q -a /dev/vdb2
# The gokrazy kernel has no RAID levels; metadata must work anyway. Modules come by themselves.
if [ -d /lib/modules ]; then
	try xfs-mount sh -c 'mkfs.xfs -q -f /dev/vdb2 && mkdir -p /mnt/x && mount /dev/vdb2 /mnt/x && umount /mnt/x'
	try btrfs-mount sh -c 'mkfs.btrfs -q -f /dev/vdb2 && mount /dev/vdb2 /mnt/x && umount /mnt/x'
	try wipefs-btrfs wipefs -q -a /dev/vdb2
	try vfat-mount sh -c 'mount /dev/vdb1 /mnt/x && umount /mnt/x'
	try bond sh -c 'modprobe bonding && ls /sys/class/net/bonding_masters'
	try vlan sh -c 'modprobe 8021q && test -e /proc/net/vlan/config'
	try ipmi-modules sh -c 'modinfo ipmi_si ipmi_devintf'
	try efivarfs modinfo efivarfs
	try isofs modprobe isofs
	try controllers modinfo megaraid_sas mpt3sas mptsas vmw_pvscsi sym53c8xx hpsa smartpqi aacraid
	try cards modinfo e1000 e1000e igb ixgbe i40e ice bnx2x tg3 bnxt_en mlx4_en mlx5_core r8169 vmxnet3
	try scan-sync grep -q sync /sys/module/scsi_mod/parameters/scan
	try firmware sh -c 'ls /lib/firmware/bnx2x/*.fw /lib/firmware/rtl_nic/*.fw /lib/firmware/tigon/*.bin'
	try mdadm-create mdadm --create /dev/md0 --run --metadata=1.0 --level=1 --raid-devices=2 /dev/vdb2 missing
	try mdadm-stop mdadm --stop /dev/md0
	try mdadm-examine sh -c 'mdadm --examine /dev/vdb2 | grep -q raid1'
else
	try mdadm-examine sh -c 'mdadm --examine /dev/vdb2 2>&1 | grep -q "No md superblock"'
fi
try rsync sh -c 'rsync --version && rsync -aX /etc/ /chroot/etc/'
try awk sh -c 'test "$(echo 1 2 | awk "{print \$2}")" = 2'
try bash bash -c 'diff() { :; }; [[ a == a ]] && echo {1..3} | sed s/1/x/ | grep -q x'
try ipmitool ipmitool -V
try kexec kexec --version
try lspci sh -c "lspci | grep -qi ethernet"
try pci-names sh -c "lspci | grep -q \"Red Hat\""
try u-root /bbin/ip addr
try umount umount /chroot
try e2fsck e2fsck -f -p /dev/vda1
echo "memory: $(free 2>/dev/null | head -2 | tail -1)"
