package nvram

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"

	"edeploy/agent/internal/disk"
)

// loadOption is a boot entry, EFI_LOAD_OPTION (UEFI specification 3.1.3).
type loadOption struct {
	attributes  uint32
	description string
	path        []byte // device paths, of which the first says what is started
	optional    []byte // for the program that is started
}

const active = 1 // LOAD_OPTION_ACTIVE

func (o loadOption) encode() []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, o.attributes)
	binary.Write(&b, binary.LittleEndian, uint16(len(o.path)))
	b.Write(text(o.description))
	b.Write(o.path)
	b.Write(o.optional)
	return b.Bytes()
}

func parseOption(data []byte) (loadOption, error) {
	if len(data) < 8 {
		return loadOption{}, fmt.Errorf("a boot entry of %d bytes", len(data))
	}
	o := loadOption{attributes: binary.LittleEndian.Uint32(data)}
	length, rest := int(binary.LittleEndian.Uint16(data[4:])), data[6:]
	var letters []uint16
	for {
		if len(rest) < 2 {
			return o, fmt.Errorf("the description of a boot entry has no end")
		}
		letter := binary.LittleEndian.Uint16(rest)
		rest = rest[2:]
		if letter == 0 {
			break
		}
		letters = append(letters, letter)
	}
	o.description = string(utf16.Decode(letters))
	if length > len(rest) {
		return o, fmt.Errorf("the boot entry %q ends in its device path", o.description)
	}
	o.path, o.optional = rest[:length], rest[length:]
	return o, nil
}

// text is a text as UEFI has it: UCS-2 with a zero at its end.
func text(s string) []byte {
	var b []byte
	for _, letter := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, letter)
	}
	return b
}

// Kinds of nodes of a device path: type and sub-type (UEFI specification 10.3).
const (
	nodeNetwork  = 0x030b // MAC address
	nodeUSB      = 0x0305
	nodeDisk     = 0x0401 // partition
	nodeCD       = 0x0402
	nodeFile     = 0x0404
	nodeFirmware = 0x0406 // a file of the firmware
	nodeVolume   = 0x0407 // a volume of the firmware
	nodeBBS      = 0x0501 // a device of a BIOS
	nodeEnd      = 0x7fff
)

func node(kind uint16, data []byte) []byte {
	b := []byte{byte(kind >> 8), byte(kind)}
	b = binary.LittleEndian.AppendUint16(b, uint16(4+len(data)))
	return append(b, data...)
}

// nodes are those of the first device path, without its end.
func nodes(path []byte) (kinds []uint16, contents [][]byte) {
	for len(path) >= 4 {
		kind, length := uint16(path[0])<<8|uint16(path[1]), int(binary.LittleEndian.Uint16(path[2:]))
		if length < 4 || length > len(path) || kind == nodeEnd || path[0] == nodeEnd>>8 {
			break
		}
		kinds, contents = append(kinds, kind), append(contents, path[4:length])
		path = path[length:]
	}
	return kinds, contents
}

// diskPath leads to a file of a partition, in the short form that begins with
// the partition: it holds wherever the disk is plugged in.
func diskPath(p disk.Partition, file string) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, uint32(p.Number))
	binary.Write(&b, binary.LittleEndian, p.Start)
	binary.Write(&b, binary.LittleEndian, p.Blocks)
	b.Write(p.ID[:])
	b.Write([]byte{2, 2}) // a GPT, identified by a GUID
	path := node(nodeDisk, b.Bytes())
	path = append(path, node(nodeFile, text(strings.ReplaceAll(file, "/", `\`)))...)
	return append(path, node(nodeEnd, nil)...)
}

// partition is the GUID of the GPT's partition that an entry starts from; ok is
// false when it starts something else.
func (o loadOption) partition() (id disk.GUID, ok bool) {
	kinds, contents := nodes(o.path)
	i := slices.Index(kinds, nodeDisk)
	if i < 0 || len(contents[i]) < 38 || contents[i][37] != 2 {
		return id, false
	}
	return disk.GUID(contents[i][20:36]), true
}

// isDisk tells whether an entry starts a disk that is built in, as far as it
// shows: firmware adds such with the disk's controller alone.
func (o loadOption) isDisk() bool {
	kinds, contents := nodes(o.path)
	for i, kind := range kinds {
		switch kind {
		case nodeNetwork, nodeUSB, nodeCD, nodeFirmware, nodeVolume:
			return false
		case nodeDisk:
			return true
		case nodeBBS: // BIOS boot specification 1.01, appendix A: 2 is a hard disk
			return len(contents[i]) >= 2 && contents[i][0] == 2
		}
	}
	return len(kinds) > 0
}

func (o loadOption) isNetwork() bool {
	kinds, contents := nodes(o.path)
	return slices.Contains(kinds, nodeNetwork) ||
		len(kinds) > 0 && kinds[0] == nodeBBS && len(contents[0]) >= 2 && contents[0][0] == 6
}
