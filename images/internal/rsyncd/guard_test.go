package rsyncd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseRequest(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want request
		err  string
	}{
		{"archive", []string{"--server", "--sender", "-logDtpre.iLsfxCIvu", ".", "install/V/base/"},
			request{args: []string{"--server", "--sender", "-logDtpr", ".", "install/V/base/"}, paths: []string{"install/V/base/"}}, ""},
		{"dry run", []string{"--server", "--sender", "-nlre.i", ".", "install/"},
			request{args: []string{"--server", "--sender", "-nlr", ".", "install/"}, paths: []string{"install/"}, dryRun: true}, ""},
		{"listing", []string{"--server", "--sender", "-de.i", ".", "install/"},
			request{args: []string{"--server", "--sender", "-r", ".", "install/"}, paths: []string{"install/"}, flat: true}, ""},
		{"receiver's options", []string{"--server", "--sender", "-Wre.", "--timeout=60", ".", "install/"},
			request{args: []string{"--server", "--sender", "-r", ".", "install/"}, paths: []string{"install/"}}, ""},
		{"help ends the library's process", []string{"--server", "--sender", "--help", ".", "x"}, request{}, "option --help"},
		{"version too", []string{"--server", "--sender", "-V", ".", "x"}, request{}, "option -V"},
		{"daemon too", []string{"--server", "--sender", "--daemon", "--help", ".", "x"}, request{}, "option --daemon"},
		{"abbreviation of help", []string{"--server", "--sender", "--hel", ".", "x"}, request{}, "option --hel"},
		{"option after the dot", []string{"--server", "--sender", "-r", ".", "--help"}, request{}, "starts with a dash"},
		{"stray word", []string{"--server", "--sender", "word", ".", "x"}, request{}, `unexpected argument "word"`},
		{"push", []string{"--server", "-logDtpre.i", ".", "install/"}, request{}, "read-only"},
		{"no path", []string{"--server", "--sender", "-r", "."}, request{}, "no path"},
		{"nothing", nil, request{}, "read-only"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseRequest(tt.args)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(request{})); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

const hello = "@RSYNCD: 31.0\ninstall\n--server\n--sender\n-logDtpr\n.\ninstall/\n\n"

func numbers(n ...int32) string {
	var b []byte
	for _, v := range n {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return string(b)
}

// converse gives the daemon a client's whole stream and answers what it says.
// When the session has not ended by itself after so long, the client goes away.
func converse(t testing.TB, d *Daemon, stream string, patience time.Duration) (string, error) {
	client, server := net.Pipe()
	said := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(client)
		said <- string(b)
	}()
	go func() {
		io.WriteString(client, stream)
		time.AfterFunc(patience, func() { client.Close() })
	}()
	hang := time.AfterFunc(10*time.Second, func() {
		panic(fmt.Sprintf("the session does not end; stream %q", stream))
	})
	defer hang.Stop()
	s := newSession(server, d)
	err := s.run(t.Context())
	server.Close()
	client.Close()
	return <-said, err
}

func testDaemon(t testing.TB) *Daemon {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := New(Config{Modules: []Module{{"install", dir}}, Idle: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// Streams that make the library panic, reserve gigabytes, or hang.
func TestHostileStreams(t *testing.T) {
	tests := []struct{ name, stream, want string }{
		{"wildcard filter", hello + numbers(5) + "*.log", "takes no --exclude"},
		{"huge filter", hello + numbers(1<<30), "filter rule of"},
		{"negative filter", hello + numbers(-5), "filter rule of"},
		{"huge sum count", hello + numbers(0, 1, 1<<30, 700, 16, 0), "checksums out of bounds"},
		{"negative sum count", hello + numbers(0, 1, -1, 700, 16, 0), "checksums out of bounds"},
		{"huge block", hello + numbers(0, 1, 1, 1<<30, 16, 0), "checksums out of bounds"},
		{"zero block", hello + numbers(0, 1, 1, 0, 16, 0), "checksums out of bounds"},
		{"sum longer than its place", hello + numbers(0, 1, 1, 700, 17, 0), "checksums out of bounds"},
		{"long line", strings.Repeat("x", 10_000), "line longer"},
		{"long argument", "@RSYNCD: 31.0\ninstall\n" + strings.Repeat("x", 10_000), "line longer"},
		{"many arguments", "@RSYNCD: 31.0\ninstall\n" + strings.Repeat("--server\n", 1000), "more than 100 arguments"},
		{"not rsync", "GET / HTTP/1.1\n", "speaks rsync protocol"},
		{"pipe by its number", hello + numbers(0, 2, 0, 0, 0, 0, -1, -1, -1), ""},
		{"index out of range", hello + numbers(0, 99, 0, 0, 0, 0), "out of bounds"},
	}
	d := testDaemon(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			said, err := converse(t, d, tt.stream, 5*time.Second)
			if tt.want == "" {
				if err != nil {
					t.Errorf("error %v, said %q", err, said)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "panic") {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// FuzzSession: whatever a client sends, the session ends without a panic (a
// panic of the library would be recovered, so the error is looked at).
func FuzzSession(f *testing.F) {
	f.Add([]byte(hello + numbers(0, 1, 0, 0, 0, 0, -1, -1, -1)))
	f.Add([]byte(hello + numbers(0, 1, 1, 700, 2, 5) + "abcdef" + numbers(-1, -1, -1)))
	f.Add([]byte(strings.Replace(hello, "-logDtpr", "-nlre.i", 1) + numbers(0, 1, -1, -1, -1)))
	f.Add([]byte("@RSYNCD: 31.0\n#list\n"))
	d := testDaemon(f)
	f.Fuzz(func(t *testing.T, stream []byte) {
		if _, err := converse(t, d, string(stream), time.Millisecond); err != nil && strings.Contains(err.Error(), "panic") {
			t.Fatal(err)
		}
	})
}

func TestGuardPassesGoodStreams(t *testing.T) {
	stream := hello + numbers(0, 1, 2, 700, 2, 5) + "abcdefABCDEF" + numbers(-1, 3, 0, 0, 0, 0, -1, -1)
	client, server := net.Pipe()
	go func() { io.WriteString(client, stream); client.Close() }()
	d := testDaemon(t)
	g := newGuard(newWire(server, time.Second), d.files.open(), d.sums.open())
	var got bytes.Buffer
	if _, err := io.Copy(&got, onlyReader{g}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stream, got.String()); diff != "" {
		t.Errorf("passed stream (-want +got):\n%s", diff)
	}
	if want := "[install/]"; fmt.Sprint(g.paths) != want || g.module != "install" {
		t.Errorf("module %q, paths %v", g.module, g.paths)
	}
}

// What transfers keep in memory is bounded over all of them, and given back.
func TestBudgets(t *testing.T) {
	d := testDaemon(t)
	listing := hello + numbers(0, -1, -1, -1)
	checksums := hello + numbers(0, 1, 4, 700, 0, 0) + numbers(1, 2, 3, 4, -1, -1, -1)
	tests := []struct {
		name, stream string
		files, sums  int64 // of the budgets
		other        int64 // files that another transfer has
		want         string
	}{
		{"enough", listing, 2, 4, 0, ""},
		{"too many files", listing, 1, 4, 0, "more than 1 files: ask for less at once"},
		{"files of others", listing, 2, 4, 1, "the transfers under way have 2 files in all"},
		{"enough checksums", checksums, 2, 4, 0, ""},
		{"too many checksums", checksums, 2, 3, 0, "more than 3 checksums"},
		{"rules", hello + strings.Repeat(numbers(6)+"- /*/*", 17) + numbers(0), 2, 4, 0, "after 16 others"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d.files, d.sums = newBudget("files", tt.files, time.Millisecond), newBudget("checksums", tt.sums, time.Millisecond)
			other := d.files.open()
			if err := other.take(tt.other); err != nil {
				t.Fatal(err)
			}
			said, err := converse(t, d, tt.stream, 5*time.Second)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if tt.want != "" && tt.name != "rules" && !strings.Contains(said, tt.want) {
				t.Errorf("said %q, want %q in it", said, tt.want)
			}
			other.close()
			if !d.files.left.TryAcquire(tt.files) || !d.sums.left.TryAcquire(tt.sums) {
				t.Error("what the transfer had was not given back")
			}
		})
	}
}

// A client that says or takes a little now and then is slower than the pace.
func TestPace(t *testing.T) {
	for _, reads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			go func() {
				var err error
				for err == nil {
					time.Sleep(time.Second)
					if reads {
						_, err = client.Write([]byte("x"))
					} else {
						_, err = client.Read(make([]byte, 1))
					}
				}
			}()
			w := newWire(server, 30*time.Second)
			var err error
			start := time.Now()
			for err == nil {
				if reads {
					_, err = w.in.ReadByte()
				} else {
					_, err = w.Write(make([]byte, 1000))
				}
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "slower than 1024 bytes a second") {
				t.Errorf("client that reads %v: %v", !reads, err)
			}
			if took := time.Since(start); took < 29*time.Second || took > 61*time.Second {
				t.Errorf("client that reads %v held its place for %v", !reads, took)
			}
			client.Close()
			server.Close()
			time.Sleep(time.Second) // it notices
		})
	}
}

type onlyReader struct{ io.Reader }

func TestPanicEndsOneConnection(t *testing.T) {
	d := testDaemon(t)
	s := newSession(brokenConn{}, d)
	if err := s.run(context.Background()); err == nil || !strings.Contains(err.Error(), "panic: broken") {
		t.Errorf("error %v, want the panic", err)
	}
}

// brokenConn panics as the library would.
type brokenConn struct{ net.Conn }

func (brokenConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (brokenConn) SetWriteDeadline(time.Time) error { panic("broken") }
