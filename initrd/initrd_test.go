package initrd_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/initrd"
)

// Mistakes are found before anything is built, and named.
func TestBuildRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.tar")
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755})
	w.Close()
	if err := os.WriteFile(empty, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		config initrd.Config
		want   string
	}{
		{initrd.Config{Kernel: "bsd"}, `kernel "bsd": want gokrazy or debian`},
		{initrd.Config{Tools: filepath.Join(dir, "none.tar")}, "none.tar: no such file"},
		{initrd.Config{Tools: empty, Module: ".."}, "the tree has no usr/sbin/parted"},
		{initrd.Config{Tools: empty, Kernel: initrd.Debian}, "the tree has 0 kernels in /boot"},
	} {
		test.config.Initrd, test.config.Vmlinuz = filepath.Join(dir, "out/initrd"), filepath.Join(dir, "out/vmlinuz")
		err := initrd.Build(t.Context(), test.config)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want %q", test.config, err, test.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("a refused build wrote files")
	}
}
