package images_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"edeploy/images"
	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// service is a running image service.
type service struct {
	dir, url, rsync string
	stop            func()
}

func start(t *testing.T, dir string) service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := images.New(images.Config{Dir: dir, RsyncListener: ln,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	web := httptest.NewUnstartedServer(s.Handler())
	web.Config.ReadTimeout = 5 * time.Second // as the appliance gives bodies one
	web.Start()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		web.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return service{dir, web.URL, ln.Addr().String(), stop}
}

// image is a built image in memory.
type image struct {
	manifest, archive []byte
}

// build packs a tree with the things that are easily lost.
func build(t *testing.T, files map[string]string) image {
	t.Helper()
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755))
	must(os.WriteFile(filepath.Join(root, "usr/bin/su"), []byte("su"), 0o755))
	must(os.Chmod(filepath.Join(root, "usr/bin/su"), 0o755|os.ModeSetuid))
	must(os.Link(filepath.Join(root, "usr/bin/su"), filepath.Join(root, "usr/bin/su2")))
	must(os.Symlink("usr/bin", filepath.Join(root, "bin")))
	must(syscall.Mkfifo(filepath.Join(root, "pipe"), 0o644))
	for name, text := range files {
		must(os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		must(os.WriteFile(filepath.Join(root, name), []byte(text), 0o640))
	}
	var packed, text bytes.Buffer
	enc, err := zstd.NewWriter(&packed)
	must(err)
	m, err := archive.Pack(t.Context(), enc, root)
	must(err)
	must(enc.Close())
	_, err = m.WriteTo(&text)
	must(err)
	return image{text.Bytes(), packed.Bytes()}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// answer is what a test compares of an HTTP answer.
type answer struct {
	status int
	offset string
	body   string
}

func (s service) do(t *testing.T, method, path string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, s.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header.Get("Upload-Offset"), string(text)}
}

// patch uploads content[from:to] of a part.
func (s service) patch(t *testing.T, ref, part string, content []byte, from, to int) answer {
	t.Helper()
	return s.do(t, "PATCH", "/api/v1/images/"+ref+"/"+part, bytes.NewReader(content[from:to]),
		"Upload-Offset", strconv.Itoa(from), "Upload-Length", strconv.Itoa(len(content)), "Upload-Sha256", sum(content))
}

func (s service) upload(t *testing.T, ref string, i image) {
	t.Helper()
	for part, content := range map[string][]byte{"manifest": i.manifest, "archive": i.archive} {
		if a := s.patch(t, ref, part, content, 0, len(content)); a.status != http.StatusNoContent {
			t.Fatalf("upload %s: %+v", part, a)
		}
	}
}

// publish answers the last line.
func (s service) publish(t *testing.T, ref string) (step, message string) {
	t.Helper()
	a := s.do(t, "POST", "/api/v1/images/"+ref+"/publish", nil)
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	var last struct{ Step, Error string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatalf("publish: %+v: %v", a, err)
	}
	if a.status != http.StatusOK {
		last.Step = strconv.Itoa(a.status)
	}
	return last.Step, last.Error
}

func (s service) names(t *testing.T) []string {
	t.Helper()
	var list []struct {
		Role, Version string
		Complete      bool
	}
	if err := json.Unmarshal([]byte(s.do(t, "GET", "/api/v1/images", nil).body), &list); err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, i := range list {
		names = append(names, fmt.Sprintf("%s %s %v", i.Role, i.Version, i.Complete))
	}
	return names
}

