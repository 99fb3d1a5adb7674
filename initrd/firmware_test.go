package initrd

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/initrd/internal/pick"
)

// module is a kernel module with nothing but the section .modinfo.
func module(info ...string) string {
	const headerBytes, sectionBytes = 64, 64
	names := "\x00.modinfo\x00.shstrtab\x00"
	data := strings.Join(info, "\x00") + "\x00"
	dataAt, namesAt := uint64(headerBytes+3*sectionBytes), uint64(headerBytes+3*sectionBytes+len(data))
	var out bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
			Shoff: headerBytes, Ehsize: headerBytes, Shentsize: sectionBytes, Shnum: 3, Shstrndx: 2,
		},
		elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: dataAt, Size: uint64(len(data))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	} {
		binary.Write(&out, binary.LittleEndian, part)
	}
	return out.String() + data + names
}

// What a module says it loads comes with it when the tree has it, other
// devices' firmware does not.
func TestFirmware(t *testing.T) {
	const dir, blobs = "usr/lib/modules/6.1/kernel/", "usr/lib/firmware/"
	tree, err := readTree(debianTree(t, map[string]string{
		dir + "nic.ko": module("license=GPL", "firmware=nic/a.bin", "firmware=nic/missing.bin", "firmware=nic/fan-*.bin"), dir + "plain.ko": module("license=GPL"),
		blobs + "nic/a.bin": "a", blobs + "nic/fan-1.bin": "1", blobs + "nic/fan-2.bin": "2", blobs + "gpu.bin": "x",
	}), true)
	if err != nil {
		t.Fatal(err)
	}
	got, err := chosen(tree, []pick.Line{{Pattern: dir + "*.ko"}})
	want := []string{dir + "nic.ko", dir + "plain.ko", blobs + "nic/a.bin", blobs + "nic/fan-1.bin", blobs + "nic/fan-2.bin"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// A module that is no ELF file (or a compressed one) is named.
func TestFirmwareRefuses(t *testing.T) {
	tree, err := readTree(debianTree(t, map[string]string{"usr/lib/modules/6.1/a.ko": "x"}), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chosen(tree, []pick.Line{{Pattern: "usr/lib/modules/6.1/a.ko"}}); err == nil || !strings.Contains(err.Error(), "usr/lib/modules/6.1/a.ko: read ELF header") {
		t.Error(err)
	}
}
