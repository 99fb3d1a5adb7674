package initrd

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/mkuimage/cpio"

	"edeploy/images/manifest"
	treearchive "edeploy/images/manifest/archive"
	"edeploy/initrd/internal/pick"
)

// wanted are regular files that the lists insist on: a kernel module is one, the
// others have their name as content.
func wanted(t *testing.T) map[string]string {
	t.Helper()
	lines, err := Config{Kernel: Debian}.wishes()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, line := range lines {
		if line.Optional || !strings.Contains(line.Pattern, "/") { // bin, sbin ... are links
			continue
		}
		name := strings.NewReplacer("/**", "/below/deep", "[[]", "[", "*", "4", "?", "4").Replace(line.Pattern)
		if !line.Matches(name) {
			t.Fatalf("%s does not match %s", name, line.Pattern)
		}
		all[name] = name
		if strings.HasSuffix(name, ".ko") {
			all[name] = module("license=GPL")
		}
	}
	return all
}

// debianTree writes the archive of a tree with these files and more.
func debianTree(t *testing.T, content map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(h tar.Header, text string) {
		h.Size = int64(len(text))
		h.Uid, h.Gid = 7, 7
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		add(tar.Header{Typeflag: tar.TypeSymlink, Name: dir, Linkname: "usr/" + dir}, "")
	}
	content = maps.Clone(content)
	maps.Copy(content, map[string]string{"usr/share/doc/parted/copyright": "x", "usr/bin/unasked": "x", "usr/lib64/unasked": "x", "boot/vmlinuz-4": "Linux"})
	for name, text := range content {
		mode := int64(0o644)
		if strings.Contains(path.Dir(name), "bin") {
			mode = 0o4755
		}
		add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tools.tar")
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// unpacked are the entries of an initrd: type, permissions, owner, and the
// content or target.
func unpacked(t *testing.T, file string) map[string]string {
	t.Helper()
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	plain, err := r.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain)))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, r := range records {
		text := ""
		if r.ReaderAt != nil {
			content := make([]byte, r.FileSize)
			if _, err := r.ReadAt(content, 0); err != nil && r.FileSize > 0 {
				t.Fatal(err)
			}
			text = string(content)
		}
		if parent := path.Dir(r.Name); parent != "." && !strings.HasPrefix(all[parent], "4") {
			t.Errorf("%s comes before its directory", r.Name)
		}
		all[r.Name] = fmt.Sprintf("%o %d:%d %s", r.Mode, r.UID, r.GID, text)
	}
	return all
}

