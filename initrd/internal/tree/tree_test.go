package tree_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"edeploy/initrd/internal/tree"
)

func archive(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./bin", Typeflag: tar.TypeSymlink, Linkname: "usr/bin"},
		{Name: "./usr/bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/bin/dash", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 4},
		{Name: "./usr/bin/hard", Typeflag: tar.TypeLink, Linkname: "./usr/bin/dash"},
		{Name: "./usr/bin/sh", Typeflag: tar.TypeSymlink, Linkname: "dash"},
		{Name: "./usr/bin/awk", Typeflag: tar.TypeSymlink, Linkname: "/etc/alternatives/awk"},
		{Name: "./etc/alternatives/awk", Typeflag: tar.TypeSymlink, Linkname: "/bin/dash"},
		{Name: "./usr/share/doc/x", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
		{Name: "./dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		{Name: "./loop", Typeflag: tar.TypeSymlink, Linkname: "loop"},
		{Name: "../../outside", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "text")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func keep(name string) bool { return !strings.HasPrefix(name, "usr/share/doc/") }

func TestRead(t *testing.T) {
	plain := archive(t)
	var gz, zst bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write(plain)
	g.Close()
	z, err := zstd.NewWriter(&zst)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(plain)
	z.Close()
	for name, data := range map[string][]byte{"plain": plain, "gzip": gz.Bytes(), "zstd": zst.Bytes()} {
		t.Run(name, func(t *testing.T) {
			tr, err := tree.Read(bytes.NewReader(data), keep)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"", "bin", "dev", "etc", "etc/alternatives", "etc/alternatives/awk", "loop", "outside", "usr", "usr/bin", "usr/bin/awk", "usr/bin/dash", "usr/bin/hard", "usr/bin/sh",
				"usr/share", "usr/share/doc"}
			if diff := cmp.Diff(want, tr.Names()); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if e, ok := tr.Get("usr/bin/hard"); !ok || string(e.Data) != "text" || e.Mode != 0o755 {
				t.Errorf("hard link: %v %v", e, ok)
			}
		})
	}
	if _, err := tree.Read(bytes.NewReader(plain[:1500]), keep); err == nil {
		t.Error("a truncated archive: no error")
	}
	if _, err := tree.Read(strings.NewReader(""), keep); err == nil {
		t.Error("an empty file: no error")
	}
}

func TestResolve(t *testing.T) {
	tr, err := tree.Read(bytes.NewReader(archive(t)), keep)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, file string
		links      []string
		missing    bool
	}{
		{"usr/bin/dash", "usr/bin/dash", nil, false},
		{"/bin/sh", "usr/bin/dash", []string{"bin", "usr/bin/sh"}, false},
		{"bin/awk", "usr/bin/dash", []string{"bin", "usr/bin/awk", "etc/alternatives/awk", "bin"}, false},
		{"bin/bash", "", []string{"bin"}, true},
	} {
		file, links, err := tr.Resolve(test.name)
		if errors.Is(err, fs.ErrNotExist) != test.missing || file != test.file {
			t.Errorf("%s: %q %v, want %q", test.name, file, err, test.file)
		}
		if diff := cmp.Diff(test.links, links); diff != "" {
			t.Errorf("%s: links (-want +got):\n%s", test.name, diff)
		}
	}
	if _, _, err := tr.Resolve("loop"); err == nil || !strings.Contains(err.Error(), "symbolic links") {
		t.Errorf("a link to itself: %v, want an error", err)
	}
}
