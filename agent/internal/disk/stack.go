package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Stack finds what a block device ("/dev/mapper/vg0-root") is made of: itself
// first, then the disk of a partition, the members of an array, what a logical
// volume is on, down to the disks. The answers are directories of sysfs, which
// is mounted on sys.
func Stack(sys, source string) ([]string, error) {
	var stack []string
	todo := []string{blockDir(sys, source)}
	for len(todo) > 0 {
		dir, err := filepath.EvalSymlinks(todo[0])
		todo = todo[1:]
		if err != nil {
			return nil, fmt.Errorf("the disks of %s: %w", source, err)
		}
		if slices.Contains(stack, dir) {
			continue
		}
		stack = append(stack, dir)
		members, err := filepath.Glob(filepath.Join(dir, "slaves/*"))
		if err != nil {
			return nil, fmt.Errorf("the disks of %s: %w", source, err)
		}
		todo = append(todo, members...)
		if isPartition(dir) {
			todo = append(todo, filepath.Dir(dir))
		}
	}
	return stack, nil
}

// Partitioned are the disks ("/dev/sda") that have a partition below a block
// device: those that can have a boot loader in front of it.
func Partitioned(sys, source string) ([]string, error) {
	stack, err := Stack(sys, source)
	if err != nil {
		return nil, err
	}
	var disks []string
	for _, dir := range stack {
		parent := filepath.Dir(dir)
		if members, _ := filepath.Glob(filepath.Join(parent, "slaves/*")); !isPartition(dir) || len(members) > 0 {
			continue
		}
		// A slash in the name of a device is "!" in sysfs.
		if name := "/dev/" + strings.ReplaceAll(filepath.Base(parent), "!", "/"); !slices.Contains(disks, name) {
			disks = append(disks, name)
		}
	}
	return disks, nil
}

func isPartition(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "partition"))
	return err == nil
}

// blockDir is the directory of a block device, by its number: device nodes
// have names of many kinds.
func blockDir(sys, source string) string {
	var stat unix.Stat_t
	if err := unix.Stat(source, &stat); err == nil && stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		return filepath.Join(sys, fmt.Sprintf("dev/block/%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev)))
	}
	return filepath.Join(sys, "class/block", filepath.Base(source))
}

// Holding is the mount that a path of the installed system ("/boot/grub") is on.
// Root itself must be mounted.
func Holding(mounts []Mount, root, name string) Mount {
	return mounts[holder(mounts, filepath.Join(root, name))]
}
