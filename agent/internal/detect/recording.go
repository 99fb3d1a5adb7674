package detect

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"
	"unicode/utf8"
)

// Recording is everything that detection looked at on one machine: enough to
// describe it again anywhere, which is how odd hardware becomes a test.
type Recording struct {
	Comment   string                    `json:"comment"` // which machine, from where
	Files     map[string]string         `json:"files"`
	Binary    map[string][]byte         `json:"binary"` // files that are not text
	Links     map[string]string         `json:"links"`  // targets of symbolic links
	Names     map[string][]string       `json:"names"`  // of the files in a directory
	Addresses map[string][]netip.Prefix `json:"addresses"`
	Ethtool   map[string]Ethtool        `json:"ethtool"`
}

// Record describes this machine and answers what was looked at.
func Record(ctx context.Context, log *slog.Logger, comment string) (Recording, error) {
	rec := Recording{Comment: comment,
		Files: map[string]string{}, Binary: map[string][]byte{}, Links: map[string]string{}, Names: map[string][]string{},
		Addresses: map[string][]netip.Prefix{}, Ethtool: map[string]Ethtool{}}
	s := Source{
		Root: recorder{os.DirFS("/"), rec},
		Addresses: func(device string) []netip.Prefix {
			rec.Addresses[device] = addresses(device)
			return rec.Addresses[device]
		},
		Ethtool: func(device string) Ethtool { rec.Ethtool[device] = ethtool(device); return rec.Ethtool[device] },
	}
	_, err := s.Hardware(ctx, log)
	// A vendor's full list of names is not this machine's.
	delete(rec.Files, pciIDs)
	return rec, err
}

// Source plays the recording.
func (rec Recording) Source() Source {
	return Source{
		Root:      player{rec},
		Addresses: func(device string) []netip.Prefix { return rec.Addresses[device] },
		Ethtool:   func(device string) Ethtool { return rec.Ethtool[device] },
	}
}

// recorder notes every successful look at a file system.
type recorder struct {
	fs.FS
	rec Recording
}

// ReadFile implements fs.ReadFileFS.
func (r recorder) ReadFile(name string) ([]byte, error) {
	data, err := fs.ReadFile(r.FS, name)
	switch {
	case err != nil:
	case utf8.Valid(data):
		r.rec.Files[name] = string(data)
	default:
		r.rec.Binary[name] = data
	}
	return data, err
}

// ReadLink implements fs.ReadLinkFS.
func (r recorder) ReadLink(name string) (string, error) {
	target, err := fs.ReadLink(r.FS, name)
	if err == nil {
		r.rec.Links[name] = target
	}
	return target, err
}

// Lstat implements fs.ReadLinkFS.
func (r recorder) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(r.FS, name) }

// ReadDir implements fs.ReadDirFS.
func (r recorder) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.FS, name)
	for _, entry := range entries {
		r.rec.Names[name] = append(r.rec.Names[name], entry.Name())
	}
	slices.Sort(r.rec.Names[name])
	r.rec.Names[name] = slices.Compact(r.rec.Names[name])
	return entries, err
}

// player answers from a recording.
type player struct{ rec Recording }

func missing(operation, name string) error {
	return &fs.PathError{Op: operation, Path: name, Err: fs.ErrNotExist}
}

// Open implements fs.FS; a recording has no files that could be kept open.
func (p player) Open(name string) (fs.File, error) {
	return nil, fmt.Errorf("open %s: %w", name, fs.ErrInvalid)
}

// Stat implements fs.StatFS: there is everything that was looked at.
func (p player) Stat(name string) (fs.FileInfo, error) {
	_, isFile := p.rec.Files[name]
	_, isDir := p.rec.Names[name]
	if name != "sys/class" && !isFile && !isDir {
		return nil, missing("stat", name)
	}
	return entry(name), nil
}

// ReadFile implements fs.ReadFileFS.
func (p player) ReadFile(name string) ([]byte, error) {
	if data, ok := p.rec.Binary[name]; ok {
		return data, nil
	}
	if text, ok := p.rec.Files[name]; ok {
		return []byte(text), nil
	}
	return nil, missing("open", name)
}

// ReadLink implements fs.ReadLinkFS.
func (p player) ReadLink(name string) (string, error) {
	target, ok := p.rec.Links[name]
	if !ok {
		return "", missing("readlink", name)
	}
	return target, nil
}

// Lstat implements fs.ReadLinkFS.
func (p player) Lstat(name string) (fs.FileInfo, error) { return p.Stat(name) }

// ReadDir implements fs.ReadDirFS.
func (p player) ReadDir(name string) ([]fs.DirEntry, error) {
	names, ok := p.rec.Names[name]
	if !ok {
		return nil, missing("open", name)
	}
	var entries []fs.DirEntry
	for _, name := range names {
		entries = append(entries, entry(name))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// entry is a name; detection asks for nothing else.
type entry string

func (e entry) Name() string               { return string(e) }
func (e entry) IsDir() bool                { return true }
func (e entry) Type() fs.FileMode          { return fs.ModeDir }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) Size() int64                { return 0 }
func (e entry) Mode() fs.FileMode          { return fs.ModeDir }
func (e entry) ModTime() time.Time         { return time.Time{} }
func (e entry) Sys() any                   { return nil }
