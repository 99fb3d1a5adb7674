package images_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// get does not decompress anything by itself.
func (s service) get(t *testing.T, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	answer, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

func TestCompressed(t *testing.T) {
	s := start(t, t.TempDir())
	i := build(t, map[string]string{"etc/small": "small", "etc/big": strings.Repeat("big ", 1000)})
	s.upload(t, "V1/web", i)
	if step, message := s.publish(t, "V1/web"); step != "done" {
		t.Fatalf("publish: %s %s", step, message)
	}
	const name = "/install/V1/web-V1.mtree"
	plain, body := s.get(t, "GET", name)
	if body != string(i.manifest) || plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("plain: %v\n%s", plain.Header, cmp.Diff(string(i.manifest), body))
	}
	for accept, want := range map[string]string{"zstd": "zstd", "gzip, Zstd;q=0.5": "zstd", "gzip": "", "zstd;q=0": "", "zstd; q=0.000": "", "zstandard": ""} {
		if answer, _ := s.get(t, "GET", name, "Accept-Encoding", accept); answer.Header.Get("Content-Encoding") != want {
			t.Errorf("Accept-Encoding %q: coding %q, want %q", accept, answer.Header.Get("Content-Encoding"), want)
		}
	}
	small, body := s.get(t, "GET", name, "Accept-Encoding", "zstd")
	d, err := zstd.NewReader(strings.NewReader(body), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	text, err := io.ReadAll(d)
	if err != nil || string(text) != string(i.manifest) {
		t.Errorf("compressed: %v\n%s", err, cmp.Diff(string(i.manifest), string(text)))
	}
	if len(body) >= len(text) || small.Header.Get("ETag") == plain.Header.Get("ETag") {
		t.Errorf("compressed: %d bytes of %d, ETag %s and %s", len(body), len(text), small.Header.Get("ETag"), plain.Header.Get("ETag"))
	}
	if answer, body := s.get(t, "HEAD", name, "Accept-Encoding", "zstd"); body != "" || answer.Header.Get("Content-Encoding") != "zstd" {
		t.Errorf("HEAD: %q %v", body, answer.Header)
	}
	for path, want := range map[string]string{"web/etc/big": "zstd", "web/etc/small": "", "web-V1.edeploy": ""} {
		if answer, _ := s.get(t, "GET", "/install/V1/"+path, "Accept-Encoding", "zstd"); answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Encoding") != want {
			t.Errorf("%s: %s, coding %q, want %q", path, answer.Status, answer.Header.Get("Content-Encoding"), want)
		}
	}
	part, body := s.get(t, "GET", name, "Accept-Encoding", "zstd", "Range", "bytes=2-5")
	if part.StatusCode != http.StatusPartialContent || body != string(i.manifest[2:6]) {
		t.Errorf("range: %s %q", part.Status, body)
	}
}

// TestCompressedAtOnce: more clients than encoders get what they asked for.
func TestCompressedAtOnce(t *testing.T) {
	s := start(t, t.TempDir())
	i := build(t, map[string]string{"etc/big": strings.Repeat("big ", 200_000)})
	s.upload(t, "V1/web", i)
	if step, message := s.publish(t, "V1/web"); step != "done" {
		t.Fatalf("publish: %s %s", step, message)
	}
	var clients sync.WaitGroup
	for range 40 {
		clients.Go(func() {
			answer, body := s.get(t, "GET", "/install/V1/web/etc/big", "Accept-Encoding", "zstd")
			if answer.Header.Get("Content-Encoding") == "zstd" {
				d, err := zstd.NewReader(nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer d.Close()
				plain, err := d.DecodeAll([]byte(body), nil)
				if err != nil {
					t.Error(err)
				}
				body = string(plain)
			}
			if body != strings.Repeat("big ", 200_000) {
				t.Errorf("%s: %d bytes", answer.Header.Get("Content-Encoding"), len(body))
			}
		})
	}
	clients.Wait()
}

// A directory of any size is listed, in pieces.
func TestLargeDirectory(t *testing.T) {
	dir := t.TempDir()
	names := filepath.Join(dir, "install", "V1", "names")
	if err := os.MkdirAll(names, 0o755); err != nil {
		t.Fatal(err)
	}
	const many = 10_050
	for i := range many {
		if err := os.Symlink("x", filepath.Join(names, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, dir)
	got := strings.Fields(s.do(t, "GET", "/install/V1/names/", nil).body)
	slices.Sort(got)
	if n := len(slices.Compact(got)); n != many {
		t.Errorf("%d names, want %d", n, many)
	}
	if a := s.do(t, "GET", "/install/"+strings.Repeat("d/", 300), nil); a.status != 404 {
		t.Errorf("a name of 300 levels: %+v", a)
	}
}
