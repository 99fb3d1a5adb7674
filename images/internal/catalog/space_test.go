package catalog_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/internal/catalog"
	"edeploy/integration/needs"
	"edeploy/server/api"
	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// small is a catalog on a file system of 16 MB and 200 inodes.
func small(t *testing.T) (*catalog.Catalog, string) {
	t.Helper()
	needs.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,nr_inodes=200"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c, err := catalog.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, dir
}

// A file system that gets full while an upload arrives is told as that; what
// arrived stays, and the upload goes on when there is space.
func TestFullDuringUpload(t *testing.T) {
	c, dir := small(t)
	ref := wire.ImageRef{Role: "web", Version: "V1"}
	u := catalog.Upload{Length: 1 << 20, SHA256: strings.Repeat("0", 64)}
	filler := filepath.Join(dir, "filler")
	fill := readFunc(func(p []byte) (int, error) {
		content := make([]byte, 32<<20)
		if err := os.WriteFile(filler, content, 0o644); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("filling the file system: %v", err)
		}
		return 0, io.EOF
	})
	half := bytes.NewReader(make([]byte, 1<<19))
	have, err := c.Receive(ref, api.PartArchive, u, io.MultiReader(half, fill, bytes.NewReader(make([]byte, 1<<19))))
	if !errors.Is(err, catalog.ErrNoSpace) {
		t.Errorf("upload to a full file system: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	u.Offset = have.Offset
	if have, err = c.Receive(ref, api.PartArchive, u, bytes.NewReader(make([]byte, 1<<20))); err != nil || have.Offset != 1<<20 {
		t.Errorf("going on at %d: %+v, %v", u.Offset, have, err)
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// Inodes are space, too.
func TestFewInodes(t *testing.T) {
	c, _ := small(t)
	if _, err := c.PutUpgrade(t.Context(), from, "V2", tarOf(t, exclude, addOnly), false); !errors.Is(err, catalog.ErrNoSpace) || !strings.Contains(err.Error(), "inodes") {
		t.Errorf("metadata on a file system of 200 inodes: %v", err)
	}
}
