// Package archive reads and writes trees of files as tar archives, compressed with
// zstd or not at all: it unpacks them to a disk with all attributes (Extract), or
// tells what they hold (Describe), packs them so that the same tree gives the same
// bytes (Pack, Normalize), and compresses them so that they are unpacked on several
// cores (NewWriter, Open). What hostile archives can make it do is bounded.
package archive

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"strings"
	"sync"
	"time"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
)

// defaultMaxBytes is Options.MaxBytes when it is 0.
const defaultMaxBytes = 1 << 40

// xattrRecord is the PAX record of an extended attribute, as star, GNU tar,
// libarchive and mmdebstrap write it.
const xattrRecord = "SCHILY.xattr."

// Options of Extract. The zero value works.
type Options struct {
	Workers    int  // as in fstree.Options
	SplitLinks bool // as in fstree.Options

	// MaxBytes is how much file content is accepted at most; 0 means 1 TiB.
	MaxBytes int64

	// MaxEntries is how many paths are accepted at most, with those of
	// directories that the archive only implies; 0 means manifest.MaxEntries.
	MaxEntries int
}

// Describe describes the tree in an uncompressed tar stream (PAX, GNU or
// ustar): hard links, devices, sparse files and extended attributes included,
// owners by number. Directories that the archive uses but does not hold are
// described as root's, mode 0755, of 1970-01-01.
func Describe(r io.Reader) (*manifest.Manifest, error) {
	m, err := read(r, Options{}, func(e *manifest.Entry, target string, content io.Reader) error {
		if e.Type != manifest.File || target != "" {
			return nil
		}
		return hashInto(e, io.Discard, content)
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Extract unpacks an uncompressed tar stream (see Open) below root, an existing
// directory, with all attributes, and answers the manifest of what the archive
// holds; manifest.Diff compares it with a published one, fstree.Verify proves the
// tree. The hashes in it are of the bytes that were written. An archive that
// leads outside is refused. After an error the tree is incomplete, and the paths
// answered are those that were begun, if any.
func Extract(ctx context.Context, r io.Reader, root string, o Options) (*manifest.Manifest, error) {
	w, err := fstree.NewWriter(ctx, root, fstree.Options{Workers: o.Workers, SplitLinks: o.SplitLinks})
	if err != nil {
		return nil, err
	}
	m, err := read(WithContext(ctx, r), o, w.Add)
	return m, w.Finish(ctx, m, err)
}

// WithContext ends a stream when the context ends.
func WithContext(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(b)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// buffers for copying file content.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// hashInto copies content to w and fills in its hash.
func hashInto(e *manifest.Entry, w io.Writer, content io.Reader) error {
	hash := sha256.New()
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	n, err := io.CopyBuffer(io.MultiWriter(w, hash), content, *buffer)
	if err == nil && n != e.Size {
		err = io.ErrUnexpectedEOF
	}
	hash.Sum(e.SHA256[:0])
	return err
}

// tarReader collects what an archive describes.
type tarReader struct {
	o       Options
	entries []manifest.Entry
	index   map[string]int
	implied map[string]bool // directories that were used before they were described
	groups  int
	bytes   int64
	size    manifest.Size // of the entries
}

// read reads an archive. take is called for every path in the order of the
// archive, after its directory: it consumes the content of a File and fills in
// its hash. target is not "" for a hard link, whose file was taken before.
// With an error it answers what was read before, if anything.
func read(r io.Reader, o Options, take takeFunc) (*manifest.Manifest, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = manifest.MaxEntries
	}
	t := tarReader{o: o, index: map[string]int{}, implied: map[string]bool{}}
	err := t.read(r, take)
	if err == nil {
		err = t.imply(".", take)
	} else {
		_ = t.imply(".", func(*manifest.Entry, string, io.Reader) error { return nil })
	}
	m, newErr := manifest.New(t.entries)
	if err == nil {
		err = newErr
	}
	if err != nil {
		return m, fmt.Errorf("read archive: %w", err)
	}
	return m, nil
}

func (t *tarReader) read(r io.Reader, take takeFunc) error {
	limited := &allowance{r: r, left: maxHeaders}
	in := tar.NewReader(limited)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		limited.left += memberBytes + min(h.Size, t.o.MaxBytes)
		if err := t.next(h, in, take); err != nil {
			return fmt.Errorf("%s: %w", manifest.Escape(h.Name), err)
		}
	}
}

// What an archive may have beside the content of files: so much in all for
// headers, and so much more for each member.
const (
	maxHeaders  = 64 << 20
	memberBytes = 4 << 10
)

// allowance reads as much as there is a reason for: pax records that mean
// nothing here make much of few packed bytes.
type allowance struct {
	r    io.Reader
	left int64
}

func (a *allowance) Read(b []byte) (int, error) {
	if a.left <= 0 {
		return 0, fmt.Errorf("%w: more than %d MB of headers", manifest.ErrInvalid, maxHeaders>>20)
	}
	n, err := a.r.Read(b[:min(int64(len(b)), a.left)])
	a.left -= int64(n)
	return n, err
}

type takeFunc = func(e *manifest.Entry, target string, content io.Reader) error

// next handles one header of the archive.
func (t *tarReader) next(h *tar.Header, content io.Reader, take takeFunc) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	e, target, err := t.entry(archivePath(h.Name), h)
	if err == nil {
		err = e.Check()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", manifest.ErrInvalid, err)
	}
	if target == "" {
		if t.bytes += e.Size; t.bytes > t.o.MaxBytes || t.bytes < 0 {
			return fmt.Errorf("%w: the archive holds more than %d bytes", manifest.ErrInvalid, t.o.MaxBytes)
		}
	}
	if err := t.place(e, take); err != nil {
		return err
	}
	return take(&t.entries[t.index[e.Path]], target, content)
}

// archivePath writes a member's name as a manifest's path: "./usr/" is "usr".
func archivePath(name string) string {
	name = strings.TrimSuffix(name, "/")
	for strings.HasPrefix(name, "./") {
		name = name[2:]
	}
	return name
}

// place adds an entry after the directories above it.
func (t *tarReader) place(e manifest.Entry, take takeFunc) error {
	if i, ok := t.index[e.Path]; ok {
		if e.Type != manifest.Dir || t.entries[i].Type != manifest.Dir || !t.implied[e.Path] && !sameDir(&e, &t.entries[i]) {
			return fmt.Errorf("%w: it is in the archive twice", manifest.ErrInvalid)
		}
		if err := t.size.Add(&e); err != nil {
			return fmt.Errorf("%w: %w", manifest.ErrInvalid, err)
		}
		delete(t.implied, e.Path)
		t.entries[i] = e
		return nil
	}
	if e.Path != "." {
		if err := t.imply(path.Dir(e.Path), take); err != nil {
			return err
		}
	}
	if len(t.entries) >= t.o.MaxEntries {
		return fmt.Errorf("%w: more than %d entries", manifest.ErrInvalid, t.o.MaxEntries)
	}
	if err := t.size.Add(&e); err != nil {
		return fmt.Errorf("%w: %w", manifest.ErrInvalid, err)
	}
	t.index[e.Path] = len(t.entries)
	t.entries = append(t.entries, e)
	return nil
}

func sameDir(a, b *manifest.Entry) bool { return len(manifest.Compare(a, b)) == 0 }

// imply sees to it that a directory is there before something is put in it.
func (t *tarReader) imply(dir string, take takeFunc) error {
	if i, ok := t.index[dir]; ok {
		if found := t.entries[i].Type; found != manifest.Dir {
			return fmt.Errorf("%w: %s above it is a %s", manifest.ErrInvalid, manifest.Escape(dir), found)
		}
		return nil
	}
	e := manifest.Entry{Path: dir, Type: manifest.Dir, Mode: 0o755, ModTime: time.Unix(0, 0).UTC()}
	if err := t.place(e, take); err != nil {
		return err
	}
	t.implied[dir] = true
	return take(&t.entries[t.index[dir]], "", strings.NewReader(""))
}

// entry makes an entry of a header; for a hard link it copies the entry of the
// target, whose path it answers.
func (t *tarReader) entry(name string, h *tar.Header) (e manifest.Entry, target string, err error) {
	if h.Typeflag == tar.TypeLink {
		return t.hardLink(name, archivePath(h.Linkname))
	}
	e = manifest.Entry{Path: name, Type: tarTypes[h.Typeflag], Mode: uint32(h.Mode) & 0o7777, ModTime: h.ModTime.UTC()}
	if e.Type == "" {
		return e, "", fmt.Errorf("member type %q is not known", h.Typeflag)
	}
	if h.Uid < 0 || h.Uid > math.MaxUint32 || h.Gid < 0 || h.Gid > math.MaxUint32 {
		return e, "", fmt.Errorf("owner %d:%d", h.Uid, h.Gid)
	}
	e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	switch e.Type {
	case manifest.File:
		e.Size = h.Size
	case manifest.Symlink:
		e.Link = h.Linkname
	case manifest.Block, manifest.Char:
		if h.Devmajor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor < 0 || h.Devminor > math.MaxUint32 {
			return e, "", fmt.Errorf("device %d,%d", h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	for record, value := range h.PAXRecords {
		if strings.HasPrefix(record, "SCHILY.acl.") {
			return e, "", errors.New("it has an ACL in text form (SCHILY.acl): pack it with --xattrs --xattrs-include='*' instead of --acls")
		}
		if xattr, ok := strings.CutPrefix(record, xattrRecord); ok && manifest.InTree(xattr) {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[xattr] = []byte(value)
		}
	}
	return e, "", nil
}

var tarTypes = map[byte]manifest.Type{tar.TypeReg: manifest.File, tar.TypeCont: manifest.File, tar.TypeGNUSparse: manifest.File, tar.TypeDir: manifest.Dir,
	tar.TypeSymlink: manifest.Symlink, tar.TypeChar: manifest.Char, tar.TypeBlock: manifest.Block, tar.TypeFifo: manifest.Fifo}

func (t *tarReader) hardLink(name, target string) (manifest.Entry, string, error) {
	i, ok := t.index[target]
	if !ok || t.entries[i].Type == manifest.Dir {
		return manifest.Entry{}, "", fmt.Errorf("it is a hard link to %s, which is not a file before it in the archive", manifest.Escape(target))
	}
	of := &t.entries[i]
	if of.Group == 0 {
		t.groups++
		of.Group = t.groups
	}
	e := *of
	e.Path = name
	e.Xattrs = maps.Clone(of.Xattrs)
	return e, target, nil
}
