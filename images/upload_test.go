package images_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An upload goes on where its connection broke, also after a restart.
func TestUploadResumes(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	i := build(t, map[string]string{"big": strings.Repeat("something ", 1000)})
	half := len(i.archive) / 2
	// A connection that breaks off after half of the announced body.
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PATCH /api/v1/images/V1/web/archive HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nUpload-Offset: 0\r\nUpload-Length: %d\r\nUpload-Sha256: %s\r\n\r\n",
		len(i.archive), len(i.archive), sum(i.archive))
	conn.Write(i.archive[:half])
	waitFor(t, "half of the archive", func() bool {
		return s.do(t, "HEAD", "/api/v1/images/V1/web/archive", nil).offset == strconv.Itoa(half)
	})
	if a := s.patch(t, "V1/web", "archive", i.archive, half, len(i.archive)); a.status != http.StatusConflict || !strings.Contains(a.body, "under way") {
		t.Errorf("upload beside another: %+v", a)
	}
	conn.Close()
	s.stop()

	s = start(t, dir)
	if a := s.patch(t, "V1/web", "archive", i.archive, half-1, len(i.archive)); a.status != http.StatusConflict || a.offset != strconv.Itoa(half) {
		t.Errorf("wrong offset: %+v, want conflict at %d", a, half)
	}
	if a := s.patch(t, "V1/web", "archive", i.archive, half, len(i.archive)); a.status != http.StatusNoContent {
		t.Errorf("rest: %+v", a)
	}
	if a := s.patch(t, "V1/web", "manifest", i.manifest, 0, len(i.manifest)); a.status != http.StatusNoContent {
		t.Errorf("manifest: %+v", a)
	}
	if step, message := s.publish(t, "V1/web"); step != "done" {
		t.Errorf("publish: %s %s", step, message)
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 10 s", what)
		}
	}
}

// An archive that another build replaced under the same name starts anew.
func TestUploadOfAnotherBuild(t *testing.T) {
	s := start(t, t.TempDir())
	old, young := build(t, map[string]string{"a": "old"}), build(t, map[string]string{"a": "young"})
	if a := s.patch(t, "V1/web", "archive", old.archive, 0, 20); a.status != http.StatusNoContent {
		t.Fatalf("%+v", a)
	}
	s.upload(t, "V1/web", young)
	if step, message := s.publish(t, "V1/web"); step != "done" {
		t.Errorf("publish: %s %s", step, message)
	}
}

func TestRefusedRequests(t *testing.T) {
	s := start(t, t.TempDir())
	part := "/api/v1/images/V1/web/archive"
	good := []string{"Upload-Offset", "0", "Upload-Length", "10", "Upload-Sha256", sum(nil)}
	with := func(name, value string) []string {
		header := append([]string{}, good...)
		for i := 0; i < len(header); i += 2 {
			if header[i] == name {
				header[i+1] = value
			}
		}
		return header
	}
	tests := []struct {
		name, method, path string
		header             []string
		status             int
		want               string
	}{
		{"role that climbs", "PATCH", "/api/v1/images/V1/..%2f..%2fetc/archive", good, 404, ""},
		{"version with a dot", "PATCH", "/api/v1/images/.incoming/web/archive", good, 400, "starts with"},
		{"odd letters", "GET", "/api/v1/images/V1/we%00b", nil, 400, "holds"},
		{"unknown part", "PATCH", "/api/v1/images/V1/web/other", good, 404, "no such resource"},
		{"unknown image", "GET", "/api/v1/images/V1/web", nil, 404, "no such image"},
		{"delete of nothing", "DELETE", "/api/v1/images/V1/web", nil, 404, "no such image"},
		{"no upload yet", "HEAD", part, nil, 404, ""},
		{"method", "PUT", part, good, 405, "not allowed"},
		{"no length", "PATCH", part, with("Upload-Length", ""), 400, "Upload-Length"},
		{"negative length", "PATCH", part, with("Upload-Length", "-1"), 400, "Upload-Length"},
		{"zero length", "PATCH", part, with("Upload-Length", "0"), 400, "length 0"},
		{"sum", "PATCH", part, with("Upload-Sha256", "xyz"), 400, "64 lower-case"},
		{"offset of nothing", "PATCH", part, with("Upload-Offset", "5"), 409, "0 bytes are here"},
		{"offset behind the end", "PATCH", part, with("Upload-Offset", "50"), 400, "offset 50"},
		{"no space", "PATCH", part, with("Upload-Length", strconv.Itoa(1<<39)), 507, "MB are free"},
		{"huge", "PATCH", part, with("Upload-Length", strconv.Itoa(1<<50)), 400, "length"},
		{"publish of nothing", "POST", "/api/v1/images/V1/web/publish", nil, 404, "nothing was uploaded"},
		{"static write", "PUT", "/install/V1/x", nil, 405, "GET or HEAD"},
		{"static climb", "GET", "/install/..%2f.incoming/", nil, 404, ""},
		{"static nothing", "GET", "/install/V1/web", nil, 404, ""},
		{"elsewhere", "GET", "/other", nil, 404, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := s.do(t, tt.method, tt.path, nil, tt.header...)
			if got.status != tt.status || !strings.Contains(got.body, tt.want) {
				t.Errorf("got %+v, want status %d with %q", got, tt.status, tt.want)
			}
		})
	}
}

