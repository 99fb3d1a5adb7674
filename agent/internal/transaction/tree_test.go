package transaction_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"edeploy/agent/internal/filter"
	"edeploy/agent/internal/plan"
	"edeploy/agent/internal/transaction"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build makes a tree of words: "usr/app=2" is a file with content 2, "usr/" a
// directory, "h&usr/app" another name of a file, "l>usr" a symbolic link, "f|" a
// fifo, "s$" a socket, "n!1,3" a character device. After ";" come mode=4755,
// uid=7, time=3, cap, acl, dacl, user=x, big (content 300,000 times), sparse (a
// hole before the content). Directories are made as needed; what has no time
// gets one from its content or kind, so that nothing has the present time.
func build(t testing.TB, root string, words ...string) {
	t.Helper()
	type pending struct {
		path, options string
		time          int64
	}
	var all []pending
	dirs := map[string]string{}
	for _, word := range words {
		word, options, _ := strings.Cut(word, ";")
		at := strings.IndexAny(word, "=&>|$!")
		name, value := word, ""
		if at >= 0 {
			name, value = word[:at], word[at+1:]
		}
		full := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			dirs[filepath.Clean(full)] = options
		}
		for up := filepath.Dir(filepath.Clean(full)); len(up) >= len(root); up = filepath.Dir(up) {
			if _, ok := dirs[up]; !ok {
				dirs[up] = ""
			}
		}
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(full, 0o700))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(full), 0o700))
		when := int64(1e9) + int64(len(value))
		for _, c := range value {
			when += int64(c) * 1000
		}
		switch word[at] {
		case '=':
			content := value
			if strings.Contains(options, "big") {
				content = strings.Repeat(value, 300_000)
			}
			f, err := os.Create(full)
			must(t, err)
			offset := int64(0)
			if strings.Contains(options, "sparse") {
				offset = 1 << 20
			}
			_, err = f.WriteAt([]byte(content), offset)
			must(t, errors.Join(err, f.Close()))
		case '&':
			must(t, os.Link(filepath.Join(root, value), full))
			continue
		case '>':
			must(t, os.Symlink(value, full))
		case '|':
			must(t, unix.Mkfifo(full, 0o600))
		case '$':
			must(t, unix.Mknod(full, unix.S_IFSOCK|0o600, 0))
		case '!':
			var major, minor uint32
			fmt.Sscanf(value, "%d,%d", &major, &minor)
			must(t, unix.Mknod(full, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))))
		}
		all = append(all, pending{full, options, when})
	}
	for _, p := range all {
		dress(t, p.path, p.options, p.time)
	}
	if _, ok := dirs[filepath.Clean(root)]; !ok {
		dirs[filepath.Clean(root)] = ""
	}
	for _, dir := range slices.Backward(slices.Sorted(maps.Keys(dirs))) {
		dress(t, dir, dirs[dir], 9e8)
	}
}

// xattrValues are attributes in the form of the kernel: cap_net_raw=ep, and an
// ACL with an entry for user 7.
var xattrValues = map[string][2]string{
	"cap":  {"security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
	"acl":  {"system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x07\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"},
	"dacl": {"system.posix_acl_default", "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x05\x00\x07\x00\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"},
}

func dress(t testing.TB, full, options string, when int64) {
	t.Helper()
	st, err := os.Lstat(full)
	must(t, err)
	link := st.Mode()&os.ModeSymlink != 0
	mode := uint32(0o644)
	if st.IsDir() {
		mode = 0o755
	}
	uid := 0
	var xattrs [][2]string
	for option := range strings.SplitSeq(options, ";") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "mode":
			n, err := strconv.ParseUint(value, 8, 32)
			must(t, err)
			mode = uint32(n)
		case "uid":
			uid, err = strconv.Atoi(value)
			must(t, err)
		case "time":
			n, err := strconv.Atoi(value)
			must(t, err)
			when = 1e9 + int64(n)*86400
		case "cap", "acl", "dacl":
			xattrs = append(xattrs, xattrValues[key])
		case "user":
			xattrs = append(xattrs, [2]string{"user.test", value})
		}
	}
	must(t, os.Lchown(full, uid, uid))
	if !link {
		must(t, unix.Chmod(full, mode))
	}
	for _, x := range xattrs {
		must(t, unix.Lsetxattr(full, x[0], []byte(x[1]), 0))
	}
	times := []unix.Timespec{{Sec: 1e9}, {Sec: when, Nsec: 123456789}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, full, times, unix.AT_SYMLINK_NOFOLLOW))
}

