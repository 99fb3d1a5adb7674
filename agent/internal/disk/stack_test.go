package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/disk"
)

// blocks is a sysfs with block devices: directory below block/ to members.
func blocks(t *testing.T, devices map[string]string) string {
	t.Helper()
	sys := t.TempDir()
	for dir, members := range devices {
		at, name := filepath.Join(sys, "devices", dir), filepath.Base(dir)
		err := errors.Join(os.MkdirAll(filepath.Join(at, "slaves"), 0o755), os.MkdirAll(filepath.Join(sys, "class/block"), 0o755),
			os.Symlink("../../devices/"+dir, filepath.Join(sys, "class/block", name)))
		if strings.Contains(dir, "/") {
			err = errors.Join(err, os.WriteFile(filepath.Join(at, "partition"), []byte("1\n"), 0o644))
		}
		for _, member := range strings.Fields(members) {
			err = errors.Join(err, os.Symlink(filepath.Join(sys, "class/block", member), filepath.Join(at, "slaves", member)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return sys
}

func TestStack(t *testing.T) {
	sys := blocks(t, map[string]string{
		"tdx": "", "tdx/tdx1": "", "tdx/tdx2": "", "tdy": "", "tdy/tdy1": "", "tdz": "", "cciss!c0d0": "", "cciss!c0d0/cciss!c0d0p1": "",
		"md80": "tdx1 tdy1", "md80/md80p1": "", "md81": "tdz", "dm-80": "md80 tdx2", "dm-81": "dm-80", "md99": "gone",
	})
	for _, test := range []struct{ source, stack, disks string }{
		{"/dev/tdx1", "tdx1 tdx", "/dev/tdx"},
		{"/dev/tdz", "tdz", ""},
		{"/dev/md80", "md80 tdx1 tdy1 tdx tdy", "/dev/tdx /dev/tdy"},
		{"/dev/md80p1", "md80p1 md80 tdx1 tdy1 tdx tdy", "/dev/tdx /dev/tdy"},
		{"/dev/md81", "md81 tdz", ""},
		{"/dev/dm-81", "dm-81 dm-80 md80 tdx2 tdx1 tdy1 tdx tdy", "/dev/tdx /dev/tdy"},
		{"/dev/cciss!c0d0p1", "cciss!c0d0p1 cciss!c0d0", "/dev/cciss/c0d0"},
		{"/dev/md99", "error", "error"},
		{"/dev/none", "error", "error"},
	} {
		t.Run(filepath.Base(test.source), func(t *testing.T) {
			stack, err := disk.Stack(sys, test.source)
			var names []string
			for _, dir := range stack {
				names = append(names, filepath.Base(dir))
			}
			disks, diskErr := disk.Partitioned(sys, test.source)
			got := []string{strings.Join(names, " "), strings.Join(disks, " ")}
			for i, err := range []error{err, diskErr} {
				if err != nil {
					got[i] = "error"
				}
			}
			if diff := cmp.Diff([]string{test.stack, test.disks}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHolding(t *testing.T) {
	root, boot := disk.Mount{Point: "/chroot", Source: "/dev/vda2"}, disk.Mount{Point: "/chroot/boot", Source: "/dev/vda1"}
	for name, mounts := range map[string][]disk.Mount{"/dev/vda2": {root}, "/dev/vda1": {root, boot}} {
		if got := disk.Holding(mounts, "/chroot", "/boot/grub"); got.Source != name {
			t.Errorf("/boot/grub is on %s, want %s", got.Source, name)
		}
	}
}
