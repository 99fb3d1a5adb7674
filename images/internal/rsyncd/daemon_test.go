package rsyncd_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edeploy/images/internal/rsyncd"
	"edeploy/images/manifest/fstree"
	"edeploy/integration/needs"

	"github.com/google/go-cmp/cmp"
)

// start runs a daemon with the modules install and metadata; it answers the
// address and the directory of install.
func start(t *testing.T, cfg rsyncd.Config) (addr, install string) {
	t.Helper()
	top := t.TempDir()
	for _, name := range []string{"install", "metadata"} {
		dir := filepath.Join(top, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		cfg.Modules = append(cfg.Modules, rsyncd.Module{Name: name, Dir: dir})
	}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	d, err := rsyncd.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		d.Close()
	})
	return ln.Addr().String(), filepath.Join(top, "install")
}

// makeTree writes a small tree with the things that transfers get wrong.
func makeTree(t *testing.T, dir string, files int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"etc", "usr/bin", "var/log", "empty"} {
		must(os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	must(os.WriteFile(filepath.Join(dir, "etc/shadow"), []byte("root:*:1::::::\n"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "var/log/a.log"), []byte("log\n"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "usr/bin/big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<17), 0o755))
	must(os.Symlink("../usr/bin/big", filepath.Join(dir, "etc/link")))
	must(syscall.Mkfifo(filepath.Join(dir, "var/pipe"), 0o644))
	for i := range files {
		name := filepath.Join(dir, "usr", fmt.Sprintf("file-%04d", i))
		must(os.WriteFile(name, bytes.Repeat([]byte{byte(i)}, i*37), 0o644))
		must(os.Chtimes(name, time.Time{}, time.Unix(1_600_000_000+int64(i), 0)))
	}
}

// client runs the stock client.
func client(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, needs.Program(t, "rsync"), args...).CombinedOutput()
	return string(out), err
}

// same compares two trees in what rsync protocol 27 carries.
func same(t *testing.T, want, got string) {
	t.Helper()
	describe := func(dir string) []string {
		m, err := fstree.Walk(t.Context(), dir, fstree.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, e := range m.Entries {
			lines = append(lines, fmt.Sprintf("%s %s %o %d:%d %d %x %s %d", e.Path, e.Type, e.Mode, e.UID, e.GID, e.Size, e.SHA256, e.Link, e.ModTime.Unix()))
		}
		return lines
	}
	if diff := cmp.Diff(describe(want), describe(got)); diff != "" {
		t.Errorf("copy differs (-want +got):\n%s", diff)
	}
}

func TestWholeTree(t *testing.T) {
	addr, install := start(t, rsyncd.Config{})
	version, _ := exec.Command(needs.Program(t, "rsync"), "--version").Output()
	t.Logf("%.40s", version)
	tree := filepath.Join(install, "V1", "base")
	makeTree(t, tree, 300)
	for _, options := range [][]string{{"-a"}, {"-ac"}, {"-a", "--delete"}, {"-a", "--partial", "--timeout=20"}, {"-aS"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			dst := t.TempDir()
			if out, err := client(t, append(options, "rsync://"+addr+"/install/V1/base/", dst)...); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			same(t, tree, dst)
		})
	}
}

func TestSingleFile(t *testing.T) {
	addr, install := start(t, rsyncd.Config{})
	makeTree(t, filepath.Join(install, "V1", "base"), 0)
	dst := filepath.Join(t.TempDir(), "shadow")
	if out, err := client(t, "-a", "rsync://"+addr+"/install/V1/base/etc/shadow", dst); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got, err := os.ReadFile(dst)
	if string(got) != "root:*:1::::::\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A second run carries what is missing only, also of a file begun before.
func TestResume(t *testing.T) {
	addr, install := start(t, rsyncd.Config{})
	tree := filepath.Join(install, "V1", "base")
	makeTree(t, tree, 50)
	dst := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dst, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	half, err := os.ReadFile(filepath.Join(tree, "usr/bin/big"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dst, "usr/bin/big"), half[:len(half)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := client(t, "-a", "rsync://"+addr+"/install/V1/base/", dst); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	same(t, tree, dst)
}

func TestListing(t *testing.T) {
	addr, install := start(t, rsyncd.Config{})
	makeTree(t, filepath.Join(install, "V1", "base"), 0)
	tests := []struct {
		url  string
		want []string // last columns
	}{
		{"/", []string{"install", "metadata"}},
		{"/install/", []string{".", "V1"}},
		{"/install", []string{".", "V1"}},
		{"/install/V1/", []string{".", "base"}},
		{"/install/V1", []string{"V1"}},
		{"/install/V1/base/etc/", []string{".", "link", "shadow"}},
	}
	for _, tt := range tests {
		t.Run(tt.url, func(t *testing.T) {
			out, err := client(t, "rsync://"+addr+tt.url)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var got []string
			for line := range strings.Lines(out) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), " -> ")
				words := strings.Fields(line)
				got = append(got, words[len(words)-1])
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

// What the library would get wrong is refused with the reason, and the daemon
// goes on: the last case is a plain copy.
func TestRefusals(t *testing.T) {
	addr, install := start(t, rsyncd.Config{})
	makeTree(t, filepath.Join(install, "V1", "base"), 0)
	tests := []struct {
		options []string
		want    string // in the client's output; "" means success
	}{
		{[]string{"--exclude=*.log"}, "takes no --exclude"},
		{[]string{"--exclude=/etc"}, "takes no --exclude"},
		{[]string{"--include=a", "--exclude=b"}, "takes no --exclude"},
		{[]string{"-f", "- *.[ch]"}, "takes no --exclude"},
		{[]string{"-H"}, "does not support the rsync option -H"},
		{[]string{"-z"}, "does not support the rsync option -z"},
		{[]string{"--numeric-ids"}, "does not support the rsync option --numeric-ids"},
		{[]string{"--inplace"}, "does not support the rsync option --inplace"},
		{[]string{"-R"}, "does not support the rsync option -R"},
		{[]string{"-L"}, "does not support the rsync option -L"},
		{[]string{"-M--help"}, "does not support the rsync option --help"},
		{[]string{"-M--version"}, "does not support the rsync option --version"},
		{[]string{"-M--daemon"}, "does not support the rsync option --daemon"},
		{[]string{"--protocol=26"}, "speaks rsync protocol 27 and later"},
		{nil, ""},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.options, " "), func(t *testing.T) {
			out, err := client(t, append([]string{"-a", "rsync://" + addr + "/install/V1/base/", t.TempDir()}, tt.options...)...)
			if tt.want == "" && err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if tt.want != "" && (err == nil || !strings.Contains(out, tt.want)) {
				t.Errorf("error %v, output %q; want an error with %q", err, out, tt.want)
			}
		})
	}
	t.Run("write", func(t *testing.T) {
		out, err := client(t, "-a", "/etc/hostname", "rsync://"+addr+"/install/V1/")
		if err == nil || !strings.Contains(out, "read-only") {
			t.Errorf("error %v, output %q; want a refusal", err, out)
		}
	})
	t.Run("outside", func(t *testing.T) {
		out, err := client(t, "-a", "rsync://"+addr+"/install/../../../../etc/", t.TempDir())
		if err == nil {
			t.Errorf("copied from outside the module:\n%s", out)
		}
	})
}

func TestTwentyClients(t *testing.T) {
	addr, install := start(t, rsyncd.Config{MaxConnections: 12}) // 3 for one peer
	tree := filepath.Join(install, "V1", "base")
	makeTree(t, tree, 100)
	var clients sync.WaitGroup
	for range 20 {
		dst := t.TempDir()
		clients.Go(func() {
			if out, err := client(t, "-a", "rsync://"+addr+"/install/V1/base/", dst); err != nil {
				t.Errorf("%v\n%s", err, out)
				return
			}
			same(t, tree, dst)
		})
	}
	clients.Wait()
}

func TestBusy(t *testing.T) {
	addr, install := start(t, rsyncd.Config{MaxConnections: 1, Wait: 50 * time.Millisecond})
	makeTree(t, filepath.Join(install, "V1", "base"), 0)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	takePlace(t, conn)
	out, err := client(t, "-a", "rsync://"+addr+"/install/V1/base/", t.TempDir())
	if err == nil || !strings.Contains(out, "max connections (1 from one address) reached") {
		t.Errorf("error %v, output %q; want max connections", err, out)
	}
	conn.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if out, err = client(t, "-a", "rsync://"+addr+"/install/V1/base/", t.TempDir()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the place was not given back: %v\n%s", err, out)
		}
	}
}

// takePlace says what module is wanted, upon which the connection has a place.
func takePlace(t *testing.T, conn net.Conn) {
	t.Helper()
	fmt.Fprintf(conn, "@RSYNCD: 31.0\ninstall\n")
	lines := bufio.NewScanner(conn)
	for range 2 {
		lines.Scan()
	}
	if lines.Text() != "@RSYNCD: OK" {
		t.Fatalf("the daemon says %q, %v", lines.Text(), lines.Err())
	}
}

// One peer with as many connections as it gets, silent or with places, keeps
// nobody else from being served.
func TestPeersHaveShares(t *testing.T) {
	addr, install := start(t, rsyncd.Config{MaxConnections: 8})
	tree := filepath.Join(install, "V1", "base")
	makeTree(t, tree, 10)
	stranger := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for i := range 100 {
		conn, err := stranger.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i < 2 {
			takePlace(t, conn)
		}
	}
	begun := time.Now()
	dst := t.TempDir()
	if out, err := client(t, "-a", "rsync://"+addr+"/install/V1/base/", dst); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	same(t, tree, dst)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a client was served after %v", took)
	}
}

func TestServeEnds(t *testing.T) {
	d, err := rsyncd.New(rsyncd.Config{Modules: []rsyncd.Module{{Name: "install", Dir: t.TempDir()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	takePlace(t, conn)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := d.Serve(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener: %v", err)
	}
}

func TestSilentClientIsDropped(t *testing.T) {
	addr, _ := start(t, rsyncd.Config{Greeting: 100 * time.Millisecond})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var all bytes.Buffer
	_, err = all.ReadFrom(conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("connection is still open; read %q", all.String())
	}
}
