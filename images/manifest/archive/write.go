package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
	"unicode/utf8"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
)

// NormalizeOptions change the tree that Normalize writes.
type NormalizeOptions struct {
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
	Entry   manifest.Entry // Size and SHA256 are filled in from Content
	Content []byte         // of a File
}

// Normalize reads an uncompressed tar stream, as mmdebstrap writes it, and
// writes the same tree as a deterministic PAX tar: members in path order,
// names from "./", owners by number only, times clamped to the epoch, the first
// path of a hard-link group as the file. The same tree gives the same bytes.
// It answers the manifest of what it wrote.
func Normalize(ctx context.Context, w io.Writer, r io.Reader, o NormalizeOptions) (*manifest.Manifest, error) {
	spool, err := newSpool(o.SpoolDir)
	if err != nil {
		return nil, err
	}
	defer spool.file.Close()
	m, err := read(WithContext(ctx, r), Options{}, spool.take)
	if err != nil {
		return nil, err
	}
	if m, err = spool.edit(m, o); err != nil {
		return nil, err
	}
	return m, write(ctx, w, m, spool.open)
}

// Pack writes the tree at root in the same form. Sockets, which tar cannot
// hold and whose daemons make them anew, are left out.
func Pack(ctx context.Context, w io.Writer, root string) (*manifest.Manifest, error) {
	m, err := fstree.Walk(ctx, root, fstree.Options{})
	if err != nil {
		return nil, err
	}
	m.Entries = slices.DeleteFunc(m.Entries, func(e manifest.Entry) bool { return e.Type == manifest.Socket })
	if m, err = manifest.New(m.Entries); err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return m, write(ctx, w, m, func(e *manifest.Entry) (io.ReadCloser, error) { return dir.Open(e.Path) })
}

// edit clamps times and lays the added paths over the tree.
func (s *spool) edit(m *manifest.Manifest, o NormalizeOptions) (*manifest.Manifest, error) {
	for _, a := range o.Add {
		s.added[a.Entry.Path] = a.Content
	}
	entries := slices.DeleteFunc(m.Entries, func(e manifest.Entry) bool { _, ok := s.added[e.Path]; return ok })
	for _, a := range o.Add {
		e := a.Entry
		if e.Type == manifest.File {
			e.Size, e.SHA256 = int64(len(a.Content)), sha256.Sum256(a.Content)
		}
		entries = append(entries, e)
	}
	for i := range entries {
		if e := &entries[i]; !o.Epoch.IsZero() && e.ModTime.After(o.Epoch) {
			e.ModTime = o.Epoch.UTC()
		}
	}
	return manifest.New(entries)
}

// spool keeps the content of an archive's files while they are sorted.
type spool struct {
	file  *os.File
	end   int64
	at    map[string]int64  // path -> where its content starts
	added map[string][]byte // path -> content that is not in the file
}

func newSpool(dir string) (*spool, error) {
	f, err := os.CreateTemp(dir, "edeploy-tar-")
	if err != nil {
		return nil, fmt.Errorf("spool archive: %w", err)
	}
	os.Remove(f.Name())
	return &spool{file: f, at: map[string]int64{}, added: map[string][]byte{}}, nil
}

func (s *spool) take(e *manifest.Entry, target string, content io.Reader) error {
	switch {
	case e.Type != manifest.File:
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

func (s *spool) open(e *manifest.Entry) (io.ReadCloser, error) {
	if content, ok := s.added[e.Path]; ok {
		return io.NopCloser(bytes.NewReader(content)), nil
	}
	return io.NopCloser(io.NewSectionReader(s.file, s.at[e.Path], e.Size)), nil
}

// write writes a tree as a deterministic PAX archive; open answers the content of
// files.
func write(ctx context.Context, w io.Writer, m *manifest.Manifest, open func(*manifest.Entry) (io.ReadCloser, error)) error {
	out := tar.NewWriter(w)
	first := map[int]string{} // group -> path of the member that holds the content
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		h := header(e, first[e.Group])
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("write archive: %s: %w", manifest.Escape(e.Path), err)
		}
		if e.Group != 0 && first[e.Group] == "" {
			first[e.Group] = e.Path
		}
		if e.Type != manifest.File || h.Typeflag == tar.TypeLink {
			continue
		}
		if err := copyContent(out, e, open); err != nil {
			return fmt.Errorf("write archive: %s: %w", manifest.Escape(e.Path), err)
		}
	}
	return out.Close()
}

// copyContent writes a file's content, and is sure that it is what the
// manifest describes.
func copyContent(w io.Writer, e *manifest.Entry, open func(*manifest.Entry) (io.ReadCloser, error)) error {
	content, err := open(e)
	if err != nil {
		return err
	}
	defer content.Close()
	copied := *e
	if err := hashInto(&copied, w, io.LimitReader(content, e.Size)); err != nil {
		return err
	}
	if copied.SHA256 != e.SHA256 {
		return errors.New("it changed meanwhile")
	}
	return nil
}

// header is an entry's tar header; file is the path that a hard link is linked
// to, "" when the entry comes with its content.
func header(e *manifest.Entry, file string) *tar.Header {
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
	case manifest.Dir:
		h.Name += "/"
	case manifest.File:
		h.Size = e.Size
	case manifest.Symlink:
		h.Linkname = e.Link
	case manifest.Block, manifest.Char:
		h.Devmajor, h.Devminor = int64(e.Major), int64(e.Minor)
	}
	return h
}
