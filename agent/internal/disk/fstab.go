package disk

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"edeploy/agent/internal/command"
)

// Device is what blkid says about a block device.
type Device struct {
	Name string // /dev/vda1
	UUID string
	Type string // "ext4", "swap", "vfat"
}

// Blkid runs Debian's blkid on the machine's block devices.
func Blkid(ctx context.Context, run command.Runner) ([]Device, error) {
	// No cache: it would be of the build machine or of an earlier script.
	out, err := run(ctx, command.Command{Argv: []string{"blkid", "-c", "/dev/null", "-o", "export"}})
	if err != nil && command.ExitCode(err) != 2 { // 2: found nothing, blkid(8)
		return nil, err
	}
	return parseBlkid(string(out)), nil
}

// parseBlkid parses blkid -o export: NAME=value lines, an empty line between
// devices.
func parseBlkid(text string) []Device {
	var devices []Device
	var d Device
	flush := func() {
		if d.Name != "" {
			devices = append(devices, d)
		}
		d = Device{}
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "":
			flush()
		case "DEVNAME":
			flush()
			d.Name = value
		case "UUID":
			d.UUID = value
		case "TYPE":
			d.Type = value
		}
	}
	flush()
	return devices
}

// Fstab writes the fstab of the installed system: every mount below root by
// UUID, and the swap areas on the same disks. disks are those that a device is
// on; for a device that it does not know the name decides.
func Fstab(mounts []Mount, devices []Device, root string, disks func(device string) []string) (string, error) {
	b := &strings.Builder{}
	b.WriteString("# /etc/fstab, written by the installation from what was mounted\n")
	on := func(device string) []string { return append(disks(device), diskOf(device)) }
	var used []string
	for _, m := range mounts {
		if !strings.HasPrefix(m.Source, "/dev/") {
			continue // tmpfs and the like: the installed system mounts its own
		}
		i := slices.IndexFunc(devices, func(d Device) bool { return d.Name == m.Source })
		if i < 0 || devices[i].UUID == "" {
			return "", fmt.Errorf("fstab: %s, mounted on %s, has no UUID", m.Source, m.Point)
		}
		at := m.Relative(root)
		fmt.Fprintf(b, "UUID=%s %s %s %s 0 %d\n", devices[i].UUID, escape(at), m.Type, options(m, at), pass(m, at))
		used = append(used, on(m.Source)...)
	}
	for _, d := range devices {
		mine := func(disk string) bool { return slices.Contains(used, disk) }
		if d.Type == "swap" && d.UUID != "" && slices.ContainsFunc(on(d.Name), mine) {
			fmt.Fprintf(b, "UUID=%s none swap sw 0 0\n", d.UUID)
		}
	}
	return b.String(), nil
}

// options keeps what the script asked for; the kernel's defaults are left out.
func options(m Mount, at string) string {
	var kept []string
	for _, o := range m.Options {
		if o != "rw" && o != "relatime" {
			kept = append(kept, o)
		}
	}
	if m.Type == "btrfs" && m.Subtree != "/" {
		kept = append(kept, "subvol="+m.Subtree)
	}
	if at == "/" && strings.HasPrefix(m.Type, "ext") {
		kept = append(kept, "errors=remount-ro")
	}
	if m.Type == "vfat" && at != "/" {
		// Firmware and its updates need it: a machine whose disk with it is gone,
		// but not its array, must not wait for it.
		kept = append(kept, "nofail")
	}
	if len(kept) == 0 {
		return "defaults"
	}
	return strings.Join(kept, ",")
}

// pass is the sixth field of fstab(5): the order of file system checks. XFS
// and Btrfs have no check at boot.
func pass(m Mount, at string) int {
	switch {
	case m.Type == "xfs" || m.Type == "btrfs":
		return 0
	case at == "/":
		return 1
	}
	return 2
}

// escape writes blanks as fstab(5) wants them.
func escape(p string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`).Replace(p)
}

// diskOf is the disk of a partition: /dev/vda of /dev/vda1, /dev/nvme0n1 of
// /dev/nvme0n1p2. A logical volume stands for its volume group, an array for
// itself.
func diskOf(device string) string {
	if strings.HasPrefix(device, "/dev/mapper/") {
		group, _, _ := strings.Cut(path.Base(device), "-")
		return "/dev/mapper/" + group
	}
	name := strings.TrimRight(device, "0123456789")
	if name == device {
		return device
	}
	if p, ok := strings.CutSuffix(name, "p"); ok && p != "" && p[len(p)-1] >= '0' && p[len(p)-1] <= '9' {
		return p
	}
	if base := path.Base(name); strings.HasPrefix(base, "nvme") || strings.HasPrefix(base, "mmcblk") || strings.HasPrefix(base, "md") || strings.HasPrefix(base, "dm-") {
		return device
	}
	return name
}
