package manifest

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"strings"
	"time"
)

// defaultMaxBytes is Options.MaxBytes when it is 0.
const defaultMaxBytes = 1 << 40

// xattrRecord is the PAX record of an extended attribute, as star, GNU tar,
// libarchive and mmdebstrap write it.
const xattrRecord = "SCHILY.xattr."

// FromTar describes the tree in an uncompressed tar stream (PAX, GNU or
// ustar): hard links, devices, sparse files and extended attributes included,
// owners by number. Directories that the archive uses but does not hold are
// described as root's, mode 0755, of 1970-01-01.
func FromTar(r io.Reader, o Options) (*Manifest, error) {
	m, err := readTar(r, o, func(e *Entry, target string, content io.Reader) error {
		if e.Type != File || target != "" {
			return nil
		}
		return hashInto(e, io.Discard, content)
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// hashInto copies content to w and fills in its hash.
func hashInto(e *Entry, w io.Writer, content io.Reader) error {
	hash := sha256.New()
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(w, hash)}, onlyReader{content}, *buffer)
	if err == nil && n != e.Size {
		err = io.ErrUnexpectedEOF
	}
	hash.Sum(e.SHA256[:0])
	return err
}

// onlyWriter and onlyReader keep io.CopyBuffer to the buffer it is given.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }

// tarReader collects what an archive describes.
type tarReader struct {
	o       Options
	entries []Entry
	index   map[string]int
	implied map[string]bool // directories that were used before they were described
	groups  int
	bytes   int64
	size    size // of the entries
}

// readTar reads an archive. take is called for every path in the order of the
// archive, after its directory: it consumes the content of a File and fills in
// its hash. target is not "" for a hard link, whose file was taken before.
// With an error it answers what was read before, if anything.
func readTar(r io.Reader, o Options, take takeFunc) (*Manifest, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = MaxEntries
	}
	t := tarReader{o: o, size: size{most: standard}, index: map[string]int{}, implied: map[string]bool{}}
	err := t.read(r, take)
	if err == nil {
		err = t.imply(".", take)
	} else {
		_ = t.imply(".", func(*Entry, string, io.Reader) error { return nil })
	}
	m, newErr := New(t.entries)
	if err == nil {
		err = newErr
	}
	if err != nil {
		return m, fmt.Errorf("read archive: %w", err)
	}
	return m, nil
}

func (t *tarReader) read(r io.Reader, take takeFunc) error {
	p := progress{tell: t.o.Progress, total: -1}
	limited := &allowance{r: r, left: maxHeaders}
	in := tar.NewReader(limited)
	for {
		h, err := in.Next()
		if err == io.EOF {
			p.end()
			return nil
		}
		if err != nil {
			return err
		}
		limited.left += memberBytes + min(h.Size, t.o.MaxBytes)
		if err := t.next(h, progressReader{in, &p}, take); err != nil {
			return fmt.Errorf("%s: %w", Escape(h.Name), err)
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
		return 0, fmt.Errorf("%w: more than %d MB of headers", ErrInvalid, maxHeaders>>20)
	}
	n, err := a.r.Read(b[:min(int64(len(b)), a.left)])
	a.left -= int64(n)
	return n, err
}

type progressReader struct {
	io.Reader
	p *progress
}

func (r progressReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.p.add(n)
	return n, err
}

type takeFunc = func(e *Entry, target string, content io.Reader) error

// next handles one header of the archive.
func (t *tarReader) next(h *tar.Header, content io.Reader, take takeFunc) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	path := archivePath(h.Name)
	if err := checkPath(path); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if t.excluded(path) {
		return nil
	}
	e, target, err := t.entry(path, h)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if target == "" {
		if t.bytes += e.Size; t.bytes > t.o.MaxBytes || t.bytes < 0 {
			return fmt.Errorf("%w: the archive holds more than %d bytes", ErrInvalid, t.o.MaxBytes)
		}
	}
	if err := t.place(e, take); err != nil {
		return err
	}
	i := t.index[path]
	if err := take(&t.entries[i], target, content); err != nil {
		return err
	}
	return nil
}

// archivePath writes a member's name as a manifest's path: "./usr/" is "usr".
func archivePath(name string) string {
	name = strings.TrimSuffix(name, "/")
	for strings.HasPrefix(name, "./") {
		name = name[2:]
	}
	return name
}

