package rootdriver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// part is something between the disks and the root file system that the
// initramfs must be able to start: an array, a volume, the file system itself.
type part struct {
	what    string   // "the array md0"
	modules []string // one of them
	program string   // "" is none
	from    string   // Debian's package that brings the program
}

// levels are the modules of arrays by md/level (Linux, Documentation/admin-guide/md.rst).
var levels = map[string]string{
	"linear": "linear", "raid0": "raid0", "raid1": "raid1", "raid10": "raid10", "raid4": "raid456", "raid5": "raid456", "raid6": "raid456",
}

// fileSystems are modules whose names are not those of their file systems.
var fileSystems = map[string][]string{
	"ext2": {"ext2", "ext4"}, "ext3": {"ext4"}, "ext4": {"ext4"}, "xfs": {"xfs"}, "btrfs": {"btrfs"}, "jfs": {"jfs"}, "f2fs": {"f2fs"},
}

// parts are those of a stack of block devices, directories of sysfs, with a
// file system of this type on it. What is not known is not judged.
func parts(stack []string, fileSystem string) []part {
	var all []part
	for _, dir := range stack {
		name := filepath.Base(dir)
		if module := levels[attribute(dir, "md/level")]; module != "" {
			all = append(all, part{"the array " + name, []string{module}, "mdadm", "mdadm"})
		}
		if strings.HasPrefix(attribute(dir, "dm/uuid"), "LVM-") {
			all = append(all, part{"the logical volume " + attribute(dir, "dm/name"), []string{"dm_mod"}, "lvm", "lvm2"})
		}
	}
	if modules := fileSystems[fileSystem]; modules != nil {
		all = append(all, part{what: "its file system, " + fileSystem, modules: modules})
	}
	return all
}

func attribute(dir, name string) string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// lacking says what is missing for the part, "" when nothing is.
func (p part) lacking(module, file func(string) bool) string {
	there := false
	for _, m := range p.modules {
		there = there || module(m)
	}
	if !there {
		return fmt.Sprintf("has no module %s for %s; MODULES=most in the role's /etc/initramfs-tools/initramfs.conf brings it", p.modules[0], p.what)
	}
	if p.program == "" {
		return ""
	}
	for _, dir := range []string{"sbin/", "usr/sbin/", "bin/", "usr/bin/"} {
		if file(dir + p.program) {
			return ""
		}
	}
	return fmt.Sprintf("has no program %s, which starts %s; the package %s in the role brings it", p.program, p.what, p.from)
}
