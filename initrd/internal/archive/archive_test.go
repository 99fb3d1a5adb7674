package archive_test

import (
	"bytes"
	"io/fs"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"edeploy/initrd/internal/archive"
	"edeploy/integration/needs"
)

func example(t *testing.T, order []string) []byte {
	t.Helper()
	a := archive.New()
	for _, name := range order {
		a.File(name, []byte("content of "+name), 0o755)
	}
	a.Link("bin", "usr/bin")
	a.Directory("tmp", 0o777|fs.ModeSticky)
	plain, err := a.Cpio()
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestSameContentSameBytes(t *testing.T) {
	one, two := example(t, []string{"init", "usr/bin/sh", "a/b/c"}), example(t, []string{"a/b/c", "usr/bin/sh", "init"})
	if !bytes.Equal(one, two) {
		t.Error("the order of adding changes the archive")
	}
	packed, err := archive.Compress(one)
	if err != nil {
		t.Fatal(err)
	}
	again, err := archive.Compress(two)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(packed, again) {
		t.Error("compressing twice gives different bytes")
	}
	r, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var back bytes.Buffer
	if _, err := back.ReadFrom(r); err != nil || !bytes.Equal(back.Bytes(), one) {
		t.Errorf("unpacked %d bytes (%v), want the same %d", back.Len(), err, len(one))
	}
}

// GNU cpio reads what we write, parents before children.
func TestCpioReadsIt(t *testing.T) {
	cpio := needs.Program(t, "cpio")
	cmd := exec.Command(cpio, "-tv", "--quiet", "--numeric-uid-gid")
	cmd.Stdin = bytes.NewReader(example(t, []string{"usr/bin/sh", "init"}))
	cmd.Env = []string{"TZ=UTC", "LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		got = append(got, fields[0]+" "+fields[2]+":"+fields[3]+" "+strings.Join(fields[8:], " "))
	}
	want := []string{
		"lrwxrwxrwx 0:0 bin -> usr/bin",
		"drwxr-xr-x 0:0 dev",
		"crw------- 0:0 1970 dev/console",
		"crw-rw-rw- 0:0 1970 dev/null",
		"-rwxr-xr-x 0:0 init",
		"drwxrwxrwt 0:0 tmp",
		"drwxr-xr-x 0:0 usr",
		"drwxr-xr-x 0:0 usr/bin",
		"-rwxr-xr-x 0:0 usr/bin/sh",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
}
