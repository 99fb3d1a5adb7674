// Package archive writes an initrd: a newc cpio archive, zstd compressed, the
// same bytes for the same content.
package archive

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/mkuimage/cpio"
)

// Archive collects what goes in. Owner, group and times are always 0; parent
// directories come by themselves.
type Archive struct{ records map[string]cpio.Record }

// New is an archive with the two device nodes that a kernel needs to start a
// program that can be seen.
func New() *Archive {
	a := &Archive{map[string]cpio.Record{}}
	a.put("dev/console", cpio.CharDev("dev/console", 0o600, 5, 1))
	a.put("dev/null", cpio.CharDev("dev/null", 0o666, 1, 3))
	return a
}

// File adds a regular file, or replaces what has its name.
func (a *Archive) File(name string, data []byte, mode fs.FileMode) {
	a.put(name, cpio.StaticFile(name, string(data), uint64(mode.Perm())))
}

// Link adds a symbolic link.
func (a *Archive) Link(name, target string) { a.put(name, cpio.Symlink(name, target)) }

// Directory adds a directory.
func (a *Archive) Directory(name string, mode fs.FileMode) {
	permissions := uint64(mode.Perm())
	if mode&fs.ModeSticky != 0 {
		permissions |= 0o1000
	}
	a.put(name, cpio.Directory(name, permissions))
}

func (a *Archive) put(name string, record cpio.Record) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := a.records[dir]; !ok {
			a.records[dir] = cpio.Directory(dir, 0o755)
		}
	}
	a.records[name] = record
}

// Cpio is the archive, not compressed: names sorted, so that directories come
// before what is in them, inodes numbered in that order.
func (a *Archive) Cpio() ([]byte, error) {
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	for i, name := range slices.Sorted(maps.Keys(a.records)) {
		record := cpio.MakeReproducible(a.records[name])
		record.Ino = uint64(i + 1)
		if err := w.WriteRecord(record); err != nil {
			return nil, fmt.Errorf("write %s to cpio archive: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("end cpio archive: %w", err)
	}
	return out.Bytes(), nil
}

// Compress packs as well as this library can; one call on the whole keeps the
// result the same on any number of cores.
func Compress(data []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithWindowSize(16<<20), // more gains little and costs the booting kernel memory
		zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, fmt.Errorf("compress initrd: %w", err)
	}
	return w.EncodeAll(data, nil), nil
}
