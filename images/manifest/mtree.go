package manifest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// WriteTo writes the manifest as mtree(5) text: one line for each path, full
// paths from "./", every keyword on every line, in path order. Keywords:
// type mode uid gid time size sha256digest link device=native,MAJOR,MINOR
// xattr.NAME=BASE64 and, for hard links, nlink and inode. The inode is the
// number of the hard-link group, not one of a file system: libarchive's reader
// takes it for the same.
func (m *Manifest) WriteTo(w io.Writer) (int64, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	n, _ := out.WriteString("#mtree\n")
	total := int64(n)
	names := map[int]int{}
	for i := range m.Entries {
		names[m.Entries[i].Group]++
	}
	var line []byte
	for i := range m.Entries {
		e := &m.Entries[i]
		line = e.appendLine(line[:0], names[e.Group])
		n, err := out.Write(line)
		if total += int64(n); err != nil {
			return total, err
		}
	}
	err := out.Flush()
	return total - int64(out.Buffered()), err
}

func (e *Entry) appendLine(b []byte, names int) []byte {
	if e.Path != "." {
		b = append(b, "./"...)
	}
	b = append(b, Escape(e.Path)...)
	b = append(b, " type="...)
	b = append(b, e.Type...)
	b = fmt.Appendf(b, " mode=%#o uid=%d gid=%d time=%d.%09d", e.Mode, e.UID, e.GID, e.ModTime.Unix(), e.ModTime.Nanosecond())
	switch e.Type {
	case File:
		b = fmt.Appendf(b, " size=%d sha256digest=%x", e.Size, e.SHA256)
	case Symlink:
		b = append(append(b, " link="...), Escape(e.Link)...)
	case Block, Char:
		b = fmt.Appendf(b, " device=native,%d,%d", e.Major, e.Minor)
	}
	if e.Group != 0 {
		b = fmt.Appendf(b, " nlink=%d inode=%d", names, e.Group)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
		b = append(append(b, " xattr."...), Escape(name)...)
		b = append(b, '=')
		b = base64.StdEncoding.AppendEncode(b, e.Xattrs[name])
	}
	return append(b, '\n')
}

// Read reads mtree(5) text: what WriteTo writes, and what other programs write
// (/set and /unset, relative names with "..", continued lines) as long as every
// path has all the attributes an Entry needs; unknown keywords are passed over.
// Errors name the line and wrap ErrInvalid when the text is at fault.
func Read(r io.Reader) (*Manifest, error) {
	return readWithin(r, standard)
}

// ReadFile reads the text in a file, which its errors name.
func ReadFile(name string) (*Manifest, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

func readWithin(r io.Reader, most limits) (*Manifest, error) {
	var entries []Entry
	if err := parse(r, most, func(e Entry) { entries = append(entries, e) }); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	m, err := New(entries)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return m, nil
}

// Total is the size of what a manifest describes.
type Total struct {
	Entries int
	Bytes   int64 // as Manifest.TotalBytes
}

// Measure reads mtree(5) text for its total only. It takes little memory, and
// looks at each line but not at how they fit together.
func Measure(r io.Reader) (Total, error) {
	var t Total
	err := parse(r, standard, func(e Entry) {
		t.Entries++
		t.Bytes = AddSizes(t.Bytes, e.Size)
	})
	if err != nil {
		return Total{}, fmt.Errorf("read manifest: %w", err)
	}
	return t, nil
}
