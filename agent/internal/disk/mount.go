// Package disk knows what the configuration script mounted below /chroot: it
// checks that the tree fits there, writes the fstab, and unmounts at the end.
package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount is one mounted file system (proc(5), /proc/PID/mountinfo).
type Mount struct {
	Point   string   // where: "/chroot/var"
	Type    string   // "ext4"
	Source  string   // "/dev/vda1"
	Subtree string   // what of the file system is mounted: "/", a Btrfs subvolume, the source of a bind mount
	Options []string // of this mount: "rw", "noatime"
	Super   []string // of the file system: "subvol=/@"
}

// ReadMounts parses the text of mountinfo.
func ReadMounts(r io.Reader) ([]Mount, error) {
	table, err := mountinfo.GetMountsFromReader(r, nil)
	if err != nil {
		return nil, fmt.Errorf("mountinfo: %w", err)
	}
	var mounts []Mount
	for _, m := range table {
		mounts = append(mounts, Mount{Point: m.Mountpoint, Type: m.FSType, Source: m.Source, Subtree: m.Root,
			Options: strings.Split(m.Options, ","), Super: strings.Split(m.VFSOptions, ",")})
	}
	return mounts, nil
}

// Below reads the mounts at or below root from a mountinfo file. Of several
// mounts on one place the last one counts: it hides the others. Parents come
// before what is mounted inside of them.
func Below(mountinfo, root string) ([]Mount, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := ReadMounts(f)
	if err != nil {
		return nil, err
	}
	return below(all, root), nil
}

func below(all []Mount, root string) []Mount {
	var mounts []Mount
	for _, m := range all {
		if !within(m.Point, root) {
			continue
		}
		mounts = slices.DeleteFunc(mounts, func(o Mount) bool { return o.Point == m.Point })
		mounts = append(mounts, m)
	}
	slices.SortStableFunc(mounts, func(a, b Mount) int { return strings.Compare(a.Point, b.Point) })
	return mounts
}

// within says whether the path is dir or lies below it.
func within(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// Relative is the mount's place in the installed system: "/" or "/var".
func (m Mount) Relative(root string) string {
	return path.Join("/", strings.TrimPrefix(m.Point, root))
}

// Unmount unmounts everything at or below root, innermost first, and then
// writes all that is still in memory to the disks. A file system that some
// process keeps busy is detached: it is written all the same.
func Unmount(mountinfo, root string) error {
	mounts, err := Below(mountinfo, root)
	if err != nil {
		return err
	}
	unix.Sync()
	var errs []error
	for _, m := range slices.Backward(mounts) {
		err := unix.Unmount(m.Point, 0)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(m.Point, unix.MNT_DETACH)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Point, err))
		}
	}
	unix.Sync()
	return errors.Join(errs...)
}
