package machine

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Reboot unmounts the disks, syncs and restarts the machine. It returns only
// on error.
func Reboot() error { return stop("restart the machine", unix.LINUX_REBOOT_CMD_RESTART) }

// PowerOff unmounts the disks, syncs and switches the machine off. It returns
// only on error.
func PowerOff() error { return stop("switch the machine off", unix.LINUX_REBOOT_CMD_POWER_OFF) }

// StartKernel unmounts the disks, syncs and starts the kernel that kexec has
// loaded. It returns only on error.
func StartKernel() error { return stop("start the loaded kernel", unix.LINUX_REBOOT_CMD_KEXEC) }

func stop(what string, command int) error {
	unix.Sync()
	unmountDisks()
	unix.Sync()
	linksDown()
	os.WriteFile("/proc/sys/kernel/softlockup_panic", []byte("1"), 0) // nobody is here to press reset
	if err := unix.Reboot(command); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// unmountDisks takes the file systems on disks off, the last mounted first;
// one that is still in use is made read-only, so that its journal is clean.
// Nothing is done about a failure: the machine goes down anyway, synced.
func unmountDisks() {
	mounted, err := mountinfo.GetMounts(nil)
	if err != nil {
		return
	}
	for _, m := range slices.Backward(mounted) {
		if target := m.Mountpoint; onDisk(m.Source, target) && unix.Unmount(target, 0) != nil {
			unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
}

// linksDown takes the network cards down: a driver that is still receiving when
// the kernel resets its card may wait for it for ever, as virtio_net of Linux 6.1
// does. As with the disks, nothing is done about a failure.
func linksDown() {
	links, err := netlink.LinkList()
	if err != nil {
		return
	}
	for _, link := range links {
		netlink.LinkSetDown(link)
	}
}

// onDisk tells whether a mount is that of a block device, or of something
// inside one.
func onDisk(source, target string) bool {
	return target != "/" && (strings.HasPrefix(source, "/dev/") || strings.HasPrefix(target, "/chroot/") || strings.HasPrefix(target, "/mnt/"))
}
