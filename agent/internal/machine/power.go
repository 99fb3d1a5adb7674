package machine

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"

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
	file, err := os.Open("/proc/mounts")
	if err != nil {
		return
	}
	defer file.Close()
	var targets []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if target, ok := diskMount(lines.Text()); ok {
			targets = append(targets, target)
		}
	}
	for _, target := range slices.Backward(targets) {
		if unix.Unmount(target, 0) != nil {
			unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
	}
}

// diskMount reads a line of /proc/mounts: where a file system of a block
// device, or something mounted inside one, is found.
func diskMount(line string) (target string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[1] == "/" {
		return "", false
	}
	target = unescape.Replace(fields[1])
	onDisk := strings.HasPrefix(fields[0], "/dev/")
	inTree := strings.HasPrefix(target, "/chroot/") || strings.HasPrefix(target, "/mnt/")
	return target, onDisk || inTree
}

// unescape undoes the octal escapes of /proc/mounts (proc_pid_mounts(5)).
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
