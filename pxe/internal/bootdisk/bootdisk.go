// Package bootdisk makes the programs that start the installed disk of a
// machine.
//
// iPXE can start a drive of a BIOS by its number only, and no system knows the
// numbers that the BIOS gave; a UEFI boot manager has an order of its own, in
// which other network cards and other disks may come first. The programs
// (bootdisk.S, bootefi.S) read the first sectors of the drives and start the
// one that holds the identifier of the installed disk. Without it the one for
// BIOS starts the first drive that has a boot sector; else the firmware goes on
// with its next boot device.
package bootdisk

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"

	"edeploy/server/wire"
)

var (
	//go:embed bootdisk.bin
	bios []byte
	//go:embed bootefi.bin
	uefi []byte
)

// Fields of both programs.
const (
	sectorAt = 0x10
	lengthAt = 0x11
	offsetAt = 0x12
	wantAt   = 0x14
	wantMost = 16
)

// Program starts the disk, on iPXE's platform "efi" or any other, which is a
// BIOS: that iPXE takes it for a Linux kernel.
func Program(disk wire.DiskID, platform string) ([]byte, error) {
	program := bios
	if platform == "efi" {
		program = uefi
	}
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
