package bootdisk_test

import (
	"bytes"
	"debug/pe"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"edeploy/integration/needs"
	"edeploy/pxe/internal/bootdisk"
)

// TestAssembled: the programs are what their sources say. EDEPLOY_GOLDEN=1
// writes them anew.
func TestAssembled(t *testing.T) {
	needs.Programs(t, "as", "objcopy")
	for name, bits := range map[string]string{"bootdisk": "--32", "bootefi": "--64"} {
		dir := t.TempDir()
		object, binary := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
		for _, args := range [][]string{
			{"as", bits, "-o", object, name + ".S"},
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
		file := name + ".bin"
		if os.Getenv("EDEPLOY_GOLDEN") != "" {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what %s.S says (%v): EDEPLOY_GOLDEN=1 writes it", file, name, err)
		}
	}
}

func TestProgram(t *testing.T) {
	for platform, magic := range map[string]string{"pcbios": "", "efi": "MZ", "": ""} {
		p, err := bootdisk.Program("12345678", platform)
		if err != nil {
			t.Fatal(err)
		}
		if want := []byte{1, 4, 440 & 255, 440 >> 8, 0x78, 0x56, 0x34, 0x12, 0}; !bytes.Equal(p[0x10:0x19], want) {
			t.Errorf("%s: fields %x, want %x", platform, p[0x10:0x19], want)
		}
		p, err = bootdisk.Program("01020304-0506-0708-090a-0b0c0d0e0f10", platform)
		if err != nil {
			t.Fatal(err)
		}
		if want := []byte{2, 16, 56, 0, 4, 3, 2, 1, 6, 5, 8, 7, 9, 10, 11, 12, 13, 14, 15, 16}; !bytes.Equal(p[0x10:0x24], want) {
			t.Errorf("%s: fields %x, want %x", platform, p[0x10:0x24], want)
		}
		if is := bytes.HasPrefix(p, []byte("MZ")); is != (magic != "") {
			t.Errorf("%s: a UEFI program: %v", platform, is)
		}
	}
	if _, err := bootdisk.Program("sda", "efi"); err == nil {
		t.Error("a program for a disk that is none")
	}
}

// TestHeader: what firmware loads is a UEFI application of two sections.
func TestHeader(t *testing.T) {
	p, err := bootdisk.Program("12345678", "efi")
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 || h.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION || len(f.Sections) != 2 ||
		h.AddressOfEntryPoint != f.Sections[0].VirtualAddress || h.SizeOfImage != f.Sections[1].VirtualAddress+f.Sections[1].VirtualSize {
		t.Errorf("header %+v, %+v", f.FileHeader, f.OptionalHeader)
	}
}
