package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/source"
	"edeploy/integration/needs"
)

// testTree makes some directories and files, and returns their names and content.
func testTree(t *testing.T, dir string, files, size int) map[string]string {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	want := map[string]string{}
	for i := range files {
		name := fmt.Sprintf("d%d/f%d", i%3, i)
		content := make([]byte, size)
		for j := range content {
			content[j] = byte(random.Uint32())
		}
		want[name] = string(content)
		file := filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o640),
			os.Chtimes(file, time.Time{}, time.Date(2020, 1, 2, 3, 4, i%60, 0, time.UTC)))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("f0", filepath.Join(dir, "d0", "link")); err != nil {
		t.Fatal(err)
	}
	return want
}

func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		text, err := os.ReadFile(p)
		name, _ := filepath.Rel(dir, p)
		got[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func laptop(t *testing.T, log io.Writer) source.Transfer {
	if log == nil {
		log = t.Output()
	}
	return source.Transfer{
		Run: command.On(t.Output()), Log: slog.New(slog.NewTextHandler(log, nil)),
		Silence: time.Second, FirstPause: 5 * time.Millisecond, LongestPause: 20 * time.Millisecond, Patience: 10 * time.Second,
	}
}

func sameTree(t *testing.T, want map[string]string, dir string) {
	t.Helper()
	got := readTree(t, dir)
	names := func(m map[string]string) (n []string) {
		for name := range m {
			n = append(n, name)
		}
		return n
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d: %v", len(got), len(want), names(got))
	}
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%s differs: %d bytes, want %d", name, len(got[name]), len(content))
		}
	}
	if target, err := os.Readlink(filepath.Join(dir, "d0", "link")); err != nil || target != "f0" {
		t.Errorf("d0/link -> %q, %v", target, err)
	}
}

func TestTree(t *testing.T) {
	needs.Program(t, "rsync")
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			src, dst := t.TempDir(), t.TempDir()
			want := testTree(t, filepath.Join(src, "D7", "base"), 20, 10_000)
			tr := laptop(t, nil)
			var last atomic.Int64
			tr.Tick = time.Millisecond
			tr.Progress = func(n int64) { last.Store(n) }
			if err := tr.Dir(t.Context(), "rsync://"+start(t, src)+"/install/D7/base", dst); err != nil {
				t.Fatal(err)
			}
			sameTree(t, want, dst)
			if n := last.Load(); n < 200_000 || n > 220_000 {
				t.Errorf("the last progress says %d bytes, want 200,000 and a little", n)
			}
		})
	}
}

// The line is cut again and again in mid-transfer; each attempt goes on where
// the last one ended, so that it ends although no attempt gets it all.
func TestCutWireIsResumed(t *testing.T) {
	needs.Program(t, "rsync")
	for name, start := range servers {
		for _, dead := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, dead=%t", name, dead), func(t *testing.T) {
				t.Parallel()
				src, dst := t.TempDir(), t.TempDir()
				want := testTree(t, filepath.Join(src, "D7", "base"), 12, 100_000)
				w := &cutLine{server: start(t, src), after: func(n int) (int64, bool) {
					if n > 3 {
						return -1, false
					}
					return 450_000, dead
				}}
				var log bytes.Buffer
				tr := laptop(t, &log)
				tr.Silence = 300 * time.Millisecond
				var received atomic.Int64
				tr.Progress = func(n int64) { received.Store(n) }
				if err := tr.Dir(t.Context(), "rsync://"+w.start(t)+"/install/D7/base", dst); err != nil {
					t.Fatal(err)
				}
				sameTree(t, want, dst)
				if n := received.Load(); n > 1_500_000 {
					t.Errorf("received %d bytes for a tree of 1,200,000: it started over", n)
				}
				if !strings.Contains(log.String(), "waiting for 127.0.0.1:") {
					t.Errorf("nothing said what it waits for: %s", log.String())
				}
			})
		}
	}
}

// A server that is not there yet, as an appliance that restarts.
func TestServerComesBack(t *testing.T) {
	needs.Program(t, "rsync")
	src, dst := t.TempDir(), t.TempDir()
	want := testTree(t, filepath.Join(src, "base"), 3, 1000)
	w := &cutLine{server: gokrazyServer(t, src), after: func(n int) (int64, bool) {
		if n < 4 {
			return 0, false
		}
		return -1, false
	}}
	if err := laptop(t, nil).Dir(t.Context(), "rsync://"+w.start(t)+"/install/base", dst); err != nil {
		t.Fatal(err)
	}
	sameTree(t, want, dst)
	if n := w.conns.Load(); n != 4 {
		t.Errorf("%d connections, want 4", n)
	}
}

