// Package archive keeps files that machines send: hardware descriptions and
// logs. Names come from the network, so they are cleaned and opened inside one
// directory; and the directory cannot grow without bound.
package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"edeploy/server/internal/literal"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Suffixes of the files.
const (
	HardwareSuffix = ".hw"
	LogSuffix      = ".log.gz"
)

// ErrFull: the directory holds as much as it may.
var ErrFull = errors.New("no more room for files of machines")

// Archive is a directory for files of one suffix. It is safe for concurrent
// use; do not copy it.
type Archive struct {
	Dir      string
	Suffix   string
	MaxBytes int64 // of all files with the suffix together
	MaxFiles int   // of them
	KeepEach int   // older versions of one log that are kept

	mu    sync.Mutex
	sizes map[string]int64 // of the descriptions, as far as known; nil: not looked yet
	total int64            // of sizes
}

// CleanName makes a file name without suffix of a name from the network:
// letters, digits, "_", "-" and dots that do not lead.
func CleanName(s string) string {
	s = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_.-", c) {
			return c
		}
		return -1
	}, s)
	s = strings.TrimLeft(s, ".")
	return s[:min(len(s), 150)]
}

// file is one kept file.
type file struct {
	name  string
	bytes int64
	mtime time.Time
}

func (a *Archive) open() (*os.Root, []file, error) {
	root, err := os.OpenRoot(a.Dir)
	if err != nil {
		return nil, nil, err
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		root.Close()
		return nil, nil, err
	}
	a.sweep(root, entries)
	var files []file
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), a.Suffix) {
			continue // removed meanwhile, or none of ours
		}
		files = append(files, file{e.Name(), info.Size(), info.ModTime()})
	}
	return root, files, nil
}

// SaveHardware keeps a description as NAME.hw, a Python literal with one tuple
// a line, in the place of an older one. When the directory is full (ErrFull)
// nothing is removed: the descriptions may be the operator's.
func (a *Archive) SaveHardware(name string, h wire.Hardware) (string, error) {
	name = CleanName(name) + a.Suffix
	text := []byte(Literal(h))
	if err := a.reserve(name, int64(len(text))); err != nil {
		return "", fmt.Errorf("save %s: %w", name, err)
	}
	root, err := os.OpenRoot(a.Dir)
	if err != nil {
		return "", fmt.Errorf("save %s: %w", name, err)
	}
	defer root.Close()
	if err := writeFile(root, name, text); err != nil {
		a.forgetSizes()
		return "", fmt.Errorf("save %s: %w", name, err)
	}
	return name, nil
}

// writeFile writes a file whole, under its name, and has the kernel begin to bring
// it to the disk without waiting for that. When the power fails within the next
// seconds, a description may be lost: the machine sends it again, and nothing
// that it was promised depends on it.
func writeFile(root *os.Root, name string, text []byte) error {
	temporary := fmt.Sprintf(".%s.%08x", name, rand.Uint32())
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		// Not every file system can; then it is written when the kernel likes.
		_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		_ = root.Remove(temporary) // the error to tell is the other one
	}
	return err
}

// torn is when a temporary file has been left by a killed process.
const torn = time.Hour

// sweep removes temporary files that were left.
func (a *Archive) sweep(root *os.Root, entries []fs.DirEntry) {
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), ".") || !strings.Contains(e.Name(), a.Suffix+".") {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > torn {
			_ = root.Remove(e.Name()) // only tidiness: the name is never read
		}
	}
}

// reserve takes room for a file; the writing itself is done by many side by
// side.
func (a *Archive) reserve(name string, size int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.makeSure(name, size); err != nil {
		return err
	}
	a.total += size - a.sizes[name]
	a.sizes[name] = size
	return nil
}

// forgetSizes forgets what is known about the directory.
func (a *Archive) forgetSizes() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sizes = nil
}

// makeSure makes sure that there is room for a file. The directory is read
// only when it is not known, or seems to be full: with thousands of
// descriptions that takes its time.
func (a *Archive) makeSure(name string, size int64) error {
	if a.sizes != nil && a.room(name, size) {
		return nil
	}
	root, files, err := a.open()
	if err != nil {
		return err
	}
	root.Close()
	a.sizes, a.total = map[string]int64{}, 0
	for _, f := range files {
		a.sizes[f.name] = f.bytes
		a.total += f.bytes
	}
	if !a.room(name, size) {
		return fmt.Errorf("%w: %s has %d of them", ErrFull, a.Dir, len(files))
	}
	return nil
}

