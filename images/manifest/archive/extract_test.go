package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/fstree"
	"edeploy/images/manifest/internal/treetest"
	"edeploy/integration/needs"

	"golang.org/x/sys/unix"
)

// manyFiles is an archive of small, large and sparse files, and its paths.
func manyFiles(t testing.TB) []byte {
	t.Helper()
	var members []member
	for i := range 300 {
		size := i * 17
		switch {
		case i == 250:
			size = 7 << 20 // more than the writers hold at once
		case i%50 == 0:
			size = i * 2000
		}
		content := strings.Repeat(fmt.Sprintf("%d,", i), size/4+1)
		if i == 70 {
			content += strings.Repeat("\x00", 1<<20) // ends with a hole
		}
		members = append(members, member{tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("d%d/f%d", i%7, i)}, content})
		if i%20 == 0 {
			members = append(members, member{tar.Header{Typeflag: tar.TypeLink, Name: fmt.Sprintf("d%d/l%d", i%3, i), Linkname: fmt.Sprintf("d%d/f%d", i%7, i)}, ""})
			members = append(members, member{tar.Header{Typeflag: tar.TypeLink, Name: fmt.Sprintf("m%d", i), Linkname: fmt.Sprintf("d%d/l%d", i%3, i)}, ""})
		}
	}
	return tarOf(t, members...)
}

// Several writers make the same tree that Describe describes.
func TestExtractWithWriters(t *testing.T) {
	needs.Root(t)
	packed := manyFiles(t)
	want, err := archive.Describe(bytes.NewReader(packed))
	treetest.Must(t, err)
	for _, workers := range []int{1, 2, 7} {
		root := t.TempDir()
		got, err := archive.Extract(t.Context(), bytes.NewReader(packed), root, archive.Options{Workers: workers})
		treetest.Must(t, err)
		treetest.Equal(t, want, got)
		treetest.Verified(t, want, root)
	}
}

// A writer that cannot go on ends the extraction with its own error, whatever
// the reader was waiting for.
func TestExtractEndsWithItsWriters(t *testing.T) {
	root := t.TempDir()
	treetest.Must(t, os.MkdirAll(filepath.Join(root, "d3/f10/in the way"), 0o755))
	_, err := archive.Extract(t.Context(), bytes.NewReader(manyFiles(t)), root, archive.Options{Workers: 2})
	if err == nil || !strings.Contains(err.Error(), "replace "+filepath.Join(root, "d3/f10")+": ") {
		t.Errorf("Extract = %v, want it to say what it could not replace", err)
	}
}

// What was begun is told when an archive ends in its middle.
func TestExtractAnswersWhatItBegan(t *testing.T) {
	packed := manyFiles(t)
	for _, at := range []int{100, len(packed) / 2, len(packed) - 1500} {
		root := t.TempDir()
		m, err := archive.Extract(t.Context(), bytes.NewReader(packed[:at]), root, archive.Options{})
		if err == nil || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("archive cut at %d: %v, want unexpected EOF", at, err)
			continue
		}
		for path := range pathsBelow(t, root) {
			if _, ok := m.Lookup(path); !ok {
				t.Errorf("archive cut at %d: %s is there, and Extract does not say so", at, path)
			}
		}
	}
}

func pathsBelow(t *testing.T, root string) map[string]bool {
	t.Helper()
	paths := map[string]bool{}
	treetest.Must(t, filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		name, _ := filepath.Rel(root, p)
		paths[name] = true
		return err
	}))
	return paths
}

func TestExtractIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	packed := manyFiles(t)
	r := io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, packed[len(packed)/2:][:1]), nil
	}))
	if _, err := archive.Extract(ctx, r, t.TempDir(), archive.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Extract = %v, want %v", err, context.Canceled)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestVerifyUnread(t *testing.T) {
	root := t.TempDir()
	treetest.Must(t, os.WriteFile(filepath.Join(root, "a"), []byte("12345"), 0o644))
	m := treetest.Walk(t, root)
	e, _ := m.Lookup("a")
	e.SHA256[0]++
	for unread, want := range map[bool]int{false: 1, true: 0} {
		diffs, err := fstree.Verify(t.Context(), m, root, fstree.Options{Unread: unread})
		if err != nil || len(diffs) != want {
			t.Errorf("unread %t: %v, %v, want %d differences", unread, diffs, err, want)
		}
	}
	treetest.Must(t, os.WriteFile(filepath.Join(root, "a"), []byte("123456"), 0o644))
	diffs, err := fstree.Verify(t.Context(), m, root, fstree.Options{Unread: true})
	if err != nil || len(diffs) == 0 || diffs[0].Attribute != manifest.AttrSize {
		t.Errorf("another size: %v, %v", diffs, err)
	}
}

// A directory that gives an ACL to all that is made in it, such as a mount
// point that was there before, gives none to a tree.
func TestExtractBelowDefaultACL(t *testing.T) {
	needs.Root(t)
	root := t.TempDir()
	// Version 2; owner rwx, user 4711 rwx, group r-x, mask rwx, others none (linux/posix_acl_xattr.h).
	acl := "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\x67\x12\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	treetest.Must(t, unix.Setxattr(root, "system.posix_acl_default", []byte(acl), 0))
	packed := tarOf(t, member{tar.Header{Typeflag: tar.TypeReg, Name: "a", Mode: 0o640}, "1"}, member{tar.Header{Typeflag: tar.TypeReg, Name: "d/b"}, "2"})
	m, err := archive.Extract(t.Context(), bytes.NewReader(packed), root, archive.Options{})
	treetest.Must(t, err)
	treetest.Verified(t, m, root)
}