func (t *tarReader) excluded(path string) bool {
	if t.o.Exclude == nil {
		return false
	}
	for i := range len(path) {
		if path[i] == '/' && t.o.Exclude(path[:i]) {
			return true
		}
	}
	return path != "." && t.o.Exclude(path)
}

// place adds an entry after the directories above it.
func (t *tarReader) place(e Entry, take takeFunc) error {
	if i, ok := t.index[e.Path]; ok {
		if e.Type != Dir || t.entries[i].Type != Dir || !t.implied[e.Path] && !sameDir(&e, &t.entries[i]) {
			return fmt.Errorf("%w: it is in the archive twice", ErrInvalid)
		}
		if err := t.size.add(&e); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		delete(t.implied, e.Path)
		t.entries[i] = e
		return nil
	}
	if e.Path != "." {
		dir, _ := split(e.Path)
		if err := t.imply(dir, take); err != nil {
			return err
		}
	}
	if len(t.entries) >= t.o.MaxEntries {
		return fmt.Errorf("%w: more than %d entries", ErrInvalid, t.o.MaxEntries)
	}
	if err := t.size.add(&e); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	t.index[e.Path] = len(t.entries)
	t.entries = append(t.entries, e)
	return nil
}

func sameDir(a, b *Entry) bool { return len(compareAttributes(a, b)) == 0 }

// imply sees to it that a directory is there before something is put in it.
func (t *tarReader) imply(dir string, take takeFunc) error {
	if i, ok := t.index[dir]; ok {
		if found := t.entries[i].Type; found != Dir {
			return fmt.Errorf("%w: %s above it is a %s", ErrInvalid, Escape(dir), found)
		}
		return nil
	}
	e := Entry{Path: dir, Type: Dir, Mode: 0o755, ModTime: time.Unix(0, 0).UTC()}
	if err := t.place(e, take); err != nil {
		return err
	}
	t.implied[dir] = true
	return take(&t.entries[t.index[dir]], "", strings.NewReader(""))
}

// entry makes an entry of a header; for a hard link it copies the entry of the
// target, whose path it answers.
func (t *tarReader) entry(path string, h *tar.Header) (e Entry, target string, err error) {
	if h.Typeflag == tar.TypeLink {
		return t.hardLink(path, archivePath(h.Linkname))
	}
	e = Entry{Path: path, Type: tarTypes[h.Typeflag], Mode: uint32(h.Mode) & 0o7777, ModTime: h.ModTime.UTC()}
	if e.Type == "" {
		return e, "", fmt.Errorf("member type %q is not known", h.Typeflag)
	}
	if h.Uid < 0 || h.Uid > math.MaxUint32 || h.Gid < 0 || h.Gid > math.MaxUint32 {
		return e, "", fmt.Errorf("owner %d:%d", h.Uid, h.Gid)
	}
	e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	switch e.Type {
	case File:
		e.Size = h.Size
	case Symlink:
		e.Link = h.Linkname
	case Block, Char:
		if h.Devmajor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor < 0 || h.Devminor > math.MaxUint32 {
			return e, "", fmt.Errorf("device %d,%d", h.Devmajor, h.Devminor)
		}
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	for record, value := range h.PAXRecords {
		if strings.HasPrefix(record, "SCHILY.acl.") {
			return e, "", errors.New("it has an ACL in text form (SCHILY.acl): pack it with --xattrs --xattrs-include='*' instead of --acls")
		}
		if name, ok := strings.CutPrefix(record, xattrRecord); ok && belongs(name) {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[name] = []byte(value)
		}
	}
	return e, "", nil
}

var tarTypes = map[byte]Type{tar.TypeReg: File, tar.TypeCont: File, tar.TypeGNUSparse: File, tar.TypeDir: Dir,
	tar.TypeSymlink: Symlink, tar.TypeChar: Char, tar.TypeBlock: Block, tar.TypeFifo: Fifo}

func (t *tarReader) hardLink(path, target string) (Entry, string, error) {
	i, ok := t.index[target]
	if !ok || t.entries[i].Type == Dir {
		return Entry{}, "", fmt.Errorf("it is a hard link to %s, which is not a file before it in the archive", Escape(target))
	}
	of := &t.entries[i]
	if of.Group == 0 {
		t.groups++
		of.Group = t.groups
	}
	e := *of
	e.Path = path
	e.Xattrs = maps.Clone(of.Xattrs)
	return e, target, nil
}
