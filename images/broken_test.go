package images_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/manifest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// compressed is a tar with these headers and no content, packed.
func compressed(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close() // package tar says that content is missing, which is so
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A few bytes that name many directories make none, and the service starts again.
func TestDeepNames(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	deep := compressed(t, tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX, Name: strings.Repeat("d/", 500_000) + "exclude"})
	if len(deep) > 1000 {
		t.Errorf("the archive has %d bytes, want few", len(deep))
	}
	if a := s.do(t, "PUT", "/api/v1/images/V1/web/metadata/V2", bytes.NewReader(deep)); a.status != http.StatusBadRequest || !strings.Contains(a.body, "directories") {
		t.Errorf("metadata: %+v", a)
	}
	s.patch(t, "V1/web", "archive", deep, 0, len(deep))
	if step, message := s.publish(t, "V1/web"); step == "done" || !strings.Contains(message, "longer than 4095 bytes") {
		t.Errorf("publish: %s %s", step, message)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".incoming", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	s.stop()
	start(t, dir)
}

// An image whose manifest cannot be read is named as such and can be deleted;
// the others are listed and served, and the service starts with it.
func TestBrokenImage(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	i := build(t, nil)
	for _, ref := range []string{"V1/db", "V1/web"} {
		s.upload(t, ref, i)
		if step, message := s.publish(t, ref); step != "done" {
			t.Fatalf("publish: %s %s", step, message)
		}
	}
	s.stop()
	long := "#mtree\n./" + strings.Repeat("x", manifest.MaxLineBytes) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "install/V1/db-V1.mtree"), []byte(long), 0o644); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	if diff := cmp.Diff([]string{"db V1 false", "web V1 true"}, s.names(t)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	var one struct{ Broken string }
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/api/v1/images/V1/db", nil).body), &one); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(one.Broken, "db-V1.mtree: read manifest: line 2: invalid manifest: longer than") {
		t.Errorf("broken: %q", one.Broken)
	}
	if step, message := s.publish(t, "V1/db"); step == "done" || !strings.Contains(message, "delete the image") {
		t.Errorf("publish: %s %s", step, message)
	}
	if a := s.do(t, "DELETE", "/api/v1/images/V1/db", nil); a.status != http.StatusNoContent {
		t.Errorf("delete: %+v", a)
	}
	s.upload(t, "V1/db", i)
	if step, message := s.publish(t, "V1/db"); step != "done" {
		t.Errorf("publish again: %s %s", step, message)
	}
	if diff := cmp.Diff([]string{"db V1 true", "web V1 true"}, s.names(t)); diff != "" {
		t.Errorf("images afterwards (-want +got):\n%s", diff)
	}
}

// Metadata that cannot be read, put in by hand, is named, and the rest is listed.
func TestBrokenUpgrade(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "metadata/V1/web/V2", strings.Repeat("d/", 200))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	good := metadata(t, map[string]string{"exclude": "/home/\n", "add_only": "- *\n"})
	if a := s.do(t, "PUT", "/api/v1/images/V1/web/metadata/V3", bytes.NewReader(good)); a.status != http.StatusCreated {
		t.Fatalf("%+v", a)
	}
	var list []struct{ To, Broken string }
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/api/v1/images/metadata", nil).body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || !strings.Contains(list[0].Broken, "more in it than the metadata of an upgrade can be") || list[1].To != "V3" || list[1].Broken != "" {
		t.Errorf("upgrades: %+v", list)
	}
	if a := s.do(t, "PUT", "/api/v1/images/V1/web/metadata/V2", bytes.NewReader(good)); a.status != http.StatusOK || !strings.Contains(a.body, `"replaced"`) {
		t.Errorf("replacing the broken one: %+v", a)
	}
}