func TestPublish(t *testing.T) {
	s := start(t, t.TempDir())
	i := build(t, map[string]string{"etc/hello": "hello"})
	s.upload(t, "V1/web", i)
	if diff := cmp.Diff([]string{}, s.names(t)); diff != "" {
		t.Errorf("before publishing (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "install", "V1")); err == nil {
		t.Error("the version is visible before publishing")
	}
	if step, message := s.publish(t, "V1/web"); step != "done" {
		t.Fatalf("publish: %s %s", step, message)
	}
	if diff := cmp.Diff([]string{"web V1 true"}, s.names(t)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	m, err := manifest.Read(bytes.NewReader(i.manifest))
	if err != nil {
		t.Fatal(err)
	}
	diffs, err := fstree.Verify(t.Context(), m, filepath.Join(s.dir, "install/V1/web"), fstree.Options{Extras: true})
	if err != nil || len(diffs) > 0 {
		t.Errorf("published tree: %v %v", diffs, err)
	}
	if got := s.do(t, "GET", "//install//V1/web-V1.edeploy", nil); got.body != string(i.archive) {
		t.Errorf("archive: status %d, %d bytes, want %d", got.status, len(got.body), len(i.archive))
	}
	if got := s.do(t, "GET", "/install/V1/web-V1.edeploy", nil, "Range", "bytes=10-19"); got.status != 206 || got.body != string(i.archive[10:20]) {
		t.Errorf("range: %+v", got)
	}
	if got := s.do(t, "GET", "/install/V1/web-V1.mtree", nil); got.body != string(i.manifest) {
		t.Errorf("manifest:\n%s", cmp.Diff(string(i.manifest), got.body))
	}
	left, err := os.ReadDir(filepath.Join(s.dir, ".incoming"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in staging: %v %v", left, err)
	}
	if a := s.patch(t, "V1/web", "archive", i.archive, 0, 10); a.status != http.StatusConflict || !strings.Contains(a.body, "there already") {
		t.Errorf("second upload: %+v", a)
	}
}

func TestPublishedOverRsync(t *testing.T) {
	needs.Program(t, "rsync")
	s := start(t, t.TempDir())
	s.upload(t, "V1/web", build(t, nil))
	if step, message := s.publish(t, "V1/web"); step != "done" {
		t.Fatalf("publish: %s %s", step, message)
	}
	dst := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "rsync", "-a", "rsync://"+s.rsync+"/install/V1/web/", dst).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text, err := os.ReadFile(filepath.Join(dst, "bin/su2")); string(text) != "su" {
		t.Errorf("bin/su2: %q, %v", text, err)
	}
}

// An archive of an original eDeploy: gzip, no manifest.
func TestOriginalArchive(t *testing.T) {
	i := build(t, map[string]string{"etc/x": "x"})
	dec, err := zstd.NewReader(bytes.NewReader(i.archive))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := io.Copy(z, dec); err != nil {
		t.Fatal(err)
	}
	z.Close()
	s := start(t, t.TempDir())
	s.patch(t, "D7-H.1.0.0/web", "archive", packed.Bytes(), 0, packed.Len())
	if step, message := s.publish(t, "D7-H.1.0.0/web"); step != "done" {
		t.Fatalf("publish: %s %s", step, message)
	}
	if got := s.do(t, "GET", "/install/D7-H.1.0.0/web-D7-H.1.0.0.mtree", nil); got.body != string(i.manifest) {
		t.Errorf("manifest (-want +got):\n%s", cmp.Diff(string(i.manifest), got.body))
	}
}

// A tree of an original eDeploy gets its manifest when the service starts, and
// what a crashed import left is gone.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"install/V0/old/etc", ".incoming/unpack-123/tree/etc", "install/.hidden/x", "metadata/V0/old/V1"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, dir)
	waitFor(t, "manifest", func() bool {
		return cmp.Equal([]string{"old V0 true"}, s.names(t))
	})
	waitFor(t, "empty staging directory", func() bool {
		left, err := filepath.Glob(filepath.Join(dir, ".incoming", "*"))
		return err == nil && len(left) == 0
	})
	if got := s.do(t, "GET", "/metadata/V0/old/", nil); got.body != "V1/\n" {
		t.Errorf("listing: %+v", got)
	}
}

func TestDelete(t *testing.T) {
	s := start(t, t.TempDir())
	i := build(t, nil)
	for _, ref := range []string{"V1/web", "V1/db"} {
		s.upload(t, ref, i)
		if step, message := s.publish(t, ref); step != "done" {
			t.Fatalf("publish: %s %s", step, message)
		}
	}
	if a := s.do(t, "DELETE", "/api/v1/images/V1/web", nil); a.status != http.StatusNoContent {
		t.Errorf("delete: %+v", a)
	}
	if diff := cmp.Diff([]string{"db V1 true"}, s.names(t)); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "install/V1/web*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A pipe of a tree must not block the server.
func TestStaticOpensFilesOnly(t *testing.T) {
	s := start(t, t.TempDir())
	s.upload(t, "V1/web", build(t, nil))
	if step, message := s.publish(t, "V1/web"); step != "done" {
		t.Fatalf("publish: %s %s", step, message)
	}
	if got := s.do(t, "GET", "/install/V1/web/pipe", nil); got.status != http.StatusNotFound {
		t.Errorf("pipe: %+v", got)
	}
}