// TestBuild builds the initrd for Debian's kernel and reads it as Linux does.
func TestBuild(t *testing.T) {
	defer func(list string) { commands = list }(commands)
	commands = "package initrd\nimport (\n_ \"github.com/u-root/u-root/cmds/core/which\"\n_ \"github.com/u-root/u-root/cmds/core/free\"\n)\n"
	asked := wanted(t)
	dir := t.TempDir()
	c := Config{Module: "..", Agent: "edeploy/initrd/cmd/init", Tools: debianTree(t, withPython(asked)), Kernel: Debian,
		Initrd: filepath.Join(dir, "out/initrd.pxe"), Vmlinuz: filepath.Join(dir, "out/vmlinuz"), Addons: filepath.Join(dir, "out/addons")}
	if err := Build(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if kernel, err := os.ReadFile(c.Vmlinuz); string(kernel) != "Linux" {
		t.Errorf("Debian's kernel: %q, %v", kernel, err)
	}
	got := unpacked(t, c.Initrd)
	for name, content := range asked {
		if !strings.HasSuffix(got[name], " 0:0 "+content) && ours(name) == "" {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	want := map[string]string{
		"bin": "120777 0:0 usr/bin", "lib64": "120777 0:0 usr/lib64", "etc/mtab": "120777 0:0 /proc/self/mounts",
		"usr/sbin/parted": "100755 0:0 usr/sbin/parted", "usr/lib/terminfo/l/linux": "100644 0:0 usr/lib/terminfo/l/linux",
		"tmp": "41777 0:0 ", "proc": "40755 0:0 ", "chroot": "40755 0:0 ", "dev/console": "20600 0:0 ", "dev/null": "20666 0:0 ",
		"bbin/which": "120777 0:0 bb", "bbin/free": "120777 0:0 bb",
		"etc/passwd": "100644 0:0 " + ours("etc/passwd"), "usr/sbin/udevadm": "100755 0:0 " + ours("usr/sbin/udevadm"),
		"usr/bin/python3": "", "usr/lib/python3.9/os.py": "", "usr/bin/unasked": "", "usr/lib64/unasked": "", "usr/share/doc/parted/copyright": "", "boot/vmlinuz-4": "",
	}
	seen := map[string]string{}
	for name := range want {
		seen[name] = got[name]
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("initrd (-want +got):\n%s", diff)
	}
	for _, name := range []string{"init", "usr/bin/agent", "bbin/bb"} {
		if !strings.HasPrefix(got[name], "100755 0:0 \x7fELF") {
			t.Errorf("%s is no program: %.20q", name, got[name])
		}
	}
	checkPython(t, c.Addons)
}

// withPython are the files, and those of Python; one of them starts a program
// that the initrd has, too.
func withPython(files map[string]string) map[string]string {
	files = maps.Clone(files)
	maps.Copy(files, map[string]string{"usr/bin/python3": "usr/bin/python3", "usr/lib/python3.9/os.py": "import sys",
		"usr/lib/python3.9/json/tool.py": "#!/usr/bin/env python3\n", "usr/lib/python4/x.py": "x"})
	return files
}

// checkPython: the add-on is what its manifest says, has what the initrd lacks,
// and nothing that tells where and when it was made.
func checkPython(t *testing.T, dir string) {
	t.Helper()
	text, err := os.Open(filepath.Join(dir, "python3.mtree"))
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	published, err := manifest.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := os.Open(filepath.Join(dir, "python3.edeploy"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	plain, err := treearchive.Open(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	got, err := treearchive.Describe(plain)
	if err != nil {
		t.Fatal(err)
	}
	if wrong := manifest.Diff(published, got); len(wrong) > 0 {
		t.Errorf("the archive is not that of its manifest: %s", manifest.Summary(wrong))
	}
	var all []string
	for _, e := range got.Entries {
		all = append(all, fmt.Sprintf("%s %s %o %d:%d %d", e.Path, e.Type, e.Mode, e.UID, e.GID, e.ModTime.Unix()))
	}
	want := []string{". dir 755 0:0 0", "usr dir 755 0:0 0", "usr/bin dir 755 0:0 0", "usr/bin/python3 file 755 0:0 0", "usr/lib dir 755 0:0 0",
		"usr/lib/python3.9 dir 755 0:0 0", "usr/lib/python3.9/json dir 755 0:0 0", "usr/lib/python3.9/json/tool.py file 644 0:0 0", "usr/lib/python3.9/os.py file 644 0:0 0"}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("add-on (-want +got):\n%s", diff)
	}
}

// The appliance's own kernel has everything built in.
func TestGokrazyKernel(t *testing.T) {
	c := Config{Module: ".."}
	kernel, err := c.kernel(t.Context(), nil)
	if err != nil || len(kernel) < 1<<20 || string(kernel[0x202:0x206]) != "HdrS" {
		t.Errorf("%d bytes, %v", len(kernel), err)
	}
	lines, err := c.wishes()
	if err != nil || len(lines) == 0 {
		t.Fatal(lines, err)
	}
	for _, line := range lines {
		if strings.Contains(line.Pattern, "lib/modules/") {
			t.Errorf("%s is asked for", line.Pattern)
		}
	}
}

// ours is the content of a file that we put over the tree's; "": we do not.
func ours(name string) string {
	text, err := fs.ReadFile(files, "files/"+name)
	if err != nil {
		return ""
	}
	return string(text)
}

// Modules that the named ones depend on come with them, those of others not.
func TestWithDependencies(t *testing.T) {
	const dir = "usr/lib/modules/6.1/"
	tree, err := readTree(debianTree(t, map[string]string{
		dir + "modules.dep": "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\nkernel/d.ko: kernel/e.ko\n",
	}), true)
	if err != nil {
		t.Fatal(err)
	}
	want := []pick.Line{{Pattern: dir + "kernel/a.ko"}, {Pattern: dir + "kernel/b.ko"}, {Pattern: dir + "kernel/c.ko"}}
	if diff := cmp.Diff(want, withDependencies(tree, want[:1:1])); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
