package bootloader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/nvram"
	"edeploy/agent/internal/treepath"
	"edeploy/server/wire"
)

// ESPDir is where the EFI system partition is mounted in the installed system.
// Those on the other disks of an array are beside it: /boot/efi2, /boot/efi3.
const ESPDir = "/boot/efi"

// ESPs finds the EFI system partitions among the mounts below root, that on
// ESPDir first: none without that one.
func ESPs(mounts []disk.Mount, root string) []disk.Mount {
	esps := slices.DeleteFunc(slices.Clone(mounts), func(m disk.Mount) bool {
		number, ok := strings.CutPrefix(m.Relative(root), ESPDir)
		return !ok || m.Type != "vfat" || strings.Trim(number, "0123456789") != ""
	})
	slices.SortFunc(esps, func(a, b disk.Mount) int { return strings.Compare(a.Point, b.Point) })
	if len(esps) == 0 || esps[0].Relative(root) != ESPDir {
		return nil
	}
	return esps
}

// espBytes is what GRUB takes twice: shim, MokManager and the signed GRUB of
// Debian 12 are 6 MB.
const espBytes = 16 << 20

// CheckESPs refuses a UEFI machine without good EFI system partitions before its
// tree comes. statfs asks what a mounted file system has left.
func CheckESPs(firmware Firmware, esps []disk.Mount, root string, statfs func(string) (disk.Space, error)) error {
	if firmware != UEFI {
		return nil
	}
	if len(esps) == 0 {
		return fmt.Errorf("this machine was started by UEFI firmware, and no FAT file system is mounted on %s: the script must make an EFI system partition (mkfs.vfat -F 32) and mount it there", filepath.Join(root, ESPDir))
	}
	for _, esp := range esps {
		space, err := statfs(esp.Point)
		if err != nil {
			return err
		}
		if space.FreeBytes < espBytes {
			return fmt.Errorf("the EFI system partition %s is too small: GRUB takes up to %d MB on %s, %d MB are free", esp.Source, espBytes>>20, esp.Point, space.FreeBytes>>20)
		}
	}
	return nil
}

// installUEFI writes GRUB to the EFI system partition: below the
// distribution's own name, which an entry in the firmware's memory leads to,
// and below the name that firmware looks for on a disk it has no entry for. The
// other disks' partitions get copies and entries behind it.
func (l Loader) installUEFI(ctx context.Context, install string) error {
	if !l.has(grubUEFI) {
		return fmt.Errorf("the tree has no GRUB for UEFI (%s): the role must hold it (Debian: grub-efi-amd64-bin, for Secure Boot grub-efi-amd64-signed and shim-signed)", grubUEFI)
	}
	name := distribution(l.Root)
	// Its own work on the boot entries is left out: it would put the disk in
	// front of the network. Debian's takes the signed loaders when they are there.
	if err := l.inside(ctx, install, "--target=x86_64-efi", "--efi-directory="+ESPDir, "--bootloader-id="+name, "--no-nvram"); err != nil {
		return err
	}
	file, err := removable(l.ESPs[0].Point, name)
	if err != nil {
		return fmt.Errorf("EFI system partition %s: %w", l.ESPs[0].Source, err)
	}
	for _, esp := range l.ESPs[1:] {
		if err := mirror(l.ESPs[0].Point, esp.Point, name); err != nil {
			return fmt.Errorf("EFI system partition %s: %w", esp.Source, err)
		}
	}
	if l.Firmware != UEFI {
		return nil
	}
	// Each comes in front of the disks that are in the boot order by then.
	for _, esp := range slices.Backward(l.ESPs) {
		if entry, err := l.addEntry(esp, name, file); err != nil {
			l.Said(fmt.Sprintf("the firmware's memory takes no boot entry for %s: %v; the disk is started by its path for removable media, %s, alone", esp.Source, err, removableLoader))
		} else {
			l.Said(fmt.Sprintf("boot entry %s of the firmware: %s, %s on %s", entry, name, file, esp.Source))
		}
	}
	return nil
}

