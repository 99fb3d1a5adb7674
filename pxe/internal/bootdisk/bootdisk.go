// Package bootdisk makes the program that starts the installed disk of a BIOS
// machine.
//
// iPXE can start a drive by its number only, and no system knows the numbers
// that the BIOS gave. The program (bootdisk.S) reads the first sectors of the
// drives and starts the one that holds the identifier of the installed disk;
// without it, the first that has a boot sector; else the BIOS goes on with its
// next boot device.
package bootdisk

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"

	"edeploy/server/wire"
)

//go:embed bootdisk.bin
var program []byte

// Fields of the program.
const (
	sectorAt = 0x10
	lengthAt = 0x11
	offsetAt = 0x12
	wantAt   = 0x14
	wantMost = 16
)

// Program starts the disk. iPXE takes it for a Linux kernel.
func Program(disk wire.DiskID) ([]byte, error) {
	sector, offset, want, err := disk.Where()
	if err != nil {
		return nil, err
	}
	if len(want) > wantMost {
		return nil, fmt.Errorf("disk %s: %d bytes are more than %d", disk, len(want), wantMost)
	}
	p := bytes.Clone(program)
	p[sectorAt], p[lengthAt] = byte(sector+1), byte(len(want))
	binary.LittleEndian.PutUint16(p[offsetAt:], uint16(offset))
	copy(p[wantAt:], want)
	return p, nil
}
