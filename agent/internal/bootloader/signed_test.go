package bootloader_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"edeploy/agent/internal/bootloader"
	"edeploy/integration/needs"
)

// version makes a tree whose signed loaders are of a version, each larger than
// a buffer.
func version(t *testing.T, root, v string) {
	t.Helper()
	for name, what := range map[string]string{
		"usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "grub", "usr/lib/shim/mmx64.efi.signed": "keys",
		"usr/lib/shim/shimx64.efi.signed": "shim", "usr/lib/os-release": "",
	} {
		text := loader(what, v)
		if what == "" {
			text = "ID=debian\n"
		}
		p := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func loader(what, v string) string { return strings.Repeat(what+" "+v+"\n", 20_000) }

// installed is an EFI system partition with signed loaders of version 1.
func installed(t *testing.T) (root, esp string) {
	t.Helper()
	root = t.TempDir()
	esp = filepath.Join(root, "boot/efi")
	version(t, root, "1")
	for name, what := range map[string]string{"debian/shimx64.efi": "shim", "debian/grubx64.efi": "grub", "debian/mmx64.efi": "keys",
		"BOOT/BOOTX64.EFI": "shim", "BOOT/grubx64.efi": "grub", "BOOT/mmx64.efi": "keys"} {
		p := filepath.Join(esp, "EFI", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(loader(what, "1")), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root, esp
}

func TestUpdateESP(t *testing.T) {
	root, esp := installed(t)
	if replaced, err := bootloader.UpdateESP(root, esp); err != nil || replaced != nil {
		t.Errorf("nothing is new: %v, %v", replaced, err)
	}
	version(t, root, "2")
	// A power cut left this of an earlier attempt.
	if err := os.WriteFile(filepath.Join(esp, "EFI/BOOT/edeploy.new"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	replaced, err := bootloader.UpdateESP(root, esp)
	want := []string{"EFI/BOOT/grubx64.efi", "EFI/BOOT/mmx64.efi", "EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi", "EFI/debian/mmx64.efi", "EFI/debian/shimx64.efi"}
	if diff := cmp.Diff(want, replaced); err != nil || diff != "" {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
	for name, text := range below(t, filepath.Join(esp, "EFI")) {
		if !strings.Contains(text, " 2\n") || strings.Contains(text, " 1\n") {
			t.Errorf("%s is not of version 2: %.20q", name, text)
		}
	}
	if err := os.Remove(filepath.Join(esp, "EFI/debian/shimx64.efi")); err != nil {
		t.Fatal(err)
	}
	if _, err := bootloader.UpdateESP(root, esp); !errors.Is(err, bootloader.ErrNotSigned) {
		t.Errorf("not signed: %v", err)
	}
}

// TestFull: a partition without room for a second copy of a loader keeps the
// old ones, whole, and nothing else; with room the update goes on.
func TestFull(t *testing.T) {
	needs.Root(t)
	root, esp := installed(t)
	before := below(t, esp)
	if err := os.Rename(esp, esp+".was"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(esp, 0o755), unix.Mount("tmpfs", esp, "tmpfs", 0, "size=4m"), os.CopyFS(esp, os.DirFS(esp+".was"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(esp, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler := filepath.Join(esp, "filler")
	if err := os.WriteFile(filler, make([]byte, 8<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the partition: %v", err)
	}
	version(t, root, "2")
	replaced, err := bootloader.UpdateESP(root, esp)
	if want := "the EFI system partition is full: a new EFI/BOOT/grubx64.efi must lie beside the old one"; replaced != nil || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, %v, want %s", replaced, err, want)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, below(t, esp)); diff != "" {
		t.Errorf("EFI system partition (-before +after):\n%s", diff)
	}
	if replaced, err := bootloader.UpdateESP(root, esp); err != nil || len(replaced) != 6 {
		t.Errorf("with room: %v, %v", replaced, err)
	}
}

// TestWhole: whoever looks while the loaders are replaced sees each of them
// old or new, whole: what firmware sees after a power cut, as far as names and
// contents are concerned.
func TestWhole(t *testing.T) {
	root, esp := installed(t)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for name, what := range map[string]string{"debian/shimx64.efi": "shim", "BOOT/BOOTX64.EFI": "shim", "debian/grubx64.efi": "grub"} {
		readers.Go(func() {
			whole := map[string]bool{loader(what, "1"): true, loader(what, "2"): true}
			for {
				select {
				case <-stop:
					return
				default:
				}
				text, err := os.ReadFile(filepath.Join(esp, "EFI", name))
				if err != nil || !whole[string(text)] {
					t.Errorf("%s: %v, %d bytes that are of no version", name, err, len(text))
					return
				}
			}
		})
	}
	for i := range 4 {
		version(t, root, []string{"2", "1"}[i%2])
		if replaced, err := bootloader.UpdateESP(root, esp); err != nil || len(replaced) != 6 {
			t.Errorf("%v, %v", replaced, err)
		}
	}
	close(stop)
	readers.Wait()
}
