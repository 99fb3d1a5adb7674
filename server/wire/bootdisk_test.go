package wire_test

import (
	"bytes"
	"testing"

	"edeploy/server/wire"
)

func TestDiskID(t *testing.T) {
	mbr := make([]byte, wire.DiskHead)
	mbr[510], mbr[511] = 0x55, 0xaa
	blank := bytes.Clone(mbr)
	copy(mbr[440:], []byte{0x78, 0x56, 0x34, 0x12})
	gpt := bytes.Clone(mbr)
	copy(gpt[512:], "EFI PART")
	copy(gpt[512+56:], []byte{0x04, 0x03, 0x02, 0x01, 0x06, 0x05, 0x08, 0x07, 9, 10, 11, 12, 13, 14, 15, 16})
	for _, test := range []struct {
		name string
		head []byte
		want wire.DiskID
	}{
		{"MBR", mbr, "12345678"},
		{"GPT", gpt, "01020304-0506-0708-090a-0b0c0d0e0f10"},
		{"no signature", blank, ""},
		{"no partition table", make([]byte, wire.DiskHead), ""},
		{"short", mbr[:511], ""},
	} {
		got := wire.ReadDiskID(test.head)
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		if got == "" {
			continue
		}
		sector, offset, want, err := got.Where()
		if err != nil || !bytes.Equal(test.head[512*sector+offset:][:len(want)], want) {
			t.Errorf("%s: sector %d offset %d is not %x (%v)", test.name, sector, offset, want, err)
		}
	}
	for _, bad := range []wire.DiskID{"", "1234567", "1234567g", "12-34-56-78", "0102030405060708090a0b0c0d0e0f10", "${net0/ip}"} {
		if _, _, _, err := bad.Where(); err == nil {
			t.Errorf("%q is taken for a disk", bad)
		}
	}
}