// mirror copies a distribution's loaders from one EFI system partition to
// another.
func mirror(from, to, name string) error {
	for _, dir := range []string{path.Join("EFI", name), path.Dir(removableLoader)} {
		files, err := os.ReadDir(filepath.Join(from, dir))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, dir), 0o755); err != nil {
			return err
		}
		for _, f := range files {
			if f.IsDir() {
				continue
			}
			if err := replace(filepath.Join(from, dir, f.Name()), filepath.Join(to, dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Mark leaves on the EFI system partitions whose disk they are on, for a signed
// loader from the network that is to start it: also those of an array's other
// disks, which stand in for it. What marked them before goes.
func (l Loader) Mark(id wire.DiskID) error {
	if id.Mark() == "" {
		return nil
	}
	for _, esp := range l.ESPs {
		file := filepath.Join(esp.Point, id.Mark())
		if err := os.RemoveAll(filepath.Dir(file)); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(id+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// addEntry adds the loader on a partition to what the firmware starts.
func (l Loader) addEntry(esp disk.Mount, name, file string) (string, error) {
	at, err := l.partition(esp)
	if err != nil {
		return "", err
	}
	// An entry of the same name for a partition that is gone is left of an
	// earlier installation.
	there := func(id disk.GUID) bool {
		_, err := os.Stat("/dev/disk/by-partuuid/" + id.String())
		return err == nil || slices.ContainsFunc(l.ESPs, func(m disk.Mount) bool {
			other, err := l.partition(m)
			return err == nil && other.ID == id
		})
	}
	return nvram.Add(l.Variables, nvram.Entry{Label: name, Partition: at, File: file}, there)
}

// partition is where a mount is in its disk's GPT.
func (l Loader) partition(m disk.Mount) (disk.Partition, error) {
	device, number := disk.Split(m.Source)
	table, err := l.Table(device)
	if err != nil {
		return disk.Partition{}, err
	}
	i := slices.IndexFunc(table, func(p disk.Partition) bool { return p.Number == number })
	if i < 0 {
		return disk.Partition{}, fmt.Errorf("%s is no partition of a GPT", m.Source)
	}
	return table[i], nil
}

// distribution is the name that a tree's signed GRUB has its configuration
// below: ID of os-release(5).
func distribution(root string) string {
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		file, err := treepath.Follow(root, name)
		if err != nil {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			value, ok := strings.CutPrefix(strings.TrimSpace(line), "ID=")
			if value = strings.Trim(value, `"'`); ok && value != "" && !strings.ContainsAny(value, `/\ `) {
				return value
			}
		}
	}
	return "linux"
}

// removableLoader is what firmware starts from a disk that it has no entry for
// (UEFI specification 3.5.1.1).
const removableLoader = "EFI/BOOT/BOOTX64.EFI"

// removable copies the loaders of a distribution to the directory for removable
// media. It answers the file that starts them in their own directory.
//
// shim's fallback program stays out: it would make boot entries of its own, in
// front of the network.
func removable(esp, name string) (start string, err error) {
	own := path.Join("EFI", name)
	files, err := os.ReadDir(filepath.Join(esp, own))
	if err != nil {
		return "", err
	}
	for _, f := range files {
		if base := strings.ToLower(f.Name()); base == "shimx64.efi" || base == "grubx64.efi" && start == "" {
			start = path.Join(own, f.Name())
		}
	}
	if start == "" {
		return "", fmt.Errorf("grub-install left no loader in %s: %w", own, fs.ErrNotExist)
	}
	dir := filepath.Join(esp, path.Dir(removableLoader))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, f := range files {
		base := strings.ToLower(f.Name())
		if f.IsDir() || !strings.HasSuffix(base, ".efi") || base == "fbx64.efi" {
			continue
		}
		to := f.Name()
		if path.Join(own, f.Name()) == start {
			to = path.Base(removableLoader)
		}
		if err := replace(filepath.Join(esp, own, f.Name()), filepath.Join(dir, to)); err != nil {
			return "", err
		}
	}
	if err := os.Remove(filepath.Join(dir, "fbx64.efi")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return start, nil
}