// What does not fit together is never visible, and says why.
func TestRefusedImages(t *testing.T) {
	good, other := build(t, map[string]string{"a": "one"}), build(t, map[string]string{"a": "two"})
	tests := []struct {
		name              string
		manifest, archive []byte
		want              string
	}{
		{"another build's manifest", other.manifest, good.archive, "does not hold what the manifest says"},
		{"truncated archive", good.manifest, good.archive[:len(good.archive)-20], "publish web V1"},
		{"not an archive", good.manifest, []byte(strings.Repeat("no archive ", 100)), "neither zstd nor gzip nor tar"},
		{"not a manifest", []byte("nonsense\n"), good.archive, "invalid manifest"},
		{"archive that climbs", nil, climbing(t), "publish web V1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, t.TempDir())
			if tt.manifest != nil {
				s.patch(t, "V1/web", "manifest", tt.manifest, 0, len(tt.manifest))
			}
			s.patch(t, "V1/web", "archive", tt.archive, 0, len(tt.archive))
			step, message := s.publish(t, "V1/web")
			if step == "done" || !strings.Contains(message, tt.want) {
				t.Errorf("publish: %s %q, want an error with %q", step, message, tt.want)
			}
			if diff := cmp.Diff([]string{}, s.names(t)); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, ".incoming", "unpack-*")); len(left) > 0 {
				t.Errorf("left in staging: %v", left)
			}
		})
	}
	t.Run("damaged on its way", func(t *testing.T) {
		s := start(t, t.TempDir())
		s.do(t, "PATCH", "/api/v1/images/V1/web/archive", bytes.NewReader(good.archive),
			"Upload-Offset", "0", "Upload-Length", strconv.Itoa(len(good.archive)), "Upload-Sha256", sum(nil))
		if step, message := s.publish(t, "V1/web"); step == "done" || !strings.Contains(message, "damaged on its way") {
			t.Errorf("publish: %s %q", step, message)
		}
	})
	t.Run("incomplete", func(t *testing.T) {
		s := start(t, t.TempDir())
		s.patch(t, "V1/web", "archive", good.archive, 0, 30)
		if step, message := s.publish(t, "V1/web"); step == "done" || !strings.Contains(message, "not complete: 30 of") {
			t.Errorf("publish: %s %q", step, message)
		}
	})
}

