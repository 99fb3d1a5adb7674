package machine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Reboot unmounts the disks, syncs and restarts the machine. It returns only
// on error.
func Reboot() error { return stop("restart the machine", unix.LINUX_REBOOT_CMD_RESTART) }

// PowerOff unmounts the disks, syncs and switches the machine off. It returns
// only on error.
func PowerOff() error { return stop("switch the machine off", unix.LINUX_REBOOT_CMD_POWER_OFF) }

func stop(what string, command int) error {
	unix.Sync()
	unmountDisks()
	unix.Sync()
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

// onDisk tells whether a mount is that of a block device, or of something
// inside one.
func onDisk(source, target string) bool {
	return target != "/" && (strings.HasPrefix(source, "/dev/") || strings.HasPrefix(target, "/chroot/") || strings.HasPrefix(target, "/mnt/"))
}
