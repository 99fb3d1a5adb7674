// Package disk knows what the configuration script mounted below /chroot: it
// checks that the tree fits there, writes the fstab, and unmounts at the end.
package disk

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

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
	var mounts []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

// parseMount parses a line such as
//
//	36 35 98:0 / /chroot rw,noatime shared:1 - ext4 /dev/vda1 rw,errors=continue
//
// The number of fields before the "-" varies.
func parseMount(line string) (Mount, error) {
	before, after, ok := strings.Cut(line, " - ")
	head, tail := strings.Fields(before), strings.Fields(after)
	if !ok || len(head) < 6 || len(tail) < 2 {
		return Mount{}, fmt.Errorf("mountinfo: line %q is not understood", line)
	}
	m := Mount{
		Subtree: unescape(head[3]), Point: unescape(head[4]), Options: strings.Split(head[5], ","),
		Type: tail[0], Source: unescape(tail[1]),
	}
	if len(tail) > 2 {
		m.Super = strings.Split(tail[2], ",")
	}
	return m, nil
}

// unescape turns the \040 of mountinfo back into a blank.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
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
