package manifest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
	"unicode/utf8"
)

// TarOptions of Normalize and Pack.
type TarOptions struct {
	Options

	// Epoch is SOURCE_DATE_EPOCH: later modification times become this one.
	// Zero keeps all times.
	Epoch time.Time

	// Add are paths laid over the tree. They replace what has the same path;
	// their directories must be there or be added too.
	Add []AddedFile

	// SpoolDir is where Normalize keeps the files' content meanwhile, in one
	// file that has no name; "" means os.TempDir().
	SpoolDir string
}

// AddedFile is one path laid over a tree.
type AddedFile struct {
	Entry   Entry  // Size and SHA256 are filled in from Content
	Content []byte // of a File
}

// Normalize reads an uncompressed tar stream, as mmdebstrap writes it, and
// writes the same tree as a deterministic PAX tar: members in path order,
// names from "./", owners by number only, times clamped to the epoch, the first
// path of a hard-link group as the file. The same tree gives the same bytes.
// It answers the manifest of what it wrote.
func Normalize(ctx context.Context, w io.Writer, r io.Reader, o TarOptions) (*Manifest, error) {
	spool, err := newSpool(o.SpoolDir)
	if err != nil {
		return nil, err
	}
	defer spool.file.Close()
	m, err := readTar(withContext(ctx, r), o.Options, spool.take)
	if err != nil {
		return nil, err
	}
	if m, err = m.edit(o); err != nil {
		return nil, err
	}
	return m, m.writeTar(ctx, w, o, spool.open)
}

// Pack writes the tree at root in the same form. Sockets, which tar cannot
// hold and whose daemons make them anew, are left out.
func Pack(ctx context.Context, w io.Writer, root string, o TarOptions) (*Manifest, error) {
	m, err := Walk(ctx, root, Options{Workers: o.Workers, Exclude: o.Exclude})
	if err != nil {
		return nil, err
	}
	m.Entries = slices.DeleteFunc(m.Entries, func(e Entry) bool { return e.Type == Socket })
	if m, err = m.edit(o); err != nil {
		return nil, err
	}
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return m, m.writeTar(ctx, w, o, t.openFile)
}

// withContext ends a stream when the context ends.
func withContext(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(b)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// edit clamps times and lays the added paths over the tree.
func (m *Manifest) edit(o TarOptions) (*Manifest, error) {
	added := map[string]bool{}
	for _, a := range o.Add {
		added[a.Entry.Path] = true
	}
	entries := slices.DeleteFunc(m.Entries, func(e Entry) bool { return added[e.Path] })
	for _, a := range o.Add {
		e := a.Entry
		if e.Type == File {
			e.Size, e.SHA256 = int64(len(a.Content)), sha256.Sum256(a.Content)
		}
		entries = append(entries, e)
	}
	for i := range entries {
		if e := &entries[i]; !o.Epoch.IsZero() && e.ModTime.After(o.Epoch) {
			e.ModTime = o.Epoch.UTC()
		}
	}
	return New(entries)
}

// spool keeps the content of an archive's files while they are sorted.
type spool struct {
	file *os.File
	end  int64
	at   map[string]int64 // path -> where its content starts
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "edeploy-tar-")
	if err != nil {
		return nil, fmt.Errorf("spool archive: %w", err)
	}
	os.Remove(f.Name())
	return &spool{file: f, at: map[string]int64{}}, nil
}

func (s *spool) take(e *Entry, target string, content io.Reader) error {
	switch {
	case e.Type != File:
		return nil
	case target != "":
		s.at[e.Path] = s.at[target]
		return nil
	}
	s.at[e.Path] = s.end
	err := hashInto(e, s.file, content)
	s.end += e.Size
	return err
}

func (s *spool) open(e *Entry) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.file, s.at[e.Path], e.Size)), nil
}

// openFile opens the content of a regular file of the tree.
func (t *tree) openFile(e *Entry) (io.ReadCloser, error) {
	parent, name := split(e.Path)
	d, err := t.openDir(parent)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	n, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer n.close()
	if typeOf(&n.stat) != File {
		return nil, fmt.Errorf("read %s: it changed meanwhile", n.path)
	}
	return os.Open(n.proc())
}

// writeTar writes the tree as a deterministic PAX archive; open answers the
// content of files that were not added.
func (m *Manifest) writeTar(ctx context.Context, w io.Writer, o TarOptions, open func(*Entry) (io.ReadCloser, error)) error {
	out := tar.NewWriter(w)
	added := map[string][]byte{}
	for _, a := range o.Add {
		added[a.Entry.Path] = a.Content
	}
	p := progress{tell: o.Progress, total: m.TotalBytes()}
	first := map[int]string{} // group -> path of the member that holds the content
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		h := e.header(first[e.Group])
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("write archive: %s: %w", Escape(e.Path), err)
		}
		if e.Group != 0 && first[e.Group] == "" {
			first[e.Group] = e.Path
		}
		if e.Type != File || h.Typeflag == tar.TypeLink {
			p.add(int(e.Size))
			continue
		}
		source := open
		if content, ok := added[e.Path]; ok {
			source = func(*Entry) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		}
		if err := copyContent(out, e, source, &p); err != nil {
			return fmt.Errorf("write archive: %s: %w", Escape(e.Path), err)
		}
	}
	p.end()
	return out.Close()
}

// copyContent writes a file's content, and is sure that it is what the
// manifest describes.
func copyContent(w io.Writer, e *Entry, open func(*Entry) (io.ReadCloser, error), p *progress) error {
	content, err := open(e)
	if err != nil {
		return err
	}
	defer content.Close()
	copied := *e
	if err := hashInto(&copied, w, progressReader{io.LimitReader(content, e.Size), p}); err != nil {
		return err
	}
	if copied.SHA256 != e.SHA256 {
		return fmt.Errorf("it changed meanwhile")
	}
	return nil
}

// header is an entry's tar header; file is the path that a hard link is linked
// to, "" when the entry comes with its content.
func (e *Entry) header(file string) *tar.Header {
	h := &tar.Header{Format: tar.FormatPAX, Name: "./" + e.Path, Mode: int64(e.Mode),
		Uid: int(e.UID), Gid: int(e.GID), ModTime: e.ModTime, PAXRecords: map[string]string{}}
	if e.Path == "." {
		h.Name = "."
	}
	for name, value := range e.Xattrs {
		h.PAXRecords[xattrRecord+name] = string(value)
	}
	if e.Group != 0 && file != "" {
		h.Typeflag, h.Linkname, h.PAXRecords = tar.TypeLink, "./"+file, map[string]string{}
	}
	if !utf8.ValidString(h.Name) || !utf8.ValidString(h.Linkname) || !utf8.ValidString(e.Link) {
		h.PAXRecords["hdrcharset"] = "BINARY" // POSIX pax, "pax Extended Header": libarchive insists
	}
	if h.Typeflag == tar.TypeLink {
		return h
	}
	for flag, t := range tarTypes {
		if t == e.Type && flag != tar.TypeCont && flag != tar.TypeGNUSparse {
			h.Typeflag = flag
		}
	}
	switch e.Type {
	case Dir:
		h.Name += "/"
	case File:
		h.Size = e.Size
	case Symlink:
		h.Linkname = e.Link
	case Block, Char:
		h.Devmajor, h.Devminor = int64(e.Major), int64(e.Minor)
	}
	return h
}
