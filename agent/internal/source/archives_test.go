package source_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/agent/internal/source"
	"edeploy/integration/needs"
)

// webDir is a directory with one file of random bytes, archive.
func webDir(t *testing.T, size int) (dir string, content []byte) {
	t.Helper()
	random := rand.New(rand.NewPCG(7, 7))
	content = make([]byte, size)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	dir = t.TempDir()
	replaceFile(t, filepath.Join(dir, "archive"), content, time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC))
	return dir, content
}

func replaceFile(t *testing.T, file string, content []byte, modified time.Time) {
	t.Helper()
	if err := errors.Join(os.WriteFile(file, content, 0o600), os.Chtimes(file, modified, modified)); err != nil {
		t.Fatal(err)
	}
}

// webServers are the kinds of web servers that an agent meets.
var webServers = map[string]func(t *testing.T, dir string) (address string){
	"ranges": func(t *testing.T, dir string) string { return serveWeb(t, http.FileServer(http.Dir(dir))) },
	"no ranges": func(t *testing.T, dir string) string {
		return serveWeb(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
		}))
	},
	"no validators": func(t *testing.T, dir string) string {
		return serveWeb(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text, err := os.ReadFile(filepath.Join(dir, r.URL.Path))
			if err != nil {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
			w.Write(text)
		}))
	},
	"python": pythonServer,
}

func serveWeb(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// pythonServer is the plain web server that everybody has.
func pythonServer(t *testing.T, dir string) string {
	t.Helper()
	python := needs.Program(t, "python3")
	cmd := exec.Command(python, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", dir, "0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	var port int
	if _, scanErr := fmt.Sscanf(line, "Serving HTTP on 127.0.0.1 port %d", &port); err != nil || scanErr != nil {
		t.Fatalf("python says %q: %v", line, errors.Join(err, scanErr))
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func readStream(t *testing.T, s *source.Stream) ([]byte, error) {
	t.Helper()
	defer s.Close()
	return io.ReadAll(s)
}

// The line is cut at random places; what comes out is the file.
func TestStreamOverCutWires(t *testing.T) {
	for name, start := range webServers {
		for _, dead := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, dead=%t", name, dead), func(t *testing.T) {
				t.Parallel()
				dir, content := webDir(t, 1_000_000)
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				random := rand.New(rand.NewPCG(seed, 0))
				cuts := make([]int64, 6)
				if dead {
					cuts = cuts[:2] // each silence is waited for longer
				}
				for i := range cuts {
					cuts[i] = random.Int64N(300_000)
				}
				w := &cutLine{server: start(t, dir), after: func(n int) (int64, bool) {
					if n > len(cuts) {
						return -1, false
					}
					return cuts[n-1], dead
				}}
				var log bytes.Buffer
				tr := laptop(t, &log)
				tr.Silence = 200 * time.Millisecond
				var last int64
				tr.Progress = func(n int64) { last = n }
				s, err := tr.Open(t.Context(), "http://"+w.start(t)+"/archive")
				if err != nil {
					t.Fatal(err)
				}
				got, err := readStream(t, s)
				if err != nil || !bytes.Equal(got, content) || last != int64(len(content)) {
					t.Errorf("got %d bytes, progress %d of %d, %v", len(got), last, len(content), err)
				}
				if !strings.Contains(log.String(), "waiting for 127.0.0.1:") {
					t.Errorf("nothing said what it waits for: %s", log.String())
				}
			})
		}
	}
}

// Only what is missing is asked for again where that can be had.
func TestStreamResumesByRange(t *testing.T) {
	dir, content := webDir(t, 1_000_000)
	var sent atomic.Int64
	files := http.FileServer(http.Dir(dir))
	server := serveWeb(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		files.ServeHTTP(&countingWriter{w, &sent, 250_000}, r)
	}))
	s, err := laptop(t, nil).Open(t.Context(), "http://"+server+"/archive")
	if err != nil {
		t.Fatal(err)
	}
	got, err := readStream(t, s)
	if err != nil || !bytes.Equal(got, content) || sent.Load() != int64(len(content)) {
		t.Errorf("%d bytes, the server sent %d of %d: %v", len(got), sent.Load(), len(content), err)
	}
}

// countingWriter ends each answer after so many bytes.
type countingWriter struct {
	http.ResponseWriter
	sent *atomic.Int64
	left int
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	w.sent.Add(int64(n))
	if w.left -= n; err == nil && n < len(p) {
		err = errors.New("the line is cut")
	}
	return n, err
}

