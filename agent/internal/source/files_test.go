package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/agent/internal/source"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

var image = wire.ImageRef{Role: "mysql", Version: "D12-F.1.0.1"}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// impatient is a Config that tests can wait for.
func impatient(t *testing.T, server string) source.Config {
	t.Helper()
	u, err := url.Parse(server)
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	return source.Config{Host: u.Hostname(), Port: port, Patience: 5 * time.Second, Silence: 300 * time.Millisecond, Pause: time.Millisecond}
}

func fetch(t *testing.T, c source.Config, name string, size int) ([]byte, error) {
	t.Helper()
	s := source.NewFiles(c)
	defer s.Close()
	r, err := s.Tree(image).Open(t.Context(), &manifest.Entry{Path: name, Type: manifest.File, Size: int64(size)})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// static serves files as the appliance does: the cleaned path, in an os.Root.
func static(t *testing.T, dir string) http.Handler {
	root, err := os.OpenRoot(dir)
	must(t, err)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := root.Open(strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/install/"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, info.Size()))
		http.ServeContent(w, r, "", info.ModTime(), f)
	})
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	web := httptest.NewServer(static(t, dir))
	defer web.Close()
	for _, name := range []string{"usr/bin/su", "a b", "100%41", "x?y#z", "new\nline", "\xff\xfe", "a+b&c=d", "ü", "semi;colon", `back\slash`, "etc/...", "~", "q\"'"} {
		file := filepath.Join(dir, image.Tree(), name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte("content of "+name), 0o600))
		got, err := fetch(t, impatient(t, web.URL), name, len("content of "+name))
		if err != nil || string(got) != "content of "+name {
			t.Errorf("%q = %q, %v", name, got, err)
		}
	}
}

// cutting serves one file and breaks each answer after some bytes.
type cutting struct {
	data     []byte
	ranges   bool
	cut      func() int
	requests atomic.Int32
}

func (c *cutting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.requests.Add(1)
	if !c.ranges {
		r.Header.Del("Range")
	}
	w.Header().Set("ETag", `"1"`)
	http.ServeContent(&cut{ResponseWriter: w, left: c.cut()}, r, "", time.Time{}, bytes.NewReader(c.data))
}

// cut drops the connection when enough is written.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.ResponseWriter.Write(p[:n])
	if c.left -= n; c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

func TestCuts(t *testing.T) {
	data := make([]byte, 300_000)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for name, ranges := range map[string]bool{"ranges": true, "no ranges": false} {
		t.Run(name, func(t *testing.T) {
			at := 0
			server := &cutting{data: data, ranges: ranges, cut: func() int {
				at += 1 + random.IntN(60_000) // without ranges each attempt must come further
				return at
			}}
			web := httptest.NewServer(server)
			defer web.Close()
			var said []string
			config := impatient(t, web.URL)
			config.Notify = func(s string) { said = append(said, s) }
			got, err := fetch(t, config, "x", len(data))
			must(t, err)
			if !bytes.Equal(got, data) {
				t.Errorf("got %d bytes, not those of the file", len(got))
			}
			if server.requests.Load() < 3 || len(said) < 2 || !strings.HasPrefix(said[0], "waiting for the server 127.0.0.1:") || !strings.HasPrefix(said[1], "the server is back after ") {
				t.Errorf("%d requests, said %q", server.requests.Load(), said)
			}
		})
	}
}

// TestAway stops the server in the middle of a file; another one on the same
// address is there a while later.
func TestAway(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	first := httptest.NewServer(&cutting{data: data, ranges: true, cut: func() int { return 100_000 }})
	address := first.Listener.Addr().String()
	config := impatient(t, first.URL)
	config.Pause = 10 * time.Millisecond
	restart := sync.OnceFunc(func() {
		first.Listener.Close()
		l, err := net.Listen("tcp", address)
		must(t, err)
		second := httptest.NewUnstartedServer(&cutting{data: data, ranges: true, cut: func() int { return 1 << 30 }})
		second.Listener.Close()
		second.Listener = l
		time.AfterFunc(100*time.Millisecond, second.Start)
		t.Cleanup(second.Close)
	})
	config.Notify = func(string) { restart() }
	got, err := fetch(t, config, "x", len(data))
	first.Close()
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d of %d bytes, %v", len(got), len(data), err)
	}
}

func TestStaysAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	l.Close()
	config := impatient(t, "http://"+l.Addr().String())
	config.Patience = 50 * time.Millisecond
	_, err = fetch(t, config, "usr/bin/su", 2)
	if err == nil || !strings.HasPrefix(err.Error(), "fetch http://"+l.Addr().String()+"/install/D12-F.1.0.1/mysql/usr/bin/su: no answer for ") || !strings.HasSuffix(err.Error(), "connection refused") {
		t.Errorf("error = %v", err)
	}
}

// TestNoProgress: a server that always answers and never sends is not waited
// for for ever.
func TestNoProgress(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"cut": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"silence": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"no head": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"503":     func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			web := httptest.NewServer(handler)
			defer web.Close()
			config := impatient(t, web.URL)
			config.Patience, config.Silence = 200*time.Millisecond, 50*time.Millisecond
			_, err := fetch(t, config, "x", 10)
			if err == nil || !strings.Contains(err.Error(), "/x: no answer for ") {
				t.Errorf("error = %v", err)
			}
			t.Log(err)
		})
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"missing":   {http.NotFound, "/x: the server has no such file: the tree of mysql D12-F.1.0.1 is not the one its manifest describes"},
		"forbidden": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "/x: the server answers 403 Forbidden"},
		"size":      {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "123") }, "/x: it has 3 bytes on the server, the manifest says 10"},
		"redirect":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, "/x: the server answers 302 Found"},
		"range": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 5-9/10")
			w.WriteHeader(http.StatusPartialContent)
		}, `/x: the server answers "bytes 5-9/10", asked for "bytes 0-9/10"`},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(test.handler)
			defer web.Close()
			if _, err := fetch(t, impatient(t, web.URL), "x", 10); err == nil || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("error = %v, want ...%s", err, test.want)
			}
		})
	}
}

func TestChangedMeanwhile(t *testing.T) {
	version := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version++
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, version))
		http.ServeContent(&cut{ResponseWriter: w, left: 5}, r, "", time.Time{}, strings.NewReader("0123456789"))
	}))
	defer web.Close()
	if _, err := fetch(t, impatient(t, web.URL), "x", 10); err == nil || !strings.HasSuffix(err.Error(), "/x: the file changed on the server meanwhile") {
		t.Errorf("error = %v", err)
	}
}

func TestBytes(t *testing.T) {
	data := make([]byte, 100_000)
	var conns atomic.Int32
	web := httptest.NewUnstartedServer(&cutting{data: data, cut: func() int { return 1 << 30 }})
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
	for range 20 {
		r, err := s.Tree(image).Open(t.Context(), &manifest.Entry{Path: "x", Size: int64(len(data))})
		must(t, err)
		_, err = io.Copy(io.Discard, r)
		must(t, errors.Join(err, r.Close()))
	}
	if n := s.Bytes(); n < 20*100_100 || n > 20*100_500 {
		t.Errorf("20 files of 100,000 bytes: %d bytes counted", n)
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections for 20 files one after the other, want 1", conns.Load())
	}
}

func TestCancelled(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer web.Close()
	config := impatient(t, web.URL)
	config.Silence = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	s := source.NewFiles(config)
	r, err := s.Tree(image).Open(ctx, &manifest.Entry{Path: "x", Size: 10})
	must(t, err)
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
	must(t, r.Close())
}
