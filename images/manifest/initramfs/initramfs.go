// Package initramfs reads what an installed kernel starts with: the files that
// an initramfs holds, and of what kernel modules those are.
package initramfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"strconv"
	"strings"

	"edeploy/images/manifest/archive"
)

// Read lists the names in an initramfs: cpio archives in the form
// newc, the last of them compressed (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
func Read(r io.Reader) (map[string]bool, error) {
	names := map[string]bool{}
	plain := bufio.NewReaderSize(r, 1<<16)
	more, err := readSegments(plain, names)
	if err != nil || !more {
		return names, err
	}
	last, err := archive.Open(plain)
	if err != nil {
		return names, err
	}
	defer last.Close()
	if more, err = readSegments(bufio.NewReaderSize(last, 1<<16), names); more {
		err = errors.New("it is not an initramfs")
	}
	return names, err
}

// readSegments reads the cpio archives at the start, and says whether
// something else follows them.
func readSegments(r *bufio.Reader, names map[string]bool) (more bool, err error) {
	for {
		next, err := r.Peek(6)
		switch {
		case len(next) == 0 && err == io.EOF:
			return false, nil
		case len(next) > 0 && next[0] == 0: // archives are padded with zeros
			r.Discard(1)
		case string(next) != "070701" && string(next) != "070702":
			return true, nil
		default:
			if err := readMember(r, names); err != nil {
				return false, err
			}
		}
	}
}

// readMember reads one member of a cpio archive. Its end mark is a member too.
func readMember(r *bufio.Reader, names map[string]bool) error {
	const headerBytes = 110
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(r, header); err != nil {
		return err
	}
	size, err := strconv.ParseUint(string(header[54:62]), 16, 32)
	if err != nil {
		return fmt.Errorf("cpio: size of a file: %w", err)
	}
	length, err := strconv.ParseUint(string(header[94:102]), 16, 32)
	if err != nil || length == 0 || length > 4096 {
		return fmt.Errorf("cpio: length of a name is %q", header[94:102])
	}
	name := make([]byte, length)
	if _, err := io.ReadFull(r, name); err != nil {
		return err
	}
	names[path.Clean(strings.TrimRight(string(name), "\x00"))] = true
	padding := func(n uint64) int { return int(-n & 3) }
	if _, err := r.Discard(padding(headerBytes + length)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r, int64(size)); err != nil {
		return err
	}
	_, err = r.Discard(padding(size))
	return err
}

// Modules are the names of kernel modules among paths, as modprobe knows them:
// "kernel/drivers/scsi/mpt3sas/mpt3sas.ko.xz" is mpt3sas.
func Modules(paths iter.Seq[string]) map[string]bool {
	modules := map[string]bool{}
	for name := range paths {
		if stem, packing, ok := strings.Cut(path.Base(name), ".ko"); ok && (packing == "" || packing[0] == '.') {
			modules[ModuleName(stem)] = true
		}
	}
	return modules
}

// ModuleName is a module's name with its two spellings made one.
func ModuleName(name string) string { return strings.ReplaceAll(name, "-", "_") }
