package image_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/squashfs"
	"github.com/google/go-cmp/cmp"

	"edeploy/appliance/internal/image"
	"edeploy/integration/needs"
)

const (
	release = "v9.8.7-of-the-test"
	mib     = 1 << 20
)

// What is too small, or has no module to build from, is refused before anything
// is written.
func TestBuildRefuses(t *testing.T) {
	dir := t.TempDir()
	img := filepath.Join(dir, "appliance.img")
	err := image.Build(t.Context(), image.Spec{Module: dir, WorkDir: dir, Size: image.MinSize - 1, Output: t.Output()}, img, "")
	if err == nil || !strings.Contains(err.Error(), "appliance.img: 1342177279 bytes are too small, want at least 1342177280") {
		t.Errorf("too small: %v", err)
	}
	err = image.Build(t.Context(), image.Spec{Module: dir, WorkDir: dir, Size: image.MinSize, Output: t.Output()}, img, "")
	if err == nil || !strings.Contains(err.Error(), "go.mod") {
		t.Errorf("no module: %v", err)
	}
	if _, err := os.Stat(img); err == nil {
		t.Error("a refused build wrote the image")
	}
}

// TestBuild packs an image with a small kernel and initrd for the agent, and
// reads it as the firmware, the kernel and an update do.
func TestBuild(t *testing.T) {
	needs.Programs(t, "sfdisk", "mtype", "debugfs", "e2fsck", "mke2fs")
	t.Chdir(".") // gok changes the directory of the process
	dir := t.TempDir()
	s := image.Spec{Module: abs(t, "../../.."), WorkDir: filepath.Join(dir, "work"), BootDir: filepath.Join(dir, "boot"),
		PermDir: filepath.Join(dir, "perm"), Version: release, Size: image.MinSize, Output: t.Output()}
	boot := map[string]string{"vmlinuz": strings.Repeat("kernel", 100_000), "initrd.pxe": "initrd", "snponly.efi": "loader"}
	for name, text := range boot {
		write(t, filepath.Join(s.BootDir, name), text, 0o644)
	}
	if err := os.CopyFS(s.PermDir, os.DirFS("../../perm")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.PermDir, "edeploy/config/secret"), "x", 0o600)
	img, gaf := filepath.Join(dir, "appliance.img"), filepath.Join(dir, "appliance.gaf")
	if err := image.Build(t.Context(), s, img, gaf); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.partial"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	parts := partitions(t, img)
	t.Run("boot", func(t *testing.T) { checkBoot(t, img, parts[0]) })
	t.Run("root", func(t *testing.T) { checkRoot(t, section(t, img, parts[1]), boot) })
	t.Run("perm", func(t *testing.T) { checkPerm(t, img, parts[3], s.PermDir) })
	t.Run("update", func(t *testing.T) {
		packed := unzip(t, gaf)
		for _, name := range []string{"boot.img", "mbr.img"} {
			if packed[name] == "" {
				t.Errorf("the update archive has no %s", name)
			}
		}
		root := filepath.Join(t.TempDir(), "root.img")
		write(t, root, packed["root.img"], 0o644)
		checkRoot(t, section(t, root, partition{Size: int64(len(packed["root.img"])) / sector}), boot)
	})
}

const sector = 512

// partition is one of sfdisk's, in sectors.
type partition struct{ Start, Size int64 }

// partitions checks the table against the one in the package comment.
func partitions(t *testing.T, img string) []partition {
	t.Helper()
	info, err := os.Stat(img)
	if err != nil || info.Size() != image.MinSize {
		t.Fatalf("image: %v, %v; want %d bytes", info, err, image.MinSize)
	}
	var answer struct {
		PartitionTable struct {
			Label      string
			Partitions []partition
		}
	}
	if err := json.Unmarshal([]byte(run(t, "sfdisk", "--json", img)), &answer); err != nil {
		t.Fatal(err)
	}
	table := answer.PartitionTable
	if table.Label != "gpt" || len(table.Partitions) != 4 {
		t.Fatalf("partition table %+v, want a GPT of four", table)
	}
	for i, want := range []int64{100, 500, 500} {
		if got := table.Partitions[i].Size * sector / mib; got != want {
			t.Errorf("partition %d has %d MiB, want %d", i+1, got, want)
		}
	}
	if perm := table.Partitions[3]; (perm.Start+perm.Size)*sector < image.MinSize-mib {
		t.Errorf("/perm %+v does not reach the end of the image", perm)
	}
	return table.Partitions
}