func (a *Archive) room(name string, size int64) bool {
	count, total := len(a.sizes), a.total+size
	if old, ok := a.sizes[name]; ok {
		total -= old
	} else {
		count++
	}
	return count <= a.MaxFiles && total <= a.MaxBytes
}

// Literal writes a description as the .hw files have it.
func Literal(h wire.Hardware) string {
	var b strings.Builder
	b.WriteString("[")
	for i, f := range h {
		if i > 0 {
			b.WriteString(",\n ")
		}
		b.WriteString(literal.Repr(literal.Tuple{f.Category, f.ID, f.Field, f.Value}))
	}
	b.WriteString("]\n")
	return b.String()
}

// SaveLog keeps the temporary file spooled as NAME.log.gz. An older log of
// that name first becomes NAME.YYYYMMDDhhmmss.log.gz, with its own time, UTC
// (reference section 4.6). Of the older ones the newest KeepEach stay; then the
// oldest logs of any machine go until the directory is within its bounds.
func (a *Archive) SaveLog(name, spooled string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	stem := CleanName(strings.TrimSuffix(name, a.Suffix))
	if stem == "" {
		stem = "unknown"
	}
	name = stem + a.Suffix
	root, files, err := a.open()
	if err != nil {
		return "", fmt.Errorf("save log %s: %w", name, err)
	}
	defer root.Close()
	if i := slices.IndexFunc(files, func(f file) bool { return f.name == name }); i >= 0 {
		if files[i].name, err = date(root, files, files[i], stem, a.Suffix); err != nil {
			return "", fmt.Errorf("save log %s: %w", name, err)
		}
	}
	size, err := move(root, name, spooled)
	if err != nil {
		return "", fmt.Errorf("save log %s: %w", name, err)
	}
	for _, old := range a.surplus(files, stem, size) {
		if err := root.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return name, fmt.Errorf("remove old log %s: %w", old, err)
		}
	}
	return name, nil
}

// date gives the present log its dated name and answers it.
func date(root *os.Root, files []file, f file, stem, suffix string) (string, error) {
	taken := func(name string) bool {
		return slices.ContainsFunc(files, func(f file) bool { return f.name == name })
	}
	at := f.mtime
	for {
		dated := stem + "." + at.UTC().Format("20060102150405") + suffix
		if !taken(dated) {
			return dated, root.Rename(f.name, dated)
		}
		at = at.Add(time.Second) // two logs within one second
	}
}

// move moves the spooled file into root, copying when it is on another file
// system.
func move(root *os.Root, name, spooled string) (int64, error) {
	in, err := os.Open(spooled)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := renameio.NewPendingFile(name, renameio.WithRoot(root), renameio.WithPermissions(0o644))
	if err != nil {
		return 0, err
	}
	defer out.Cleanup()
	n, err := io.Copy(out, in)
	if err != nil {
		return 0, err
	}
	return n, out.CloseAtomicallyReplace()
}

// surplus decides which old logs go, when a new one of size bytes has come.
func (a *Archive) surplus(files []file, stem string, size int64) []string {
	slices.SortFunc(files, func(x, y file) int { return cmp.Or(y.mtime.Compare(x.mtime), strings.Compare(y.name, x.name)) })
	var gone []string
	same, count, bytes := 0, 1, size
	for _, f := range files { // newest first
		mine := isDated(f.name, stem, a.Suffix)
		if mine {
			same++
		}
		if mine && same > a.KeepEach || count+1 > a.MaxFiles || bytes+f.bytes > a.MaxBytes {
			gone = append(gone, f.name)
			continue
		}
		count++
		bytes += f.bytes
	}
	return gone
}

// isDated: name is STEM.YYYYMMDDhhmmss.log.gz.
func isDated(name, stem, suffix string) bool {
	date, ok := strings.CutPrefix(strings.TrimSuffix(name, suffix), stem+".")
	_, err := time.Parse("20060102150405", date)
	return ok && err == nil
}
