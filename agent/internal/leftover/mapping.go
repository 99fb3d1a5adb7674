package leftover

import (
	"bufio"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"edeploy/agent/internal/transaction"
	"edeploy/images/manifest"

	"golang.org/x/sys/unix"
)

// mapping is a file in the memory of a process.
type mapping struct {
	path    string // as the kernel shows it now, without " (deleted)"
	deleted bool
	inode   uint64
}

// parseMapping parses a line of /proc/PID/maps, such as
//
//	7f4a0000-7f4a2000 r-xp 00026000 08:01 3412   /usr/lib/libc.so.6 (deleted)
//
// and answers whether it is a file that is mapped as executable.
func parseMapping(line string) (m mapping, ok bool) {
	fields := strings.SplitN(line, " ", 6) // address, permissions, offset, device, inode, path
	if len(fields) < 6 || !strings.Contains(fields[1], "x") {
		return m, false
	}
	inode, err := strconv.ParseUint(fields[4], 10, 64)
	path := strings.TrimLeft(fields[5], " ")
	if err != nil || inode == 0 || !strings.HasPrefix(path, "/") {
		return m, false // anonymous, or the kernel's: [vdso]
	}
	path, deleted := strings.CutSuffix(path, " (deleted)")
	return mapping{strings.ReplaceAll(path, `\012`, "\n"), deleted, inode}, true
}

// Bounds of what is read of one process. The kernel allows 65530 mappings unless told
// otherwise (vm.max_map_count).
const (
	maxMaps = 64 << 20
	maxLine = 64 << 10
)

type tree struct {
	root     string   // "/"
	kept     []string // directories of transactions: "/.edeploy/", "/var/.edeploy/"
	manifest func() (*manifest.Manifest, error)
	files    *manifest.Manifest           // once it was asked for
	inode    func(path string) (n uint64) // of what is there now, 0 when nothing is
}

// keep says that a file system is mounted at a directory.
func (t *tree) keep(mount string) {
	t.kept = append(t.kept, strings.TrimSuffix(mount, "/")+"/"+transaction.Dir+"/")
}

// anyReplaced reads the text of maps up to the first file that was replaced.
func (t *tree) anyReplaced(maps io.Reader) (bool, error) {
	lines := bufio.NewScanner(io.LimitReader(maps, maxMaps))
	lines.Buffer(nil, maxLine)
	last := mapping{}
	for lines.Scan() {
		m, ok := parseMapping(lines.Text())
		if !ok || m == last {
			continue
		}
		last = m
		if replaced, err := t.replaced(m); replaced || err != nil {
			return replaced, err
		}
	}
	if err := lines.Err(); !errors.Is(err, bufio.ErrTooLong) {
		return false, err
	}
	return false, nil // a path of that length is none of a tree
}

// escaped is the path of a file that is no longer below the mount it was opened
// through.
const escaped = "/"

// replaced decides (see the package comment).
func (t *tree) replaced(m mapping) (bool, error) {
	if m.path == escaped || t.isKept(m.path) {
		return true, nil
	}
	if !m.deleted {
		return false, nil
	}
	ours, err := t.has(m.path)
	return ours && t.inode(m.path) != m.inode, err
}

// isKept tells whether a path lies in the directory of a transaction.
func (t *tree) isKept(path string) bool {
	for _, dir := range t.kept {
		rest, ok := strings.CutPrefix(path, dir)
		number, _, deep := strings.Cut(rest, "/")
		if _, err := strconv.ParseUint(number, 10, 32); ok && deep && err == nil {
			return true
		}
	}
	return false
}

// has tells whether a path is a file of the installed tree.
func (t *tree) has(path string) (bool, error) {
	name, ok := strings.CutPrefix(path, strings.TrimSuffix(t.root, "/")+"/")
	if !ok || t.manifest == nil {
		return false, nil
	}
	if t.files == nil {
		files, err := t.manifest()
		if err != nil {
			return false, err
		}
		t.files = files
	}
	e, ok := t.files.Lookup(filepath.Clean(name))
	return ok && e.Type == manifest.File, nil
}

func inodeOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	return st.Ino
}
