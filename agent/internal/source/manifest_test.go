package source_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/source"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// tree is a manifest and its text.
func tree(t *testing.T) (*manifest.Manifest, []byte) {
	t.Helper()
	dir := t.TempDir()
	for i := range 200 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file %d", i)), []byte{byte(i)}, 0o644))
	}
	m, err := fstree.Walk(t.Context(), dir, fstree.Options{})
	must(t, err)
	var text bytes.Buffer
	_, err = m.WriteTo(&text)
	must(t, err)
	return m, text.Bytes()
}

func TestManifest(t *testing.T) {
	want, text := tree(t)
	encoder, err := zstd.NewWriter(nil)
	must(t, err)
	small := encoder.EncodeAll(text, nil)
	half := true
	for name, handler := range map[string]http.HandlerFunc{
		"plain": func(w http.ResponseWriter, r *http.Request) { w.Write(text) },
		"zstd": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "zstd" || r.URL.Path != "/install/D12-F.1.0.1/mysql-D12-F.1.0.1.mtree" {
				t.Errorf("asked for %s, %v", r.URL, r.Header)
			}
			w.Header().Set("Content-Encoding", "zstd")
			w.Write(small)
		},
		"cut": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			if half {
				half = false
				w.Write(small[:len(small)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			w.Write(small)
		},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(handler)
			defer web.Close()
			got, err := source.NewFiles(impatient(t, web.URL)).Manifest(t.Context(), image)
			must(t, err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("manifest (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManifestRefused(t *testing.T) {
	wide, err := zstd.NewWriter(nil, zstd.WithWindowSize(16<<20))
	must(t, err)
	bomb := wide.EncodeAll(bytes.Repeat([]byte("#"), 20<<20), nil)
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"missing": {http.NotFound, ".mtree: the server has no such file"},
		"broken":  {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "#mtree\n./../x type=file\n") }, `.mtree: read manifest: line 2: `},
		"coding":  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "br") }, `.mtree: the server answers with the content coding "br"`},
		"garbage": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			io.WriteString(w, "no zstd at all")
		}, ".mtree: read manifest: line 1: "},
		"window": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "zstd")
			w.Write(bomb)
		}, ".mtree: read manifest: line 1: window size exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(test.handler)
			defer web.Close()
			_, err := source.NewFiles(impatient(t, web.URL)).Manifest(t.Context(), image)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %s", err, test.want)
			}
			t.Log(err)
		})
	}
}
