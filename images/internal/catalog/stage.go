package catalog

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"edeploy/images/internal/metadata"
	"edeploy/images/manifest/archive"
)

// Limits of the metadata of one upgrade. A machine takes 32 MB for all
// upgrades of its version.
const (
	maxUpgradeBytes = 8 << 20
	maxUpgradeNames = 1000 // files and directories, also those that are only implied
	maxUpgradeDepth = 16
	maxUpgradePath  = 1000 // bytes
)

// stageUpgrade unpacks and checks the files of an upgrade.
func stageUpgrade(ctx context.Context, stage string, packed io.Reader) error {
	dir, err := os.OpenRoot(stage)
	if err != nil {
		return err
	}
	defer dir.Close()
	limited := &io.LimitedReader{R: packed, N: maxUpgradeBytes + 1}
	plain, err := archive.OpenWithin(limited, upgradeMemory)
	if err != nil {
		return err
	}
	whole := &io.LimitedReader{R: archive.WithContext(ctx, plain), N: 2 * maxUpgradeBytes} // with headers and what fills blocks
	err = errors.Join(unpackUpgrade(dir, whole), plain.Close())                            // nobody reads ahead any more
	if limited.N <= 0 || whole.N <= 0 {
		return fmt.Errorf("it is larger than %d MB", maxUpgradeBytes>>20)
	}
	if err != nil {
		return err
	}
	return metadata.Check(dir)
}

func unpackUpgrade(dir *os.Root, plain io.Reader) error {
	left := int64(maxUpgradeBytes)
	end := &zeros{r: plain}
	t := tar.NewReader(end)
	made := names{".": true}
	for range maxUpgradeNames { // members that make no name anew count, too
		h, err := t.Next()
		if err == io.EOF {
			// The end is read too, so that the client is heard to its end.
			if _, err = io.Copy(io.Discard, end); err == nil && end.count < tarEnd {
				err = errors.New("its end is missing")
			}
			return err
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		switch {
		case h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeReg:
			return fmt.Errorf("%.200q is neither a file nor a directory", h.Name)
		case !filepath.IsLocal(name):
			return fmt.Errorf("%.200q escapes from the directory", h.Name)
		}
		if err := made.add(name); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			err = dir.MkdirAll(name, 0o755)
		} else if left -= h.Size; left < 0 {
			return fmt.Errorf("its files are larger than %d MB", maxUpgradeBytes>>20)
		} else {
			err = stageFile(dir, name, h, t)
		}
		if err != nil {
			return err
		}
	}
	return errTooMany
}

var errTooMany = fmt.Errorf("it has more than %d files and directories", maxUpgradeNames)

// names are the files and directories that are there, or soon will be.
type names map[string]bool

// add counts a name and the directories above it.
func (n names) add(name string) error {
	if len(name) > maxUpgradePath || strings.Count(name, "/") >= maxUpgradeDepth {
		return fmt.Errorf("the name %.40q... has more than %d bytes, or is below more than %d directories", name, maxUpgradePath, maxUpgradeDepth-1)
	}
	for ; !n[name]; name = path.Dir(name) {
		n[name] = true
	}
	if len(n) > maxUpgradeNames {
		return errTooMany
	}
	return nil
}

// tarEnd is how many zero bytes a tar ends with, at least (POSIX pax).
const tarEnd = 1024

// zeros counts the zero bytes at the end of what was read: package tar takes
// an archive that was cut between two files for a whole one.
type zeros struct {
	r     io.Reader
	count int
}

func (z *zeros) Read(b []byte) (int, error) {
	n, err := z.r.Read(b)
	last := len(bytes.TrimRight(b[:n], "\x00"))
	if last > 0 {
		z.count = 0
	}
	z.count += n - last
	return n, err
}

func stageFile(dir *os.Root, name string, h *tar.Header, content io.Reader) error {
	if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if h.Mode&0o100 != 0 {
		mode = 0o755
	}
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Chmod(mode), f.Close())
}
