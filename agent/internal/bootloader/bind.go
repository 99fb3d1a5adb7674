package bootloader

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"edeploy/agent/internal/treepath"

	"golang.org/x/sys/unix"
)

// shown are the places of the running system that programs inside the tree
// need: the disks, and what the kernel says about them.
var shown = []string{"/dev", "/proc", "/sys", "/run"}

// Bind shows the running system's /dev, /proc, /sys and /run inside the tree.
// undo is to be called in any case when err is nil.
func Bind(root string) (undo func() error, err error) {
	var bound []string
	undo = func() error {
		var errs []error
		for _, dir := range slices.Backward(bound) {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", dir, err))
			}
		}
		return errors.Join(errs...)
	}
	for _, dir := range shown {
		at, err := treepath.Follow(root, dir)
		if err != nil {
			return nil, errors.Join(err, undo())
		}
		if err := os.MkdirAll(at, 0o755); err != nil {
			return nil, errors.Join(err, undo())
		}
		// Recursively, for what is mounted inside (/dev/pts); as a slave, so
		// that unmounting it here does not unmount it there.
		if err := unix.Mount(dir, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return nil, errors.Join(fmt.Errorf("bind %s on %s: %w", dir, at, err), undo())
		}
		bound = append(bound, at)
		if err := unix.Mount("", at, "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return nil, errors.Join(fmt.Errorf("make %s a slave mount: %w", at, err), undo())
		}
	}
	return undo, nil
}
