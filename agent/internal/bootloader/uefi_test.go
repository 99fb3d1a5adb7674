package bootloader_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/disk"
	"edeploy/server/wire"
)

// installEFI leaves what Debian's grub-install leaves.
func (b *bench) installEFI(name string) error {
	files := map[string]string{"grubx64.efi": "grub", "grub.cfg": "configfile"}
	if b.signed {
		files = map[string]string{"grubx64.efi": "signed grub", "grub.cfg": "configfile", "shimx64.efi": "shim", "mmx64.efi": "keys", "fbx64.efi": "fallback", "BOOTX64.CSV": "list"}
	}
	dir := filepath.Join(b.root, "boot/efi/EFI", name)
	errs := []error{os.MkdirAll(dir, 0o755)}
	for name, content := range files {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	return errors.Join(errs...)
}

func (b *bench) mount() disk.Mount {
	return disk.Mount{Point: filepath.Join(b.root, "boot/efi"), Type: "vfat", Source: "/dev/nvme0n1p2"}
}

// below are the files of a directory with their contents.
func below(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		found[strings.TrimPrefix(p, dir+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func both(more map[string]string) map[string]string {
	files := map[string]string{"usr/lib/grub/i386-pc/boot.img": "", "usr/lib/grub/x86_64-efi/normal.mod": "", "usr/lib/os-release": "NAME=Debian\nID=debian\n"}
	maps.Copy(files, debian)
	maps.Copy(files, more)
	return files
}

var (
	esp      = disk.Partition{Number: 2, Type: disk.TypeESP, ID: disk.GUID{1}, Start: 4096, Blocks: 524288}
	biosGRUB = disk.Partition{Number: 3, Type: disk.TypeBIOS, ID: disk.GUID{2}, Start: 2048, Blocks: 2048}
)

func TestInstallUEFI(t *testing.T) {
	const (
		bios   = "/usr/sbin/grub-install --target=i386-pc /dev/nvme0n1"
		uefi   = "/usr/sbin/grub-install --target=x86_64-efi --efi-directory=/boot/efi --bootloader-id=debian --no-nvram"
		config = "/usr/sbin/grub-mkconfig -o /boot/grub/grub.cfg"
	)
	signed := map[string]string{"debian/BOOTX64.CSV": "list", "debian/fbx64.efi": "fallback", "debian/grub.cfg": "configfile",
		"debian/grubx64.efi": "signed grub", "debian/mmx64.efi": "keys", "debian/shimx64.efi": "shim",
		"BOOT/BOOTX64.EFI": "shim", "BOOT/grubx64.efi": "signed grub", "BOOT/mmx64.efi": "keys"}
	plain := map[string]string{"debian/grub.cfg": "configfile", "debian/grubx64.efi": "grub", "BOOT/BOOTX64.EFI": "grub"}
	for _, tt := range []struct {
		name      string
		firmware  bootloader.Firmware
		table     []disk.Partition
		signed    bool
		variables bool
		ran       []string
		files     map[string]string
		said      string
	}{
		{"signed", bootloader.UEFI, []disk.Partition{esp}, true, true, []string{uefi, config}, signed,
			"boot entry Boot0000 of the firmware: debian, EFI/debian/shimx64.efi"},
		{"not signed", bootloader.UEFI, []disk.Partition{esp}, false, true, []string{uefi, config}, plain,
			"boot entry Boot0000 of the firmware: debian, EFI/debian/grubx64.efi"},
		{"a place for BIOS", bootloader.UEFI, []disk.Partition{esp, biosGRUB}, false, true, []string{bios, uefi, config}, plain, "boot entry Boot0000"},
		{"BIOS with a place for UEFI", bootloader.BIOS, []disk.Partition{esp, biosGRUB}, true, true, []string{bios, uefi, config}, signed, ""},
		{"no variables", bootloader.UEFI, []disk.Partition{esp}, true, false, []string{uefi, config}, signed,
			"the disk is started by its path for removable media, EFI/BOOT/BOOTX64.EFI, alone"},
		{"no GPT", bootloader.UEFI, nil, true, true, []string{uefi, config}, signed, "/dev/nvme0n1p2 is no partition of a GPT; the disk is started by its path"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, both(nil))
			b.table, b.signed = tt.table, tt.signed
			l := b.loader("")
			l.Firmware, l.Disk, l.ESPs = tt.firmware, "/dev/nvme0n1", []disk.Mount{b.mount()}
			if tt.variables {
				l.Variables = t.TempDir()
			}
			written, err := l.Install(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append(append([]string{"links", "bind"}, tt.ran...), "unbind"), b.events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.files, below(t, filepath.Join(b.root, "boot/efi/EFI"))); diff != "" {
				t.Errorf("EFI system partition (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"/boot/grub/", "/boot/efi/"}, written); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
			if got := strings.Join(b.said, "\n"); !strings.Contains(got, tt.said) || tt.said == "" && got != "" {
				t.Errorf("said %q, want %q", got, tt.said)
			}
			entry, err := os.ReadFile(filepath.Join(l.Variables, "Boot0000-8be4df61-93ca-11d2-aa0d-00e098032b8c"))
			if has, want := err == nil && len(entry) > 100, strings.HasPrefix(tt.said, "boot entry"); has != want {
				t.Errorf("the firmware has the entry %q, want one: %v", entry, want)
			}
		})
	}
}

// TestESPs: each disk of an array has the same loaders and an entry of its own,
// the first one's first.
func TestESPs(t *testing.T) {
	b := newBench(t, both(nil))
	b.signed = true
	second := b.mount()
	second.Point, second.Source = second.Point+"2", "/dev/nvme1n1p2"
	if err := os.MkdirAll(second.Point, 0o755); err != nil {
		t.Fatal(err)
	}
	l := b.loader("")
	l.Firmware, l.Disk, l.ESPs, l.Variables = bootloader.UEFI, "/dev/nvme0n1", []disk.Mount{b.mount(), second}, t.TempDir()
	l.Table = func(name string) ([]disk.Partition, error) {
		p := esp
		p.ID[1] = name[len("/dev/nvme")] - '0'
		return []disk.Partition{p}, nil
	}
	written, err := l.Install(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/boot/grub/", "/boot/efi/", "/boot/efi2/"}, written); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(below(t, b.mount().Point), below(t, second.Point)); diff != "" {
		t.Errorf("EFI system partitions (-first +second):\n%s", diff)
	}
	order, err := os.ReadFile(filepath.Join(l.Variables, "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c"))
	if diff := cmp.Diff("\x07\x00\x00\x00\x01\x00\x00\x00", string(order)); err != nil || diff != "" {
		t.Errorf("boot order: %v (-want +got):\n%s", err, diff)
	}
	want := "boot entry Boot0000 of the firmware: debian, EFI/debian/shimx64.efi on /dev/nvme1n1p2\n" +
		"boot entry Boot0001 of the firmware: debian, EFI/debian/shimx64.efi on /dev/nvme0n1p2"
	if diff := cmp.Diff(want, strings.Join(b.said, "\n")); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

// TestESP: a UEFI machine's script must leave a FAT file system of some size on
// /boot/efi.
func TestESP(t *testing.T) {
	root := disk.Mount{Point: "/chroot", Type: "ext4", Source: "/dev/vda1"}
	fat := disk.Mount{Point: "/chroot/boot/efi", Type: "vfat", Source: "/dev/vda2"}
	ext := disk.Mount{Point: "/chroot/boot/efi", Type: "ext4", Source: "/dev/vda2"}
	for _, tt := range []struct {
		name     string
		firmware bootloader.Firmware
		mounts   []disk.Mount
		free     int64
		want     string
	}{
		{"good", bootloader.UEFI, []disk.Mount{root, fat}, 200 << 20, ""},
		{"BIOS", bootloader.BIOS, []disk.Mount{root}, 0, ""},
		{"none", bootloader.UEFI, []disk.Mount{root}, 0, "no FAT file system is mounted on /chroot/boot/efi"},
		{"not FAT", bootloader.UEFI, []disk.Mount{root, ext}, 200 << 20, "no FAT file system is mounted on /chroot/boot/efi"},
		{"too small", bootloader.UEFI, []disk.Mount{root, fat}, 8 << 20, "the EFI system partition /dev/vda2 is too small: GRUB takes up to 16 MB on /chroot/boot/efi, 8 MB are free"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := bootloader.CheckESPs(tt.firmware, bootloader.ESPs(tt.mounts, "/chroot"), "/chroot", func(string) (disk.Space, error) { return disk.Space{FreeBytes: tt.free}, nil })
			if got := errorText(err); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, tt.want)
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

// TestMark: the EFI system partition says which disk it is on, and no longer
// which one it was.
func TestMark(t *testing.T) {
	esp := t.TempDir()
	l := bootloader.Loader{ESPs: []disk.Mount{{Point: esp}}}
	for _, id := range []wire.DiskID{"12345678", "11111111-0000-4000-8000-000000000000", "", "no such form"} {
		if err := l.Mark(id); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"EFI/edeploy/11111111-0000-4000-8000-000000000000": "11111111-0000-4000-8000-000000000000\n"}
	if diff := cmp.Diff(want, below(t, esp)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := (bootloader.Loader{}).Mark("12345678"); err != nil {
		t.Errorf("without an EFI system partition: %v", err)
	}
}
