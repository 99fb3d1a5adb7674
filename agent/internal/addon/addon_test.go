package addon_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"edeploy/agent/internal/addon"
	"edeploy/agent/internal/source"
	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

// file is one of a tree: "->" begins a link, "/" is a directory.
type file = map[string]string

func plant(t *testing.T, files file) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		at := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o755))
		switch link, isLink := strings.CutPrefix(content, "->"); {
		case isLink:
			must(t, os.Symlink(link, at))
		case content == "/":
			must(t, os.MkdirAll(at, 0o755))
		default:
			must(t, os.WriteFile(at, []byte(content), 0o755))
		}
	}
	return dir
}

// look is the inverse of plant, of what is no directory.
func look(t *testing.T, dir string) file {
	t.Helper()
	got := file{}
	must(t, filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		name := strings.TrimPrefix(p, dir+"/")
		if err != nil || info.IsDir() {
			return err
		}
		if link, err := os.Readlink(p); err == nil {
			got[name] = "->" + link
			return nil
		}
		text, err := os.ReadFile(p)
		got[name] = string(text)
		return err
	}))
	return got
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pack answers the archive and the manifest of a tree, as they are published.
func pack(t *testing.T, dir string) (packed, text []byte) {
	t.Helper()
	var a, m bytes.Buffer
	w, err := archive.NewWriter(&a)
	must(t, err)
	described, err := archive.Pack(t.Context(), w, dir)
	must(t, errors.Join(err, w.Close()))
	_, err = described.WriteTo(&m)
	must(t, err)
	return a.Bytes(), m.Bytes()
}

// ramdisk is one that has its add-ons from the handler.
func ramdisk(t *testing.T, root string, handler http.HandlerFunc, log *bytes.Buffer) addon.Ramdisk {
	t.Helper()
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	host, port, err := net.SplitHostPort(web.Listener.Addr().String())
	must(t, err)
	args := wire.DefaultBootArgs()
	args.Serv = host
	args.HTTPPort, err = strconv.Atoi(port)
	must(t, err)
	return addon.Ramdisk{
		Transfer: source.Transfer{Log: slog.New(slog.NewTextHandler(log, nil)), FirstPause: time.Millisecond, LongestPause: 10 * time.Millisecond, Patience: 10 * time.Second},
		Args:     args, Root: root, Memory: func() (int64, error) { return 100e6, nil },
	}
}

// published serves an add-on under its name.
func published(name string, packed, text []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		content := map[string][]byte{name + ".edeploy": packed, name + ".mtree": text}[path.Base(r.URL.Path)]
		if content == nil {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(content))
	}
}

var ramdiskFiles = file{"init": "init", "usr/bin/sh": "sh", "usr/bin/tool": "old", "bin": "->usr/bin", "lib64": "->usr/lib64", "usr/lib64/ld.so": "ld",
	"etc/mtab": "->/proc/self/mounts", "usr/lib/x": "->/nowhere"}

func TestLay(t *testing.T) {
	packed, text := pack(t, plant(t, file{"usr/bin/tool": "new", "bin/python": "->tool", "usr/lib/python3/os.py": "import sys", "lib64": "->usr/lib64",
		"opt/vendor/a": "a", "usr/lib/empty": "/", "etc/mtab": "->elsewhere", "usr/lib/x": "x"}))
	root := plant(t, ramdiskFiles)
	var log bytes.Buffer
	away := 3
	files := published("tools", packed, text)
	r := ramdisk(t, root, func(w http.ResponseWriter, r *http.Request) {
		if away--; away >= 0 {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		files(w, r)
	}, &log)
	for range 2 { // the second time all is there
		must(t, r.Lay(t.Context(), "tools"))
	}
	want := file{"init": "init", "usr/bin/sh": "sh", "usr/bin/tool": "new", "bin": "->usr/bin", "usr/bin/python": "->tool", "lib64": "->usr/lib64", "usr/lib64/ld.so": "ld",
		"usr/lib/python3/os.py": "import sys", "opt/vendor/a": "a", "etc/mtab": "->elsewhere", "usr/lib/x": "x"}
	if diff := cmp.Diff(want, look(t, root)); diff != "" {
		t.Errorf("ramdisk (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(filepath.Join(root, "usr/lib/empty")); err != nil || !info.IsDir() {
		t.Errorf("an empty directory: %v", err)
	}
	if info, err := os.Stat(filepath.Join(root, "usr/bin/tool")); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode of a program: %v, %v", info.Mode(), err)
	}
	for _, want := range []string{"add-on tools: 0 MB, from " + r.Args.AddonURL("tools"), "waiting for 127.0.0.1:"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log %q, want %q", log.String(), want)
		}
	}
}

