package configure

import (
	"errors"
	"regexp"
	"strings"

	"edeploy/agent/dialect"
)

var (
	// partitions is how a script shows that it makes partitions itself.
	partitions = regexp.MustCompile(`\b(parted|sfdisk|sgdisk|fdisk|gdisk)\b`)
	comment    = regexp.MustCompile(`(?m)(^|\s)#.*$`)
)

// ErrNoESP says what a script for BIOS machines lacks on a UEFI machine. Its
// two lines make a disk that both firmwares start.
var ErrNoESP = errors.New(`this machine was started by UEFI firmware, and the script makes no EFI system partition; nothing was changed. ` +
	`These two lines serve both firmwares. Instead of mklabel and mkpart:
    run('parted -s %s mklabel gpt mkpart root 258MiB 100%% mkpart esp fat32 2MiB 258MiB set 2 esp on mkpart bios 1MiB 2MiB set 3 bios_grub on' % disk)
and after /chroot is mounted:
    run('mkfs.vfat -F 32 %s2; mkdir -p /chroot/boot/efi; mount %s2 /chroot/boot/efi' % (disk, disk))`)

// checkFirmware refuses a script that makes partitions and never speaks of EFI
// before it changes a disk that a UEFI machine would not start.
func (h Host) checkFirmware(script string) error {
	text, _ := dialect.Dedent(script)
	text = comment.ReplaceAllString(text, "")
	if h.Firmware == "uefi" && partitions.MatchString(text) && !strings.Contains(strings.ToLower(text), "efi") {
		return ErrNoESP
	}
	return nil
}
