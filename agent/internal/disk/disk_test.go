package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/disk"
	"edeploy/images/manifest"
	"edeploy/integration/needs"
)

const mountinfo = `1 1 0:2 / / rw - rootfs rootfs rw
20 1 0:5 / /dev rw,nosuid - devtmpfs devtmpfs rw,size=1k
30 1 254:1 / /chroot rw,relatime - ext4 /dev/vda1 rw
31 30 254:17 / /chroot/var rw,noatime shared:4 master:1 - xfs /dev/vdb1 rw,attr2
32 1 254:33 / /chrootx rw - ext4 /dev/vdc1 rw
33 30 254:2 / /chroot/boot/efi rw,relatime - vfat /dev/vda2 rw,fmask=0022
34 30 0:40 / /chroot/tmp rw - tmpfs tmpfs rw
35 30 0:41 /@home /chroot/my\040home rw,relatime,nodev - btrfs /dev/mapper/vg0-home rw,subvol=/@home
`

func mounts(t *testing.T, text string) []disk.Mount {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := disk.Below(file, "/chroot")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBelow(t *testing.T) {
	var got []string
	for _, m := range mounts(t, mountinfo+"40 30 254:50 / /chroot/var rw - ext4 /dev/vdd1 rw\n") {
		got = append(got, m.Relative("/chroot")+" "+m.Source)
	}
	want := []string{"/ /dev/vda1", "/boot/efi /dev/vda2", "/my home /dev/mapper/vg0-home", "/tmp tmpfs", "/var /dev/vdd1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBrokenMountinfo(t *testing.T) {
	for _, line := range []string{"x", "1 1 0:2 / / rw rootfs rootfs rw", "1 1 - ext4 a rw", "1 1 0:2 / / rw - ext4"} {
		if _, err := disk.ReadMounts(strings.NewReader(line + "\n")); err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("%q: got %v", line, err)
		}
	}
}

func FuzzReadMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Add(`1 2 3:4 / /a\0 b - c d`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := disk.ReadMounts(strings.NewReader(text))
		if err == nil && len(got) > len(text) {
			t.Errorf("%d mounts from %d bytes", len(got), len(text))
		}
	})
}

const blkid = `DEVNAME=/dev/vda1
UUID=11111111-aaaa
BLOCK_SIZE=4096
TYPE=ext4

DEVNAME=/dev/vda2
UUID=22AA-BBCC
TYPE=vfat

DEVNAME=/dev/vda3
UUID=33333333-swap
TYPE=swap
DEVNAME=/dev/vdb1
UUID=44444444-xfs
TYPE=xfs

DEVNAME=/dev/vdc5
UUID=55555555-foreign-swap
TYPE=swap

DEVNAME=/dev/mapper/vg0-home
UUID=66666666-btrfs
TYPE=btrfs

DEVNAME=/dev/mapper/vg0-swap
UUID=77777777-lv-swap
TYPE=swap
`

// unknown knows no disks of a device.
func unknown(string) []string { return nil }