// Content that is at fault does not stay.
func TestRefusedImagesAreForgotten(t *testing.T) {
	s := start(t, t.TempDir())
	good := build(t, map[string]string{"a": "one"})
	for name, archive := range map[string][]byte{
		"cut":       good.archive[:len(good.archive)-20],
		"no tar":    bytes.Repeat([]byte("no archive "), 100),
		"damaged":   append(bytes.Clone(good.archive[:len(good.archive)/2]), make([]byte, len(good.archive)/2)...),
		"too large": compressed(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1 << 37}),
	} {
		s.patch(t, "V1/web", "archive", archive, 0, len(archive))
		if step, message := s.publish(t, "V1/web"); step == "done" {
			t.Errorf("%s: publish: %s %q", name, step, message)
		}
		if left, err := os.ReadDir(filepath.Join(s.dir, ".incoming")); err != nil || len(left) > 0 {
			t.Errorf("%s: left: %v, %v", name, left, err)
		}
	}
	// An upload that is not at its end is not at fault.
	s.patch(t, "V1/web", "archive", good.archive, 0, 30)
	s.publish(t, "V1/web")
	if a := s.do(t, "HEAD", "/api/v1/images/V1/web/archive", nil); a.offset != "30" {
		t.Errorf("unfinished upload after publish: %+v", a)
	}
}

func TestUnfinishedUploads(t *testing.T) {
	s := start(t, t.TempDir())
	i := build(t, nil)
	s.patch(t, "V1/web", "manifest", i.manifest, 0, len(i.manifest))
	s.patch(t, "V1/web", "archive", i.archive, 0, 30)
	list := func() string {
		t.Helper()
		var got []struct {
			Role, Version, Part, Peer, Broken string
			Offset, Length                    int
			Changed                           time.Time
		}
		if err := json.Unmarshal([]byte(s.do(t, "GET", "/api/v1/images/uploads", nil).body), &got); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if time.Since(got[i].Changed) > time.Minute {
				t.Errorf("changed at %v", got[i].Changed)
			}
			got[i].Changed = time.Time{}
		}
		return fmt.Sprintf("%+v", got)
	}
	want := fmt.Sprintf("[{Role:web Version:V1 Part:manifest Peer:127.0.0.1 Broken: Offset:%d Length:%d Changed:%v} "+
		"{Role:web Version:V1 Part:archive Peer:127.0.0.1 Broken: Offset:30 Length:%d Changed:%v}]",
		len(i.manifest), len(i.manifest), time.Time{}, len(i.archive), time.Time{})
	if diff := cmp.Diff(want, list()); diff != "" {
		t.Errorf("uploads (-want +got):\n%s", diff)
	}
	for _, status := range []int{204, 404} {
		if a := s.do(t, "DELETE", "/api/v1/images/V1/web/uploads", nil); a.status != status {
			t.Errorf("delete: %+v, want %d", a, status)
		}
	}
	if got := list(); got != "[]" {
		t.Errorf("uploads after they were deleted: %s", got)
	}
}

// trickle begins an upload that sends a byte now and then.
func (s service) trickle(t *testing.T, ref string) *bufio.Reader {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "PATCH /api/v1/images/%s/archive HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\nUpload-Offset: 0\r\nUpload-Length: 9999\r\nUpload-Sha256: %s\r\n\r\n", ref, sum(nil))
	go func() {
		for range 300 {
			if _, err := conn.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	waitFor(t, "upload of "+ref, func() bool {
		return s.do(t, "HEAD", "/api/v1/images/"+ref+"/archive", nil).offset != ""
	})
	return bufio.NewReader(conn)
}

// One peer has two places for uploads, and who sends slowly loses them.
func TestTricklingUploads(t *testing.T) {
	s := start(t, t.TempDir())
	first := s.trickle(t, "V1/a")
	s.trickle(t, "V1/b")
	i := build(t, nil)
	if a := s.patch(t, "V1/web", "archive", i.archive, 0, len(i.archive)); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "2 from one address") {
		t.Errorf("a third upload: %+v", a)
	}
	answer, err := http.ReadResponse(first, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "the upload is too slow, its place is given to others") {
		t.Errorf("answer to a slow upload: %s %s %v", answer.Status, text, err)
	}
	waitFor(t, "free place", func() bool {
		return s.patch(t, "V1/web", "archive", i.archive, 0, len(i.archive)).status == http.StatusNoContent
	})
}

// climbing is an archive that writes beside its tree.
func climbing(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "../../../evil", Typeflag: tar.TypeReg, Mode: 0o644, Size: 4},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(w, "evil")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