func TestStreamOfReplacedFile(t *testing.T) {
	for name, start := range webServers {
		t.Run(name, func(t *testing.T) {
			dir, content := webDir(t, 1_000_000)
			shorter := append([]byte("new"), content[:len(content)-100]...)
			w := &cutLine{server: start(t, dir), after: func(n int) (int64, bool) {
				if n > 1 {
					replaceFile(t, filepath.Join(dir, "archive"), shorter, time.Now())
					return -1, false
				}
				return 500_000, false
			}}
			s, err := laptop(t, nil).Open(t.Context(), "http://"+w.start(t)+"/archive")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := readStream(t, s); !errors.Is(err, source.ErrReplaced) {
				t.Errorf("%d bytes, %v, want %v", len(got), err, source.ErrReplaced)
			}
		})
	}
}

func TestFetchTakesTheNewFile(t *testing.T) {
	dir, content := webDir(t, 300_000)
	changed := append([]byte("new"), content[100:]...)
	w := &cutLine{server: webServers["ranges"](t, dir), after: func(n int) (int64, bool) {
		if n == 2 {
			replaceFile(t, filepath.Join(dir, "archive"), changed, time.Now())
		}
		if n > 1 {
			return -1, false
		}
		return 200_000, false
	}}
	if got, err := laptop(t, nil).Fetch(t.Context(), "http://"+w.start(t)+"/archive", 1<<20); err != nil || !bytes.Equal(got, changed) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_, err := laptop(t, nil).Fetch(t.Context(), "http://"+w.server+"/archive", 1000)
	if err == nil || !strings.Contains(err.Error(), "sent more than 1000 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestStreamFindsTheFirstThatIsThere(t *testing.T) {
	dir, content := webDir(t, 1000)
	top := "http://" + webServers["ranges"](t, dir) + "/"
	s, err := laptop(t, nil).Open(t.Context(), top+"none", top+"archive")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readStream(t, s); err != nil || !bytes.Equal(got, content) || s.URL() != top+"archive" || s.Size() != 1000 {
		t.Errorf("%s: %d of %d bytes, %v", s.URL(), len(got), s.Size(), err)
	}
	_, err = laptop(t, nil).Open(t.Context(), top+"none", top+"neither")
	if !errors.Is(err, source.ErrMissing) || !strings.Contains(err.Error(), top+"neither does not exist") {
		t.Errorf("got %v", err)
	}
}

func TestStreamAnswers(t *testing.T) {
	answer := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
		}
	}
	silence := serve(t, func(ctx context.Context, _ net.Conn) { <-ctx.Done() })
	tests := []struct {
		name, server, want string
	}{
		{"forbidden", serveWeb(t, answer(403)), "HTTP status 403 Forbidden"},
		{"server error", serveWeb(t, answer(500)), "HTTP status 500"},
		{"redirection", serveWeb(t, answer(301, "Location", "https://other/")), `HTTP status 301 Moved Permanently to "https://other/", which is not followed`},
		{"unasked range", serveWeb(t, answer(206, "Content-Range", "bytes 0-1/2")), "HTTP status 206"},
		{"away", serveWeb(t, answer(503)), "no progress for 0s: HTTP status 503"},
		{"nobody listens", "127.0.0.1:1", "connection refused"},
		{"silent server", silence, "said nothing for 50ms"},
		{"not a web server", serve(t, func(_ context.Context, c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") }), "no progress for"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := laptop(t, nil)
			tr.Silence, tr.Patience = 50*time.Millisecond, 10*time.Millisecond
			_, err := tr.Open(t.Context(), "http://"+tt.server+"/archive")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ... %s", err, tt.want)
			}
		})
	}
}

// A range that was not asked for would put bytes in the wrong place.
func TestStreamRefusesAnotherRange(t *testing.T) {
	dir, _ := webDir(t, 100_000)
	var asked atomic.Int32
	server := serveWeb(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 {
			w.Header().Set("Content-Range", "bytes 10-99999/100000")
			w.WriteHeader(206)
			return
		}
		http.FileServer(http.Dir(dir)).ServeHTTP(&countingWriter{w, new(atomic.Int64), 50_000}, r)
	}))
	s, err := laptop(t, nil).Open(t.Context(), "http://"+server+"/archive")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readStream(t, s); err == nil || !strings.Contains(err.Error(), `the server answered with range "bytes 10-99999/100000"`) {
		t.Errorf("got %v", err)
	}
}
