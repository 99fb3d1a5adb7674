package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// DiskID tells a disk from the others of its machine by what is written on it,
// as blkid's PTUUID does: the signature of an MBR (8 hexadecimal digits) or the
// GUID of a GPT. Numbers and names of disks change with the firmware, the
// kernel and a USB stick. "" is not known.
type DiskID string

// MaxDisks bounds the disks of one machine that are told apart.
const MaxDisks = 256

// CheckWritten says whether the identifiers can be those of disks that were
// written: also of file systems and volumes on whole disks, as blkid's UUID.
func CheckWritten(disks []DiskID) error {
	if len(disks) > MaxDisks {
		return fmt.Errorf("%d disks: want %d at most", len(disks), MaxDisks)
	}
	for _, d := range disks {
		if d == "" || len(d) > 64 || strings.Trim(string(d), "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-:_") != "" {
			return fmt.Errorf("disk %.70q: want what blkid says as PTUUID or UUID", string(d))
		}
	}
	return nil
}

// Mark is the file on a UEFI machine's EFI system partition that tells loaders
// which disk that is: they find files more easily than partition tables. "" when
// the disk is not known.
func (d DiskID) Mark() string {
	if _, _, _, err := d.Where(); err != nil {
		return ""
	}
	return "/EFI/edeploy/" + string(d)
}

// Where a partition table has its identifier (UEFI specification 5.2 and 5.3).
const (
	sectorBytes = 512
	mbrAt       = 440
	gptAt       = 56
)

// DiskHead is how many bytes of a disk ReadDiskID wants.
const DiskHead = 2 * sectorBytes

// ReadDiskID is the identifier of the disk that begins like this; "" when it
// has none. A GPT's comes first: the MBR in front of it rarely has a signature.
func ReadDiskID(head []byte) DiskID {
	if len(head) < DiskHead || head[510] != 0x55 || head[511] != 0xaa {
		return ""
	}
	if gpt := head[sectorBytes:]; bytes.HasPrefix(gpt, []byte("EFI PART")) {
		g := gpt[gptAt:]
		return DiskID(fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g),
			binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:16]))
	}
	signature := binary.LittleEndian.Uint32(head[mbrAt:])
	if signature == 0 {
		return ""
	}
	return DiskID(fmt.Sprintf("%08x", signature))
}

// Where is how to find the disk: which bytes are at which offset of which
// sector, counted from 0. An error: that is no identifier.
func (d DiskID) Where() (sector, offset int, want []byte, err error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(string(d), "-", ""))
	switch {
	case err == nil && len(raw) == 4 && len(d) == 8:
		return 0, mbrAt, []byte{raw[3], raw[2], raw[1], raw[0]}, nil
	case err == nil && len(raw) == 16 && len(d) == 36:
		mixed := []byte{raw[3], raw[2], raw[1], raw[0], raw[5], raw[4], raw[7], raw[6]}
		return 1, gptAt, append(mixed, raw[8:]...), nil
	}
	return 0, 0, nil, fmt.Errorf("disk %.40q: want the signature of an MBR (8 hexadecimal digits) or the GUID of a GPT", string(d))
}