// What is refused leaves the ramdisk as it was.
func TestRefused(t *testing.T) {
	tool := file{"usr/bin/tool": strings.Repeat("new", 100_000), "usr/bin/other": "x"}
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0xff
		return b
	}
	for _, tt := range []struct {
		name   string
		tree   file
		addon  string // default tools
		change func(packed, text []byte) ([]byte, []byte)
		memory int64 // free; default 100 MB
		want   string
	}{
		{name: "damaged", tree: tool, change: func(p, m []byte) ([]byte, []byte) { return flip(p, len(p)/2), m }, want: "/boot/file/addons/tools.edeploy: "},
		{name: "truncated", tree: tool, change: func(p, m []byte) ([]byte, []byte) { return p[:len(p)/2], m }, want: "unexpected EOF"},
		{name: "another tree than its manifest's", tree: tool, change: func(p, m []byte) ([]byte, []byte) {
			return p, bytes.Replace(m, []byte("sha256digest="), []byte("sha256digest=ffff"), 1)
		}, want: "manifest of the tree: "},
		{name: "other content than its manifest's", tree: tool, change: func(p, m []byte) ([]byte, []byte) {
			i := bytes.Index(m, []byte("sha256digest=")) + len("sha256digest=")
			m = bytes.Clone(m)
			copy(m[i:], "ffff")
			return p, m
		}, want: "holds another tree than its manifest describes, in 1 places: usr/bin/"},
		{name: "more than its manifest", tree: tool, change: func(p, m []byte) ([]byte, []byte) {
			i := bytes.Index(m, []byte("./usr/bin/tool"))
			return p, m[:i]
		}, want: "the archive holds more than 1 bytes"},
		{name: "no manifest", tree: tool, change: func(p, _ []byte) ([]byte, []byte) { return p, nil }, want: "there is no manifest beside http://"},
		{name: "no archive", tree: tool, change: func(_, m []byte) ([]byte, []byte) { return nil, m },
			want: "/boot/file/addons/tools.edeploy does not exist: it comes with the appliance, in the directory addons of [BOOT] DIR"},
		{name: "no image", tree: tool, addon: "tools/1", want: "/install/1/tools-1.edeploy does not exist: push this image (edeployctl push), or take it out of [BOOT] ADDONS"},
		{name: "too large", tree: tool, memory: 600_000, want: "it takes 1 MB of the memory, of which 0 MB are free and half is for the installation"},
		{name: "many files", tree: tool, memory: 30_000, want: "of the memory"},
		{name: "init", tree: file{"init": "other", "usr/bin/tool": "new"}, want: "it has /init, and may have files below /bin, /etc, /lib, /lib64, /opt, /sbin, /usr, /var only"},
		{name: "proc", tree: file{"proc/x": "x"}, want: "it has /proc, and"},
		{name: "the machine's disk", tree: file{"chroot/etc/passwd": "x"}, want: "it has /chroot, and"},
		{name: "through the archive's link", tree: file{"usr/x": "->/chroot", "usr/bin/tool": "new"}, change: func(p, m []byte) ([]byte, []byte) {
			return p, append(bytes.Clone(m), "./usr/x/passwd type=dir mode=0755 uid=0 gid=0 time=0.000000000\n"...)
		}, want: "manifest of the tree: "},
		{name: "through the ramdisk's link", tree: file{"usr/bin/tool": "new", "usr/lib/x/passwd": "x"}, want: "/usr/lib/x: "},
		{name: "a file where a directory is", tree: file{"usr/bin/tool": "new", "usr/lib64": "x"}, want: "/usr/lib64: the ramdisk has a directory there, the add-on a file"},
		{name: "another link to a directory", tree: file{"usr/bin/tool": "new", "lib64": "->opt"}, want: "/lib64: the ramdisk has a directory there, the add-on a link"},
		{name: "a directory where a file is", tree: file{"usr/bin/tool": "new", "usr/bin/sh/x": "x"}, want: "/usr/bin/sh: the ramdisk has a file there, the add-on a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			packed, text := pack(t, plant(t, tt.tree))
			if tt.change != nil {
				packed, text = tt.change(packed, text)
			}
			root := plant(t, ramdiskFiles)
			r := ramdisk(t, root, published("tools", packed, text), &bytes.Buffer{})
			r.Patience = 50 * time.Millisecond
			if tt.memory > 0 {
				r.Memory = func() (int64, error) { return tt.memory, nil }
			}
			name := tt.addon
			if name == "" {
				name = "tools"
			}
			err := r.Lay(t.Context(), name)
			if err == nil || !strings.HasPrefix(err.Error(), "add-on "+name+": ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if diff := cmp.Diff(ramdiskFiles, look(t, root)); diff != "" {
				t.Errorf("ramdisk (-before +after):\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(root, ".addon")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the staging directory is still there: %v", err)
			}
		})
	}
}

// A pipe in the ramdisk would be no file at all.
func TestRefusesSpecialFiles(t *testing.T) {
	dir := plant(t, file{"usr/bin/tool": "new"})
	must(t, unix.Mkfifo(filepath.Join(dir, "usr/bin/pipe"), 0o600))
	packed, text := pack(t, dir)
	root := t.TempDir()
	err := ramdisk(t, root, published("tools", packed, text), &bytes.Buffer{}).Lay(t.Context(), "tools")
	if err == nil || !strings.Contains(err.Error(), "/usr/bin/pipe in it is a "+string(manifest.Fifo)) || len(look(t, root)) > 0 {
		t.Errorf("%v, %v", err, look(t, root))
	}
}

// What is mounted in the ramdisk may be a disk.
func TestRefusesMounts(t *testing.T) {
	needs.Root(t)
	root := plant(t, file{"opt/x": "x"})
	must(t, unix.Mount("tmpfs", filepath.Join(root, "opt"), "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(root, "opt"), 0)) })
	packed, text := pack(t, plant(t, file{"opt/y": "y"}))
	err := ramdisk(t, root, published("tools", packed, text), &bytes.Buffer{}).Lay(t.Context(), "tools")
	if err == nil || !strings.Contains(err.Error(), "/opt: another file system is mounted there") {
		t.Error(err)
	}
}

func TestFreeMemory(t *testing.T) {
	free, err := addon.FreeMemory()
	var all unix.Sysinfo_t
	must(t, errors.Join(err, unix.Sysinfo(&all)))
	if total := int64(all.Totalram) * int64(all.Unit); free < 1e6 || free > total {
		t.Errorf("%d of %d bytes are free", free, total)
	}
}
