// Package bootloader makes the installed disk boot: it runs the tree's own
// GRUB inside the tree, so that the loader and its configuration are those of
// the installed distribution (reference section 2.5 step 23).
//
// The disk gets the loader for each firmware that it has a place for: the first
// sectors for BIOS (grub.go), an EFI system partition for UEFI (uefi.go).
package bootloader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/nvram"
)

// Firmware is how this machine starts its disk.
type Firmware string

// The firmware families.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// RunningFirmware says how this machine was started: a UEFI kernel has
// /sys/firmware/efi.
func RunningFirmware() Firmware {
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		return UEFI
	}
	return BIOS
}

// Loader is what is needed to install a boot loader.
type Loader struct {
	Root      string       // the tree: /chroot
	Disk      string       // whose first sectors get the loader: /dev/vda
	Below     []string     // disks that the file system with /boot/grub is on: those that are not Disk get the loader for BIOS, too
	ESPs      []disk.Mount // the EFI system partitions, mounted below Root: the first gets the loader, the others copies
	Arguments string       // kernel parameters that the installed system gets besides its own
	Firmware  Firmware
	Run       command.Runner // runs the tree's programs

	// Said hears what an operator should know: one line.
	Said func(string)
	// Table reads the GPT of a disk. Nil is disk.Partitions.
	Table func(disk string) ([]disk.Partition, error)
	// Variables is the directory of the UEFI variables; "" is nvram.Dir.
	Variables string

	// LinkDisks makes the links in /dev/disk/by-uuid. Without them
	// grub-mkconfig writes the names that the disks have now as root=.
	LinkDisks func() error
	// Bind shows /dev, /proc, /sys and /run inside the tree; its result undoes
	// it. Nil is Bind of this package.
	Bind func(root string) (undo func() error, err error)
}

// Install installs the loader and checks what it will boot. It answers the
// paths that it wrote or had written: those that end with a slash are
// directories whose whole content is the loader's.
func (l Loader) Install(ctx context.Context) (written []string, err error) {
	if l.Bind == nil {
		l.Bind = Bind
	}
	if l.Table == nil {
		l.Table = disk.Partitions
	}
	l.Variables = cmp.Or(l.Variables, nvram.Dir)
	if l.Said == nil {
		l.Said = func(string) {}
	}
	if err := l.LinkDisks(); err != nil {
		return nil, fmt.Errorf("make the links in /dev/disk: %w", err)
	}
	undo, err := l.Bind(l.Root)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, undo()) }()
	return l.install(ctx)
}

// program finds a program of the tree: the first of the names that is there.
func (l Loader) program(names ...string) (string, error) {
	for _, name := range names {
		for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
			// Lstat: an absolute link of the tree leads elsewhere from here.
			if _, err := os.Lstat(filepath.Join(l.Root, dir, name)); err == nil {
				return dir + "/" + name, nil
			}
		}
	}
	return "", fmt.Errorf("the tree has no %s: %w", strings.Join(names, " or "), fs.ErrNotExist)
}

// inside runs a program of the tree in the tree.
func (l Loader) inside(ctx context.Context, argv ...string) error {
	_, err := l.Run(ctx, command.Command{
		Argv:   argv,
		Shown:  "chroot " + l.Root + " " + strings.Join(argv, " "),
		Env:    []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/root"},
		Chroot: l.Root,
	})
	return err
}