func checkBoot(t *testing.T, img string, p partition) {
	at := fmt.Sprintf("%s@@%d", img, p.Start*sector)
	words := strings.Fields(run(t, "mtype", "-i", at, "::cmdline.txt"))
	line := " " + strings.Join(words, " ") + " "
	for _, want := range []string{" console=ttyS0,115200 ", " root=PARTUUID=", " rootwait ", " init=/gokrazy/init "} {
		if !strings.Contains(line, want) {
			t.Errorf("kernel parameters %q, want%q", line, want)
		}
	}
	if last := strings.LastIndex(line, " rootdelay="); !strings.HasPrefix(line[max(last, 0):], " rootdelay=0 ") {
		t.Errorf("kernel parameters %q: the last rootdelay, which counts, is not 0", line)
	}
	if kernel := run(t, "mtype", "-i", at, "::vmlinuz"); len(kernel) < mib || kernel[0x202:0x206] != "HdrS" {
		t.Errorf("vmlinuz of %d bytes is no Linux kernel", len(kernel))
	}
}

// window is a part of a file.
type window struct {
	*io.SectionReader
	file *os.File
}

func (w window) Stat() (fs.FileInfo, error) { return w.file.Stat() }
func (w window) Close() error               { return w.file.Close() }

// section is the file system in a part of a file.
func section(t *testing.T, name string, p partition) *squashfs.FileSystem {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	part := window{io.NewSectionReader(f, p.Start*sector, p.Size*sector), f}
	root, err := squashfs.Read(file.New(part, true), p.Size*sector, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func checkRoot(t *testing.T, root *squashfs.FileSystem, boot map[string]string) {
	for name, want := range boot {
		if got := content(t, root, "/usr/lib/edeploy/boot/"+name); got != want {
			t.Errorf("/usr/lib/edeploy/boot/%s has %d bytes, want %d", name, len(got), len(want))
		}
	}
	if got := strings.TrimSpace(content(t, root, "/etc/hostname")); got != "edeploy" {
		t.Errorf("host name %q", got)
	}
	if !strings.Contains(content(t, root, "/user/edeployd"), release) {
		t.Errorf("edeployd does not hold its version %s", release)
	}
	if init := content(t, root, "/gokrazy/init"); !strings.Contains(init, "-config=/perm/edeploy/edeploy.conf") || !strings.Contains(init, "-console=/dev/console") {
		t.Error("init does not start edeployd with its configuration and the console")
	}
}

func content(t *testing.T, root *squashfs.FileSystem, name string) string {
	t.Helper()
	f, err := root.OpenFile(name, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(text)
}

// checkPerm: the file system is sound, as large as its partition, root's, and
// holds what it was given.
func checkPerm(t *testing.T, img string, p partition, given string) {
	at := fmt.Sprintf("%s?offset=%d", img, p.Start*sector)
	run(t, "e2fsck", "-f", "-n", at)
	if stat := run(t, "debugfs", "-R", "stat /", at); !strings.Contains(stat, "User:     0   Group:     0") {
		t.Errorf("/perm is not root's:\n%s", stat)
	}
	var count, size int64
	for line := range strings.Lines(run(t, "debugfs", "-R", "stats -h", at)) {
		fmt.Sscanf(line, "Block count: %d", &count)
		fmt.Sscanf(line, "Block size: %d", &size)
	}
	if got, want := count*size, p.Size*sector; got > want || got <= want-size {
		t.Errorf("/perm has %d bytes in a partition of %d", got, want)
	}
	out := t.TempDir()
	run(t, "debugfs", "-R", "rdump / "+out, at)
	if err := os.RemoveAll(filepath.Join(out, "lost+found")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files(t, given), files(t, out)); diff != "" {
		t.Errorf("/perm (-given +packed):\n%s", diff)
	}
}

// files are the files and directories below a directory, each with its mode
// and content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text []byte
		if !d.IsDir() {
			text, err = os.ReadFile(filepath.Join(dir, name))
		}
		all[name] = fmt.Sprintf("%s %s", info.Mode(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func unzip(t *testing.T, name string) map[string]string {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	all := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		all[f.Name] = string(text)
	}
	return all
}

// run is what a program writes to its standard output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &out, &problems)
	}
	return out.String()
}

func write(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func abs(t *testing.T, path string) string {
	t.Helper()
	full, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return full
}
