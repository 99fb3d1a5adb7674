package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/images"
	"edeploy/images/manifest/archive"
	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// imageServer is a real image service; it answers its host and port.
func imageServer(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := images.New(images.Config{Dir: t.TempDir(), RsyncListener: ln})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	web := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		web.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return web.Listener.Addr().String()
}

// fragile passes connections on, and cuts each after so many bytes towards the
// server, for as long as cuts are left.
func fragile(t *testing.T, target string, bytes int64, cuts int32) (addr string, left *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	left = new(atomic.Int32)
	left.Store(cuts)
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go pass(client, target, bytes, left)
		}
	}()
	return ln.Addr().String(), left
}

func pass(client net.Conn, target string, bytes int64, left *atomic.Int32) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go io.Copy(client, server)
	if left.Load() <= 0 {
		io.Copy(server, client)
		return
	}
	if n, _ := io.CopyN(server, client, bytes); n == bytes {
		left.Add(-1)
	}
}

// buildImage writes an archive and its manifest as mkrole does; incompressible
// content of size bytes is in it.
func buildImage(t *testing.T, out string, ref wire.ImageRef, size int) {
	t.Helper()
	root := t.TempDir()
	content := make([]byte, size)
	for i, x := 0, uint32(1); i < size; i++ {
		x = x*1664525 + 1013904223
		content[i] = byte(x >> 24)
	}
	if err := os.WriteFile(filepath.Join(root, "content"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	var packed, text bytes.Buffer
	enc, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	m, err := archive.Pack(t.Context(), enc, root)
	if err != nil {
		t.Fatal(err)
	}
	enc.Close()
	if _, err := m.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(out, ref.Version), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{ref.Archive(): packed.Bytes(), ref.Manifest(): text.Bytes()} {
		if err := os.WriteFile(filepath.Join(out, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// runPush runs the command and answers its two outputs.
func runPush(t *testing.T, server string, args ...string) (out, progress string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := newPushCommand(&api.Client{Address: server})
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	err = cmd.ExecuteContext(ctx)
	return stdout.String(), stderr.String(), err
}

func TestPush(t *testing.T) {
	out := t.TempDir()
	ref := wire.ImageRef{Role: "web", Version: "D12-F.1.0.0"}
	buildImage(t, out, ref, 100_000)
	server := imageServer(t)
	const want = "web D12-F.1.0.0: published, 2 entries, 0.1 MB\n"
	for _, args := range [][]string{
		{ref.Role, ref.Version, "--out", out},
		{filepath.Join(out, ref.Archive())}, // there already: nothing to do
	} {
		got, progress, err := runPush(t, server, args...)
		if err != nil {
			t.Fatalf("push %v: %v\n%s", args, err, progress)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("push %v (-want +got):\n%s", args, diff)
		}
	}
}

func TestPushContinuesAfterBrokenConnections(t *testing.T) {
	out := t.TempDir()
	ref := wire.ImageRef{Role: "web", Version: "V1"}
	buildImage(t, out, ref, 8<<20)
	server, left := fragile(t, imageServer(t), 2<<20, 3)
	got, progress, err := runPush(t, server, ref.Role, ref.Version, "--out", out)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress)
	}
	if left.Load() != 0 {
		t.Errorf("%d cuts did not happen", left.Load())
	}
	if want := "web V1: published, 2 entries, 8.4 MB\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !strings.Contains(progress, "waiting to continue") {
		t.Errorf("progress does not tell of the cuts:\n%s", progress)
	}
}

func TestPushJSON(t *testing.T) {
	out := t.TempDir()
	ref := wire.ImageRef{Role: "web", Version: "V1"}
	buildImage(t, out, ref, 1000)
	got, _, err := runPush(t, imageServer(t), ref.Role, ref.Version, "--out", out, "--json")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, `"step":"done"`) || !strings.Contains(last, `"role":"web"`) {
		t.Errorf("last line %q", last)
	}
	if !strings.Contains(lines[0], `"step":"upload manifest"`) {
		t.Errorf("first line %q", lines[0])
	}
}

func TestPushOfAnotherBuild(t *testing.T) {
	out := t.TempDir()
	ref := wire.ImageRef{Role: "web", Version: "V1"}
	server := imageServer(t)
	buildImage(t, out, ref, 1000)
	if _, _, err := runPush(t, server, ref.Role, ref.Version, "--out", out); err != nil {
		t.Fatal(err)
	}
	buildImage(t, out, ref, 2000)
	_, _, err := runPush(t, server, ref.Role, ref.Version, "--out", out)
	if err == nil || !strings.Contains(err.Error(), "another image of this name") {
		t.Errorf("error %v", err)
	}
	_, _, err = runPush(t, server, ref.Role, ref.Version, "--out", out, "--replace") // it knows no profiles
	if err == nil || !strings.Contains(err.Error(), "whether profiles give it to machines could not be found out") {
		t.Errorf("replace unseen: %v", err)
	}
	got, _, err := runPush(t, server, ref.Role, ref.Version, "--out", out, "--replace", "--force")
	if err != nil || !strings.Contains(got, "published") {
		t.Errorf("replace: %q, %v", got, err)
	}
}

func TestPushRefusals(t *testing.T) {
	out := t.TempDir()
	ref := wire.ImageRef{Role: "web", Version: "V1"}
	buildImage(t, out, ref, 1000)
	if err := os.WriteFile(filepath.Join(out, "V1/bad-V1.edeploy"), []byte("no archive"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := imageServer(t)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"not built", []string{"db", "V1", "--out", out}, "no such file"},
		{"bad name", []string{"../db", "V1", "--out", out}, "starts with"},
		{"bad file name", []string{filepath.Join(out, "V1/web-V1.mtree")}, "not named ROLE-VERSION.edeploy"},
		{"not an archive", []string{"bad", "V1", "--out", out}, "neither zstd nor gzip nor tar"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := runPush(t, server, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestPushGivesUp(t *testing.T) {
	p := push{patience: 10 * time.Millisecond, ref: wire.ImageRef{Role: "web", Version: "V1"}}
	p.show = newPushView(io.Discard, io.Discard, false, p.ref)
	err := p.retry(t.Context(), func() (bool, error) { return false, fmt.Errorf("%w: refused", api.ErrNotNow) })
	if err == nil || !strings.Contains(err.Error(), "given up after") {
		t.Errorf("error %v", err)
	}
}

func TestImageFile(t *testing.T) {
	tests := []struct {
		file string
		want wire.ImageRef
		err  string
	}{
		{"/x/D12-F.1.0.0/base-D12-F.1.0.0.edeploy", wire.ImageRef{Role: "base", Version: "D12-F.1.0.0"}, ""},
		{"/x/D12-F.1.0.0/my-sql-D12-F.1.0.0.edeploy", wire.ImageRef{Role: "my-sql", Version: "D12-F.1.0.0"}, ""},
		{"/downloads/my-sql-D7-H.1.0.0.edeploy", wire.ImageRef{Role: "my-sql", Version: "D7-H.1.0.0"}, ""},
		{"/x/V1/web-V1.edeploy", wire.ImageRef{Role: "web", Version: "V1"}, ""},
		{"/x/web-V1.edeploy", wire.ImageRef{}, "not named"},
		{"/x/web.tar", wire.ImageRef{}, "not named"},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			got, _, err := imageFile([]string{tt.file}, "")
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
				t.Errorf("image (-want +got):\n%s", diff)
			}
		})
	}
}
