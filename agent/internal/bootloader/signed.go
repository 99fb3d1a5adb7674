package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"edeploy/agent/internal/treepath"
)

// signed are the loaders that a tree has signatures of, in the order in which
// they are replaced. A new shim may refuse an older GRUB (SBAT); the other way
// round all goes well.
var signed = []struct{ file, source string }{
	{"grubx64.efi", "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"},
	{"mmx64.efi", "/usr/lib/shim/mmx64.efi.signed"},
	{"shimx64.efi", "/usr/lib/shim/shimx64.efi.signed"},
}

// ErrNotSigned says that an EFI system partition has a loader of the machine's
// own, which no tree has.
var ErrNotSigned = errors.New("it does not start with shim: its loader is made by grub-install")

// UpdateESP makes the loaders on an installed machine's EFI system partition
// those of its tree, and answers which files it replaced. esp is where the
// partition is mounted. Files that the installation did not write are not
// added.
//
// A power cut leaves each file old or new, whole, and any mixture of them
// starts the machine. The directory for removable media comes first: the other
// one, which the boot entry leads to, is replaced when that is good.
func UpdateESP(root, esp string) (replaced []string, err error) {
	own := path.Join("EFI", distribution(root))
	if _, err := os.Stat(filepath.Join(esp, own, "shimx64.efi")); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(esp, own), ErrNotSigned)
	}
	for _, dir := range []string{path.Dir(removableLoader), own} {
		for _, l := range signed {
			from, err := treepath.Follow(root, l.source)
			if err != nil {
				return replaced, err
			}
			name := path.Join(dir, l.file)
			if l.file == "shimx64.efi" && dir != own {
				name = removableLoader
			}
			to := filepath.Join(esp, name)
			is, err := equal(from, to)
			if errors.Is(err, fs.ErrNotExist) || is {
				continue
			}
			if err == nil {
				err = replace(from, to)
			}
			if errors.Is(err, unix.ENOSPC) {
				err = fmt.Errorf("the EFI system partition is full: a new %s must lie beside the old one until it is whole; remove what nothing starts from below %s: %w", name, filepath.Join(esp, "EFI"), err)
			}
			if err != nil {
				return replaced, err
			}
			replaced = append(replaced, name)
		}
	}
	return replaced, nil
}

// equal compares the contents of two files.
func equal(a, b string) (bool, error) {
	var files [2]*os.File
	for i, name := range []string{a, b} {
		f, err := os.Open(name)
		if err != nil {
			return false, err
		}
		defer f.Close()
		files[i] = f
	}
	var bufs [2][64 << 10]byte
	for {
		n, errA := io.ReadFull(files[0], bufs[0][:])
		m, errB := io.ReadFull(files[1], bufs[1][:])
		if !bytes.Equal(bufs[0][:n], bufs[1][:m]) {
			return false, nil
		}
		for _, err := range []error{errA, errB} {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return true, nil
			}
			if err != nil {
				return false, err
			}
		}
	}
}
