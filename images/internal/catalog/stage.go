package catalog

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"edeploy/images/internal/metadata"
	"edeploy/images/manifest"
)

// Limits of the metadata of one upgrade. A machine takes 32 MB for all
// upgrades of its version.
const (
	maxUpgradeBytes = 8 << 20
	maxUpgradeFiles = 1000
)

// stageUpgrade unpacks and checks the files of an upgrade.
func stageUpgrade(stage string, archive io.Reader) error {
	dir, err := os.OpenRoot(stage)
	if err != nil {
		return err
	}
	defer dir.Close()
	limited := &io.LimitedReader{R: archive, N: maxUpgradeBytes + 1}
	plain, err := manifest.OpenArchive(limited)
	if err != nil {
		return err
	}
	err = errors.Join(unpackUpgrade(dir, plain), plain.Close()) // nobody reads ahead any more
	if limited.N <= 0 {
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
	for range maxUpgradeFiles {
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
		switch h.Typeflag {
		case tar.TypeDir:
			err = dir.MkdirAll(name, 0o755)
		case tar.TypeReg:
			if left -= h.Size; left < 0 {
				return fmt.Errorf("its files are larger than %d MB", maxUpgradeBytes>>20)
			}
			err = stageFile(dir, name, h, t)
		default:
			return fmt.Errorf("%.200q is neither a file nor a directory", h.Name)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("it has more than %d files", maxUpgradeFiles)
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
