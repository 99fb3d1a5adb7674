package bootloader_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/bootloader"
)

const twoKernels = `menuentry 'Debian' {
	linux	/boot/vmlinuz-6.1.0-18 root=UUID=0b5b ro quiet ds=nocloud-net\;s=http://a/
	initrd	/boot/initrd.img-6.1.0-18
}
menuentry 'Debian, recovery' {
	linux	/boot/vmlinuz-6.1.0-18 root=UUID=0b5b ro single
	initrd	/boot/initrd.img-6.1.0-18
}
menuentry 'Debian, older' {
	linux	/vmlinuz-6.1.0-17 root=UUID=0b5b ro console=tty0
}
`

func TestChooseKernel(t *testing.T) {
	tests := []struct {
		name, match, config string
		want                bootloader.Kernel
		err                 string
	}{
		{"the first", "", twoKernels, bootloader.Kernel{Image: "boot/vmlinuz-6.1.0-18", Initrd: "boot/initrd.img-6.1.0-18",
			Arguments: "root=UUID=0b5b ro quiet ds=nocloud-net;s=http://a/ console=ttyS0"}, ""},
		{"by name, /boot is a file system of its own, a console of its own", "0-17", twoKernels,
			bootloader.Kernel{Image: "boot/vmlinuz-6.1.0-17", Arguments: "root=UUID=0b5b ro console=tty0"}, ""},
		{"the subvolume of a Btrfs", "", strings.ReplaceAll(twoKernels, "/boot/", "/@root/boot/"), bootloader.Kernel{Image: "boot/vmlinuz-6.1.0-18",
			Initrd: "boot/initrd.img-6.1.0-18", Arguments: "root=UUID=0b5b ro quiet ds=nocloud-net;s=http://a/ console=ttyS0"}, ""},
		{"ambiguous", "6.1", twoKernels, bootloader.Kernel{}, "KEXEC_KERNEL=6.1 fits /boot/vmlinuz-6.1.0-18 and /vmlinuz-6.1.0-17"},
		{"none of that name", "5.10", twoKernels, bootloader.Kernel{}, `boots no kernel whose name holds "5.10"`},
		{"no configuration", "", "", bootloader.Kernel{}, "the tree has no grub.cfg"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := map[string]string{"boot/vmlinuz-6.1.0-17": "", "boot/vmlinuz-6.1.0-18": "", "boot/initrd.img-6.1.0-18": ""}
			if tt.config != "" {
				files["boot/grub/grub.cfg"] = tt.config
			}
			b := newBench(t, files)
			got, err := bootloader.ChooseKernel(b.root, tt.match, "SERV=10.0.0.1 console=ttyS0 quiet")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			tt.want.Image = filepath.Join(b.root, tt.want.Image)
			if tt.want.Initrd != "" {
				tt.want.Initrd = filepath.Join(b.root, tt.want.Initrd)
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
		})
	}
}

// A grub.cfg comes from a role tree: whatever it holds, it must not crash the
// agent.
func FuzzChooseKernel(f *testing.F) {
	f.Add(twoKernels, "6.1")
	f.Add("linux", "")
	f.Add("initrd x\nlinux ../../../etc/passwd", "")
	f.Fuzz(func(t *testing.T, config, match string) {
		root := t.TempDir()
		dir := filepath.Join(root, "boot/grub")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "grub.cfg"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := bootloader.ChooseKernel(root, match, "")
		if err == nil && !strings.HasPrefix(k.Image, root+"/") {
			t.Errorf("kernel %s is not in the tree", k.Image)
		}
	})
}
