// Package nvram writes the boot entries of UEFI firmware (UEFI specification
// 3.1 and 3.3): Boot0000 to BootFFFF, and BootOrder.
//
// The order is the operator's: a machine that tries the network before its
// disks goes on doing so. An entry is added in front of the first disk, or
// behind the network when there is none; efibootmgr and grub-install would put
// it in front of everything.
package nvram

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"edeploy/agent/internal/disk"

	"golang.org/x/sys/unix"
)

// Dir is where Linux has the variables (efivarfs).
const Dir = "/sys/firmware/efi/efivars"

// global is the vendor of the variables of the specification.
const global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// Entry is what the firmware is to start.
type Entry struct {
	Label     string // what its menu shows
	Partition disk.Partition
	File      string // on the partition, with slashes: "EFI/debian/shimx64.efi"
}

// Add makes the firmware start an entry. Entries of the same label whose
// partition is this one, or is gone, are replaced: there says which partitions
// this machine has. It answers the name of the variable: "Boot0003".
//
// The order of what is written: a power cut leaves entries that work, and an
// order that names no other.
func Add(dir string, e Entry, there func(disk.GUID) bool) (name string, err error) {
	all, err := entries(dir)
	if err != nil {
		return "", err
	}
	order, err := readOrder(dir)
	if err != nil {
		return "", err
	}
	order = slices.DeleteFunc(order, func(n uint16) bool { _, ok := all[n]; return !ok })
	number, stale := replaced(all, order, e, there)
	option := loadOption{attributes: active, description: e.Label, path: diskPath(e.Partition, "/"+e.File)}.encode()
	old, is := all[number]
	if !is || !bytes.Equal(old.encode(), option) {
		if err := write(dir, bootName(number), option); err != nil {
			return "", err
		}
	}
	want := slices.DeleteFunc(slices.Clone(order), func(n uint16) bool { return slices.Contains(stale, n) })
	if !slices.Contains(want, number) {
		want = slices.Insert(want, place(all, want), number)
	}
	if was, err := readOrder(dir); err != nil || !slices.Equal(was, want) {
		if err := write(dir, "BootOrder", encodeOrder(want)); err != nil {
			if !is { // nothing would start it, and memory that is full has it for nothing
				err = errors.Join(err, remove(dir, bootName(number)))
			}
			return "", err
		}
	}
	for _, n := range stale {
		if err := remove(dir, bootName(n)); err != nil {
			return "", err
		}
	}
	return bootName(number), nil
}

// replaced is the number that the entry gets, and those of entries that it
// makes stale.
func replaced(all map[uint16]loadOption, order []uint16, e Entry, there func(disk.GUID) bool) (number uint16, stale []uint16) {
	var ours []uint16
	for n, o := range all {
		id, ok := o.partition()
		if ok && o.description == e.Label && (id == e.Partition.ID || !there(id)) {
			ours = append(ours, n)
		}
	}
	// The first in the order keeps its place there.
	rank := func(n uint16) int {
		if i := slices.Index(order, n); i >= 0 {
			return i
		}
		return len(order) + int(n)
	}
	slices.SortFunc(ours, func(a, b uint16) int { return rank(a) - rank(b) })
	if len(ours) > 0 {
		return ours[0], ours[1:]
	}
	for number := uint16(0); ; number++ {
		if _, taken := all[number]; !taken {
			return number, nil
		}
	}
}

// place is where a new entry goes in the order.
func place(all map[uint16]loadOption, order []uint16) int {
	behind := 0
	for i, n := range order {
		if all[n].isDisk() {
			return i
		}
		if all[n].isNetwork() {
			behind = i + 1
		}
	}
	return behind
}

var bootVariable = regexp.MustCompile(`^Boot([0-9A-F]{4})` + global + `$`)

func bootName(n uint16) string { return fmt.Sprintf("Boot%04X", n) }

// entries are those of the firmware, by number. One that cannot be parsed is
// there with no content: its number is taken.
func entries(dir string) (map[uint16]loadOption, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[uint16]loadOption{}
	for _, f := range files {
		m := bootVariable.FindStringSubmatch(f.Name())
		if m == nil {
			continue
		}
		n, err := strconv.ParseUint(m[1], 16, 16)
		if err != nil {
			return nil, err
		}
		data, err := read(dir, bootName(uint16(n)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[uint16(n)], _ = parseOption(data)
	}
	return found, nil
}

func readOrder(dir string) ([]uint16, error) {
	data, err := read(dir, "BootOrder")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var order []uint16
	for ; len(data) >= 2; data = data[2:] {
		order = append(order, binary.LittleEndian.Uint16(data))
	}
	return order, err
}

func encodeOrder(order []uint16) []byte {
	var b []byte
	for _, n := range order {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	return b
}

// attributeBytes stand in front of a variable's content; ours are non-volatile
// and seen by firmware and operating system.
const (
	attributeBytes = 4
	attributes     = 7
)

func read(dir, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, name+global))
	if err != nil {
		return nil, err
	}
	if len(data) < attributeBytes {
		return nil, fmt.Errorf("UEFI variable %s: %d bytes", name, len(data))
	}
	return data[attributeBytes:], nil
}

// write sets a variable by one write(2), as efivarfs wants it.
func write(dir, name string, content []byte) error {
	file := filepath.Join(dir, name+global)
	if err := mutable(file); err != nil {
		return fmt.Errorf("UEFI variable %s: %w", name, err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("UEFI variable %s: %w", name, err)
	}
	data := append(binary.LittleEndian.AppendUint32(nil, attributes), content...)
	_, err = f.Write(data)
	info, failed := f.Stat()
	switch {
	case err != nil && failed == nil && info.Size() == 0:
		err = errors.Join(err, os.Remove(file)) // a new one, which the firmware does not have
	case err == nil && failed == nil && info.Size() > int64(len(data)):
		err = f.Truncate(int64(len(data))) // not efivarfs, which replaces the whole
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("UEFI variable %s: %w", name, err)
	}
	return nil
}

func remove(dir, name string) error {
	file := filepath.Join(dir, name+global)
	if err := errors.Join(mutable(file), os.Remove(file)); err != nil {
		return fmt.Errorf("UEFI variable %s: %w", name, err)
	}
	return nil
}

const immutable = 0x10 // FS_IMMUTABLE_FL (linux/fs.h)

// mutable takes the immutable flag away that efivarfs gives to variables
// (Documentation/filesystems/efivarfs.rst).
func mutable(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&immutable == 0 {
		return nil // also a file system without flags
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}