// describe is the tree without what belongs to transactions.
func describe(t testing.TB, root string) *manifest.Manifest {
	t.Helper()
	m, err := fstree.Walk(context.Background(), root, fstree.Options{Workers: 2, Exclude: func(p string) bool {
		return p == transaction.Dir || strings.HasSuffix(p, "/"+transaction.Dir) || strings.HasSuffix(p, "lost+found")
	}})
	must(t, err)
	return m
}

func wantSame(t testing.TB, what string, want, got *manifest.Manifest) {
	t.Helper()
	var lines []string
	for _, d := range manifest.Diff(want, got) {
		lines = append(lines, d.String())
	}
	if len(lines) > 0 {
		t.Errorf("%s (wanted -> found):\n%s", what, strings.Join(lines, "\n"))
	}
}

// tree is a Source: a directory.
type tree string

func (s tree) Open(_ context.Context, e *manifest.Entry) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(s), e.Path))
}

// guard is a Guard that notes whether it is armed, and wants it changed only once.
type guard struct {
	mu    sync.Mutex
	armed bool
	arms  int
	fails error
}

func (g *guard) Arm(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed, g.arms = true, g.arms+1
	return g.fails
}

func (g *guard) Disarm(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.armed = false
	return nil
}

var (
	before = wire.ImageRef{Role: "base", Version: "D12-F.1.0.0"}
	after  = wire.ImageRef{Role: "base", Version: "D12-F.1.0.1"}
)

// lab is a machine and the tree of its next version.
type lab struct {
	root, source string
	machine      transaction.Machine
	guard        *guard
}

func newLab(t testing.TB, disk, target []string) *lab {
	t.Helper()
	return newLabIn(t, inMemory(t), inMemory(t), disk, target)
}

// inMemory is a temporary directory that needs no disk, where there is one:
// for tests that make many.
func inMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "transaction-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newLabIn(t testing.TB, root, source string, disk, target []string) *lab {
	t.Helper()
	needs.Root(t)
	l := &lab{root: root, source: source, guard: &guard{}}
	l.machine = transaction.Machine{Root: l.root, Guard: l.guard}
	build(t, l.source, target...)
	build(t, l.root, disk...)
	return l
}

// upgrade plans one.
func (l *lab) upgrade(t testing.TB, exclude, addOnly string) transaction.Upgrade {
	t.Helper()
	u := transaction.Upgrade{From: before, To: after, Target: describe(t, l.source), Source: tree(l.source)}
	x, err := filter.Parse("/"+transaction.Dir+"\nlost+found\n"+strings.ReplaceAll(exclude, ",", "\n"), filter.Exclude)
	must(t, err)
	if addOnly == "" {
		addOnly = "- *"
	}
	a, err := filter.Parse(strings.ReplaceAll(addOnly, ",", "\n"), filter.Include)
	must(t, err)
	u.Disk, err = plan.Scan(context.Background(), l.root, u.Target, x, nil)
	must(t, err)
	u.Plan, err = plan.New(u.Target, u.Disk, x, a)
	must(t, err)
	return u
}

// wantPhase checks what Status says.
func (l *lab) wantPhase(t testing.TB, want transaction.Phase) {
	t.Helper()
	s, err := l.machine.Status()
	must(t, err)
	if diff := cmp.Diff(want, s.Phase); diff != "" {
		t.Errorf("phase (-want +got):\n%s", diff)
	}
	if l.guard.armed {
		t.Error("the guard is still armed")
	}
}
