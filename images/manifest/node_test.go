package manifest_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"edeploy/images/manifest"
)

// No way to open a directory leads through a symbolic link.
func TestOpenDir(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "a/file"), nil, 0o644))
	must(t, os.Symlink("/etc", filepath.Join(root, "out")))
	must(t, os.Symlink("b", filepath.Join(root, "a/in")))
	for _, test := range []struct {
		path string
		want []error // one of them
	}{
		{".", nil},
		{"a", nil},
		{"a/b/c", nil},
		{"a/x", []error{unix.ENOENT}},
		{"a/x/c", []error{unix.ENOENT}},
		{"a/file", []error{unix.ENOTDIR}},
		{"a/file/c", []error{unix.ENOTDIR}},
		{"out", []error{unix.ELOOP, unix.ENOTDIR}},
		{"a/in", []error{unix.ELOOP, unix.ENOTDIR}},
		{"a/in/c", []error{unix.ELOOP, unix.ENOTDIR}},
	} {
		for _, old := range []bool{false, true} {
			err := manifest.OpenDir(root, test.path, old)
			ok := err == nil && test.want == nil
			for _, want := range test.want {
				ok = ok || errors.Is(err, want)
			}
			if !ok {
				t.Errorf("%s, old way %t: %v, want %v", test.path, old, err, test.want)
			}
		}
	}
}
