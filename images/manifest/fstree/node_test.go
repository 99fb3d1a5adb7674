package fstree_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"edeploy/images/manifest/fstree"
	"edeploy/images/manifest/internal/treetest"

	"golang.org/x/sys/unix"
)

// No way to open a directory leads through a symbolic link.
func TestOpenDir(t *testing.T) {
	root := t.TempDir()
	treetest.Must(t, os.MkdirAll(filepath.Join(root, "a/b/c"), 0o755))
	treetest.Must(t, os.WriteFile(filepath.Join(root, "a/file"), nil, 0o644))
	treetest.Must(t, os.Symlink("/etc", filepath.Join(root, "out")))
	treetest.Must(t, os.Symlink("b", filepath.Join(root, "a/in")))
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
			err := fstree.OpenDir(root, test.path, old)
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
