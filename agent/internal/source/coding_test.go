package source_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/agent/internal/source"
	"edeploy/images/manifest"

	"github.com/klauspost/compress/zstd"
)

// TestCompressed: a compressed file that is cut goes on with the file as it is.
func TestCompressed(t *testing.T) {
	data := bytes.Repeat([]byte("all work and no play "), 50_000)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 20_000 {
		data[i*50] = byte(random.Uint32())
	}
	encoder, err := zstd.NewWriter(nil)
	must(t, err)
	small := encoder.EncodeAll(data, nil)
	for name, test := range map[string]struct {
		tag, fileTag string
		cut          int
		size         int
		want         string // error
	}{
		"whole":         {`"1-zstd"`, `"1"`, len(small), len(data), ""},
		"cut":           {`"1-zstd"`, `"1"`, len(small) / 2, len(data), ""},
		"cut at once":   {`"1-zstd"`, `"1"`, 0, len(data), ""},
		"strange tag":   {`"abc"`, `"1"`, len(small) / 2, len(data), ""},
		"changed":       {`"1-zstd"`, `"2"`, len(small) / 2, len(data), "the file changed on the server meanwhile"},
		"shorter":       {`"1-zstd"`, `"1"`, len(small), len(data) + 1, "it has 1050000 bytes on the server, the manifest says 1050001"},
		"longer":        {`"1-zstd"`, `"1"`, len(small), len(data) - 1, "it is longer on the server than the 1049999 bytes that the manifest says"},
		"shorter, tiny": {`"1-zstd"`, `"1"`, len(small), 1 << 40, "it has 1050000 bytes on the server, the manifest says 1099511627776"},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Accept-Encoding") == "zstd" && r.Header.Get("Range") == "" {
					w.Header().Set("ETag", test.tag)
					w.Header().Set("Content-Encoding", "zstd")
					w.Write(small[:test.cut])
					w.(http.Flusher).Flush()
					if test.cut < len(small) {
						panic(http.ErrAbortHandler)
					}
					return
				}
				w.Header().Set("ETag", test.fileTag)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			}))
			defer web.Close()
			got, err := fetch(t, impatient(t, web.URL), "x", test.size)
			if test.want != "" {
				if err == nil || !strings.HasSuffix(err.Error(), "/x: "+test.want) {
					t.Errorf("error = %v, want %s", err, test.want)
				}
				return
			}
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d of %d bytes, %v", len(got), len(data), err)
			}
		})
	}
}

// TestCompressedConnection: it is used again.
func TestCompressedConnection(t *testing.T) {
	data := bytes.Repeat([]byte("x"), 3<<20)
	encoder, err := zstd.NewWriter(nil)
	must(t, err)
	small := encoder.EncodeAll(data, nil)
	var conns atomic.Int32
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "zstd")
		for part := range slices.Chunk(small, 50) {
			w.Write(part)
			w.(http.Flusher).Flush()
		}
	}))
	web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	web.Start()
	defer web.Close()
	config := impatient(t, web.URL)
	config.Silence = time.Minute
	s := source.NewFiles(config)
	for range 10 {
		r, err := s.Tree(image).Open(t.Context(), &manifest.Entry{Path: "x", Size: int64(len(data))})
		must(t, err)
		got, err := io.ReadAll(r)
		must(t, errors.Join(err, r.Close()))
		if !bytes.Equal(got, data) {
			t.Fatalf("got %d bytes", len(got))
		}
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections for 10 files one after the other, want 1", conns.Load())
	}
}

// TestBombs: little on the wire that becomes much is refused while it is read.
func TestBombs(t *testing.T) {
	for name, test := range map[string]struct{ piece, want string }{
		"entries":  {"/set type=dir mode=0755 uid=0 gid=0 time=0.0\n" + strings.Repeat("a\n..\n", 1000), "more than 524288 entries"},
		"comments": {strings.Repeat("#"+strings.Repeat(" ", 1000)+"\n", 100), "longer than"},
		"one line": {strings.Repeat("#", 1000), "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "zstd")
				encoder, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
				must(t, err)
				defer encoder.Close()
				_, err = io.WriteString(encoder, "#mtree\n")
				for sent := 0; sent < 1<<30 && err == nil; sent += len(test.piece) {
					_, err = io.WriteString(encoder, test.piece)
				}
			}))
			defer web.Close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			config := impatient(t, web.URL)
			config.Silence = time.Minute // a busy machine compresses slowly
			_, err := source.NewFiles(config).Manifest(t.Context(), image)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), "read manifest: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Manifest = %v, want %q", err, test.want)
			}
			if held := int64(after.HeapSys) - int64(before.HeapSys); held > 512<<20 {
				t.Errorf("it took %d MB", held>>20)
			}
		})
	}
}