func TestFstab(t *testing.T) {
	run := func(_ context.Context, c command.Command) ([]byte, error) { return []byte(blkid), nil }
	devices, err := disk.Blkid(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	got, err := disk.Fstab(mounts(t, mountinfo), devices, "/chroot", unknown)
	if err != nil {
		t.Fatal(err)
	}
	want := `# /etc/fstab, written by the installation from what was mounted
UUID=11111111-aaaa / ext4 errors=remount-ro 0 1
UUID=22AA-BBCC /boot/efi vfat nofail 0 2
UUID=66666666-btrfs /my\040home btrfs nodev,subvol=/@home 0 0
UUID=44444444-xfs /var xfs noatime 0 0
UUID=33333333-swap none swap sw 0 0
UUID=77777777-lv-swap none swap sw 0 0
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSwapOfAnArray: a swap area on an array of the disks that the root's array
// is on belongs to the system; one of another disk does not.
func TestSwapOfAnArray(t *testing.T) {
	on := map[string][]string{"/dev/md0": {"/dev/vda", "/dev/vdb"}, "/dev/md1": {"/dev/vda", "/dev/vdb"}, "/dev/md2": {"/dev/vdc"}}
	root := []disk.Mount{{Point: "/chroot", Type: "ext4", Source: "/dev/md0"}}
	devices := []disk.Device{{Name: "/dev/md0", UUID: "1", Type: "ext4"}, {Name: "/dev/md1", UUID: "2", Type: "swap"}, {Name: "/dev/md2", UUID: "3", Type: "swap"}}
	got, err := disk.Fstab(root, devices, "/chroot", func(device string) []string { return on[device] })
	_, lines, _ := strings.Cut(got, "\n")
	if want := "UUID=1 / ext4 errors=remount-ro 0 1\nUUID=2 none swap sw 0 0\n"; err != nil || lines != want {
		t.Errorf("error %v, got\n%swant\n%s", err, lines, want)
	}
}

func TestFstabWithoutUUID(t *testing.T) {
	_, err := disk.Fstab(mounts(t, mountinfo), nil, "/chroot", unknown)
	if err == nil || err.Error() != "fstab: /dev/vda1, mounted on /chroot, has no UUID" {
		t.Errorf("got %v", err)
	}
}

// Real blkid on an image of a real file system.
func TestBlkidPeer(t *testing.T) {
	needs.Programs(t, "blkid", "mkfs.ext4")
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const uuid = "0b5b6e2e-0000-4000-8000-000000000001"
	if out, err := exec.Command("mkfs.ext4", "-q", "-U", uuid, image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	onImage := func(ctx context.Context, c command.Command) ([]byte, error) {
		c.Argv = append(c.Argv, image)
		return command.On(nil)(ctx, c)
	}
	got, err := disk.Blkid(t.Context(), onImage)
	if diff := cmp.Diff([]disk.Device{{Name: image, UUID: uuid, Type: "ext4"}}, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

func TestBlkidFails(t *testing.T) {
	broken := errors.New("no such program")
	run := func(context.Context, command.Command) ([]byte, error) { return nil, broken }
	if _, err := disk.Blkid(t.Context(), run); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	nothing := func(ctx context.Context, _ command.Command) ([]byte, error) {
		return command.On(nil)(ctx, command.Shell("exit 2"))
	}
	if got, err := disk.Blkid(t.Context(), nothing); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestCheckSpace(t *testing.T) {
	tree, err := manifest.New([]manifest.Entry{
		{Path: ".", Type: manifest.Dir},
		{Path: "var", Type: manifest.Dir},
		{Path: "var/db", Type: manifest.File, Size: 50_000_000},
		{Path: "boot", Type: manifest.File, Size: 10_000_000, Group: 1},
		{Path: "boot2", Type: manifest.File, Size: 10_000_000, Group: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	on := mounts(t, "30 1 254:1 / /chroot rw - ext4 /dev/vda1 rw\n31 30 254:17 / /chroot/var rw - ext4 /dev/vdb1 rw\n")
	tests := []struct {
		name      string
		root, sub disk.Space
		want      string
	}{
		{"fits", disk.Space{FreeBytes: 11e6, FreeFiles: 10, BlockBytes: 4096}, disk.Space{FreeBytes: 51e6, FreeFiles: -1, BlockBytes: 4096}, ""},
		{"second disk too small", disk.Space{FreeBytes: 11e6, FreeFiles: 10, BlockBytes: 4096}, disk.Space{FreeBytes: 20e6, FreeFiles: -1, BlockBytes: 4096},
			"role mysql 1 does not fit on the disk: /chroot/var (/dev/vdb1, ext4) needs 51 MB, 20 MB are free"},
		{"too few inodes", disk.Space{FreeBytes: 11e6, FreeFiles: 1, BlockBytes: 4096}, disk.Space{FreeBytes: 51e6, FreeFiles: -1, BlockBytes: 4096},
			"role mysql 1 does not fit on the disk: /chroot (/dev/vda1, ext4) needs room for 2 files, there is room for 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := disk.CheckSpace("role mysql 1", tree, on, "/chroot", func(dir string) (disk.Space, error) {
				if dir == "/chroot" {
					return tt.root, nil
				}
				return tt.sub, nil
			})
			if got := errorText(err); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSpaceOfWhatIsThereAlready(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a"), make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := manifest.New([]manifest.Entry{
		{Path: ".", Type: manifest.Dir},
		{Path: "a", Type: manifest.File, Size: 8192},
		{Path: "b", Type: manifest.File, Size: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	needs := disk.Needs(tree, []disk.Mount{{Point: root}}, root, func(disk.Mount) int64 { return 4096 })
	if len(needs) != 1 || needs[0].Bytes > 2*4096 || needs[0].Bytes < 4096 {
		t.Errorf("got %+v, want one or two blocks of 4096", needs)
	}
	space, err := disk.Statfs(root)
	if err != nil || space.FreeBytes <= 0 || space.BlockBytes <= 0 {
		t.Errorf("statfs %s: %+v, %v", root, space, err)
	}
}

func TestUnmountNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mountinfo")
	if err := os.WriteFile(file, []byte("1 1 0:2 / / rw - rootfs rootfs rw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := disk.Unmount(file, "/chroot"); err != nil {
		t.Error(err)
	}
}

// TestGPT: what sfdisk wrote is read back, with blocks of either size.
func TestGPT(t *testing.T) {
	needs.Programs(t, "sfdisk")
	const table = `label: gpt
label-id: 01020304-0506-0708-090A-0B0C0D0E0F10
first-lba: 34
start=4096, size=8192, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=33221100-5544-7766-8899-AABBCCDDEEFF
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=11111111-2222-3333-4444-555555555555
`
	image := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 16<<20)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "-q", image)
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := disk.ReadGPT(f, 512)
	want := []disk.Partition{
		{Number: 1, Type: disk.TypeESP, Start: 4096, Blocks: 8192, ID: disk.GUID{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}},
		{Number: 2, Type: disk.TypeBIOS, Start: 2048, Blocks: 2048, ID: disk.GUID{0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	if id := got[0].ID.String(); id != "33221100-5544-7766-8899-aabbccddeeff" {
		t.Errorf("the GUID is %s", id)
	}
	if got, err := disk.ReadGPT(f, 4096); err != nil || got != nil {
		t.Errorf("with blocks of 4096 bytes: %v, %v, want none", got, err)
	}
}

func TestSplit(t *testing.T) {
	for device, want := range map[string]string{"/dev/vda2": "/dev/vda 2", "/dev/nvme0n1p3": "/dev/nvme0n1 3", "/dev/mmcblk0p12": "/dev/mmcblk0 12",
		"/dev/sda": "/dev/sda 0", "/dev/nvme0n1": "/dev/nvme0n1 0", "/dev/mapper/vg0-esp": "/dev/mapper/vg0 0"} {
		if d, n := disk.Split(device); fmt.Sprint(d, " ", n) != want {
			t.Errorf("%s: got %s %d, want %s", device, d, n, want)
		}
	}
}

// Tables come from disks: whatever they hold must not crash the agent.
func FuzzReadGPT(f *testing.F) {
	f.Add([]byte("EFI PART"))
	f.Fuzz(func(t *testing.T, head []byte) {
		table := append(make([]byte, 512), head...)
		got, err := disk.ReadGPT(bytes.NewReader(table), 512)
		if err == nil && len(got)*128 > len(table) {
			t.Errorf("%d partitions from %d bytes", len(got), len(table))
		}
	})
}