func TestMissing(t *testing.T) {
	needs.Program(t, "rsync")
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			src := t.TempDir()
			testTree(t, filepath.Join(src, "D7", "base"), 1, 10)
			server := start(t, src)
			for _, path := range []string{"install/D7/none", "install/D8/base", "other/D7/base"} {
				err := laptop(t, nil).Dir(t.Context(), "rsync://"+server+"/"+path, t.TempDir())
				if !errors.Is(err, source.ErrMissing) || !strings.Contains(err.Error(), path+" on "+server+" does not exist") {
					t.Errorf("tree %s: got %v", path, err)
				}
			}
			for _, path := range []string{"install/D7/base-D7.mtree", "install/D8/base-D8.mtree"} {
				err := laptop(t, nil).File(t.Context(), "rsync://"+server+"/"+path, filepath.Join(t.TempDir(), "m"), 1<<20)
				if !errors.Is(err, source.ErrMissing) {
					t.Errorf("file %s: got %v", path, err)
				}
			}
		})
	}
}

func TestFile(t *testing.T) {
	needs.Program(t, "rsync")
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			src, dst := t.TempDir(), filepath.Join(t.TempDir(), "manifest")
			if err := os.WriteFile(filepath.Join(src, "m.mtree"), bytes.Repeat([]byte("x"), 100_000), 0o600); err != nil {
				t.Fatal(err)
			}
			url := "rsync://" + start(t, src) + "/install/m.mtree"
			if err := laptop(t, nil).File(t.Context(), url, dst, 110_000); err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(dst); err != nil || len(text) != 100_000 {
				t.Errorf("%d bytes, %v", len(text), err)
			}
			err := laptop(t, nil).File(t.Context(), url, dst+"2", 50_000)
			if err == nil || !strings.Contains(err.Error(), "sent more than 50000 bytes") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPatienceEnds(t *testing.T) {
	needs.Program(t, "rsync")
	tests := []struct {
		name, server, want string
	}{
		{"nobody listens", "127.0.0.1:1", "connection refused"},
		{"silent server", serve(t, func(ctx context.Context, _ net.Conn) { <-ctx.Done() }), "said nothing for"},
		{"not an rsync server", serve(t, func(_ context.Context, c net.Conn) { io.WriteString(c, "SSH-2.0-x\r\n") }), "exit status"},
		// A connection that is closed with something unread is reset.
		{"server that resets", serve(t, func(_ context.Context, c net.Conn) { c.Read(make([]byte, 1)) }), "exit status"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := laptop(t, nil)
			tr.Silence, tr.Patience = 50*time.Millisecond, 10*time.Millisecond
			err := tr.Dir(t.Context(), "rsync://"+tt.server+"/install/x", t.TempDir())
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "no progress for") {
				t.Errorf("got %v, want ... %s", err, tt.want)
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	needs.Program(t, "rsync")
	src := t.TempDir()
	testTree(t, src, 1, 10)
	tr := laptop(t, nil)
	tr.Run = func(ctx context.Context, c command.Command) ([]byte, error) {
		return command.On(nil)(ctx, command.Shell("echo 'rsync: write failed on /chroot/a: No space left on device (28)'; exit 11"))
	}
	err := tr.Dir(t.Context(), "rsync://"+gokrazyServer(t, src)+"/install/", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("got %v", err)
	}
}

func TestCancel(t *testing.T) {
	needs.Program(t, "rsync")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	server := serve(t, func(ctx context.Context, _ net.Conn) { <-ctx.Done() })
	start := time.Now()
	err := laptop(t, nil).Dir(ctx, "rsync://"+server+"/install/x", t.TempDir())
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

func TestBadURL(t *testing.T) {
	for _, url := range []string{"http://a:1/b", "rsync://a/b", "\x00"} {
		err := source.Transfer{}.Dir(t.Context(), url, t.TempDir())
		if err == nil || !strings.Contains(err.Error(), "is not an rsync://host:port/path URL") {
			t.Errorf("%q: %v", url, err)
		}
	}
}
