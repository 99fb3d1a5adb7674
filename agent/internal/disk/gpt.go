package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// GUID is an identifier as it is written on disks (UEFI specification,
// appendix A: the first three fields are little-endian).
type GUID [16]byte

// Types of partitions.
var (
	TypeESP  = GUID{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b} // EFI system partition
	TypeBIOS = GUID{0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49} // where GRUB for BIOS machines is
)

// Partition is an entry of a GPT.
type Partition struct {
	Number        int
	Type, ID      GUID
	Start, Blocks uint64 // in logical blocks of the disk
}

// Bounds of what a GPT may ask for; it has 128 entries of 128 bytes.
const (
	maxEntries    = 1024
	maxEntryBytes = 4096
)

// ReadGPT reads a disk's GPT (UEFI specification 5.3); block is the size of a
// logical block. A disk without one has no partitions here.
func ReadGPT(d io.ReaderAt, block int) ([]Partition, error) {
	header := make([]byte, 92)
	if _, err := d.ReadAt(header, int64(block)); err != nil || !bytes.HasPrefix(header, []byte("EFI PART")) {
		return nil, nil // also a disk that is too small for one
	}
	at := binary.LittleEndian.Uint64(header[72:])
	count, size := binary.LittleEndian.Uint32(header[80:]), binary.LittleEndian.Uint32(header[84:])
	if count > maxEntries || size < 128 || size > maxEntryBytes || at > 1<<40 {
		return nil, fmt.Errorf("GPT: %d entries of %d bytes at block %d", count, size, at)
	}
	table := make([]byte, count*size)
	if _, err := d.ReadAt(table, int64(at)*int64(block)); err != nil {
		return nil, fmt.Errorf("GPT: read its entries: %w", err)
	}
	var found []Partition
	for i := range int(count) {
		e := table[i*int(size):]
		p := Partition{Number: i + 1, Type: GUID(e[:16]), ID: GUID(e[16:32]), Start: binary.LittleEndian.Uint64(e[32:])}
		if last := binary.LittleEndian.Uint64(e[40:]); p.Type != (GUID{}) && last >= p.Start {
			p.Blocks = last - p.Start + 1
			found = append(found, p)
		}
	}
	return found, nil
}

// Partitions reads the GPT of a disk: /dev/vda.
func Partitions(device string) ([]Partition, error) {
	d, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	block, err := unix.IoctlGetInt(int(d.Fd()), unix.BLKSSZGET)
	if err != nil {
		return nil, fmt.Errorf("ask for the block size of %s: %w", device, err)
	}
	found, err := ReadGPT(d, block)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", device, err)
	}
	return found, nil
}

// Split takes the name of a partition apart: /dev/vda and 2 of /dev/vda2. The
// number is 0 when the device is not a partition.
func Split(device string) (disk string, number int) {
	disk = diskOf(device)
	number, err := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(device, disk), "p"))
	if err != nil {
		return disk, 0
	}
	return disk, number
}

// String is the form of RFC 9562, in lower case.
func (g GUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[:]),
		binary.LittleEndian.Uint16(g[4:]), binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:16])
}
