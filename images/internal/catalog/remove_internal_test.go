package catalog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// deep makes a directory of so many levels with a file in each, below path.
func deep(t *testing.T, path string, levels int) {
	t.Helper()
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for range levels {
		if err != nil {
			t.Fatal(err)
		}
		if err = unix.Mkdirat(at, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		if err = unix.Mknodat(at, "f", unix.S_IFREG|0o600, 0); err != nil {
			t.Fatal(err)
		}
		up := at
		at, err = unix.Openat(up, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		unix.Close(up)
	}
	unix.Close(at)
}

// A tree that is deeper than files can be open, and longer than a path can be,
// is removed with a few open files.
func TestRemoveDeepTree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tree")
	deep(t, path, 1500)
	for _, name := range []string{".1", ".2"} { // the names that content is moved to
		if err := os.MkdirAll(filepath.Join(path, name, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: 64, Max: before.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	err := removeTree(path)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tree is still there: %v", err)
	}
	if _, err := os.Stat("/etc/passwd"); err != nil {
		t.Error(err)
	}
}

func TestRemoveTree(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(closed, "a"), 0); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(dir, "absent"), closed} {
		if err := removeTree(path); err != nil {
			t.Errorf("removeTree(%s) = %v", filepath.Base(path), err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", filepath.Base(path), err)
		}
	}
}
