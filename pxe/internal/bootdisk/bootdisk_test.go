package bootdisk_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"edeploy/integration/needs"
	"edeploy/pxe/internal/bootdisk"
)

// TestAssembled: the program is what its source says. EDEPLOY_GOLDEN=1 writes
// it anew.
func TestAssembled(t *testing.T) {
	needs.Programs(t, "as", "objcopy")
	dir := t.TempDir()
	object, binary := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
	for _, args := range [][]string{
		{"as", "--32", "-o", object, "bootdisk.S"},
		{"objcopy", "-O", "binary", "-j", ".text", object, binary},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	want, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("EDEPLOY_GOLDEN") != "" {
		if err := os.WriteFile("bootdisk.bin", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("bootdisk.bin")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("bootdisk.bin is not what bootdisk.S says (%v): EDEPLOY_GOLDEN=1 writes it", err)
	}
}

func TestProgram(t *testing.T) {
	p, err := bootdisk.Program("12345678")
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{1, 4, 440 & 255, 440 >> 8, 0x78, 0x56, 0x34, 0x12, 0}; !bytes.Equal(p[0x10:0x19], want) {
		t.Errorf("fields %x, want %x", p[0x10:0x19], want)
	}
	p, err = bootdisk.Program("01020304-0506-0708-090a-0b0c0d0e0f10")
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{2, 16, 56, 0, 4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16}; !bytes.Equal(p[0x10:0x24], want) {
		t.Errorf("fields %x, want %x", p[0x10:0x24], want)
	}
	if _, err := bootdisk.Program("sda"); err == nil {
		t.Error("a program for a disk that is none")
	}
}
