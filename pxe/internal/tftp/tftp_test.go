package tftp_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edeploy/pxe/internal/tftp"
)

const soon = 10 * time.Second

// server is a running server and what it said.
type server struct {
	*tftp.Server
	addr  netip.AddrPort
	dir   string
	log   *syncBuffer
	ended chan string // names of complete transfers
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// serve runs a server on loopback; sessions 0 is its default.
func serve(t *testing.T, sessions int, files map[string][]byte) server {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := server{dir: dir, log: &syncBuffer{}, ended: make(chan string, 100)}
	s.Server = &tftp.Server{Root: root, Sessions: sessions,
		Log:    slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Notify: func(_ netip.Addr, name string, _ int64, _ time.Duration) { s.ended <- name }}
	if err := s.Listen("", netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	s.addr = s.Addr()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(soon):
			t.Error("Serve does not end")
		}
		root.Close()
		if t.Failed() {
			t.Logf("server:\n%s", s.log)
		}
	})
	return s
}

// awaitLog waits until the log holds the text.
func (s server) awaitLog(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(soon); !strings.Contains(s.log.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("log does not say %q", text)
		}
	}
}

func random(n int) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(data)
	return data
}

// client speaks TFTP packet by packet.
type client struct {
	t *testing.T
	*net.UDPConn
	server *net.UDPAddr // of the running transfer
}

func dial(t *testing.T) *client {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, UDPConn: conn}
}

// ask sends a request: operation 1 reads, 2 writes.
func (c *client) ask(to netip.AddrPort, op uint16, words ...string) {
	c.t.Helper()
	packet := binary.BigEndian.AppendUint16(nil, op)
	for _, w := range words {
		packet = append(append(packet, w...), 0)
	}
	if _, err := c.WriteToUDPAddrPort(packet, to); err != nil {
		c.t.Fatal(err)
	}
}

// reply is the next packet's operation and its rest; 0 when none comes.
func (c *client) reply(within time.Duration) (op uint16, rest []byte) {
	c.t.Helper()
	buf := make([]byte, 65536)
	c.SetReadDeadline(time.Now().Add(within))
	n, from, err := c.ReadFromUDP(buf)
	if err != nil {
		return 0, nil
	}
	c.server = from
	return binary.BigEndian.Uint16(buf), buf[2:n]
}

func (c *client) say(op, number uint16, text string) {
	c.t.Helper()
	packet := binary.BigEndian.AppendUint16(nil, op)
	packet = binary.BigEndian.AppendUint16(packet, number)
	if text != "" {
		packet = append(append(packet, text...), 0)
	}
	if _, err := c.WriteToUDP(packet, c.server); err != nil {
		c.t.Fatal(err)
	}
}

// Operation codes, RFC 1350 section 5 and RFC 2347.
const (
	opRead, opWrite, opData, opAck, opError, opOptions = 1, 2, 3, 4, 5, 6
)

// TestSizeProbe: OVMF asks for the size, breaks off, and asks again for the
// file; that is no failure.
func TestSizeProbe(t *testing.T) {
	loader := random(3000)
	s := serve(t, 0, map[string][]byte{"snponly.efi": loader})
	c := dial(t)
	c.ask(s.addr, opRead, "snponly.efi", "octet", "tsize", "0", "blksize", "1468", "windowsize", "4")
	op, rest := c.reply(soon)
	if op != opOptions || !bytes.Contains(rest, []byte("tsize\x003000\x00")) || !bytes.Contains(rest, []byte("blksize\x001468\x00")) {
		t.Fatalf("answer %d %q, want the options tsize 3000 and blksize 1468", op, rest)
	}
	c.say(opError, 8, "User aborted the transfer")

	c = dial(t)
	c.ask(s.addr, opRead, "snponly.efi", "octet", "blksize", "1468")
	if op, _ := c.reply(soon); op != opOptions {
		t.Fatalf("second answer %d, want the options", op)
	}
	c.say(opAck, 0, "")
	var got []byte
	for number := uint16(1); ; number++ {
		op, rest := c.reply(soon)
		if op != opData || binary.BigEndian.Uint16(rest) != number {
			t.Fatalf("answer %d %q, want block %d", op, rest, number)
		}
		c.say(opAck, number, "")
		got = append(got, rest[2:]...)
		if len(rest) < 2+1468 {
			break
		}
	}
	if !bytes.Equal(got, loader) {
		t.Error("the file is not the same")
	}
	select {
	case <-s.ended:
	case <-time.After(soon):
		t.Fatal("the end of the transfer is not reported")
	}
	s.awaitLog(t, "TFTP size asked")
	if log := s.log.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("log frightens users:\n%s", log)
	}
}

// TestNames: what firmware makes of file names, and what is refused.
func TestNames(t *testing.T) {
	s := serve(t, 0, map[string][]byte{"loader": []byte("content"), "sub/loader": []byte("other")})
	if err := os.Symlink("/etc/passwd", filepath.Join(s.dir, "escape")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, want, refusal string }{
		{"loader", "content", ""},
		{"/loader", "content", ""},
		{"loader\xff", "content", ""},
		{`\sub\loader`, "other", ""},
		{"missing", "", "no such file"},
		{"sub", "", "not a file"},
		{"../../../../etc/passwd", "", "escapes"},
		{"/etc/passwd", "", "no such file"},
		{"escape", "", "escapes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dial(t)
			c.ask(s.addr, opRead, test.name, "octet")
			op, rest := c.reply(soon)
			if test.refusal != "" {
				if op != opError || !bytes.Contains(rest, []byte(test.refusal)) {
					t.Errorf("answer %d %q, want an error with %q", op, rest, test.refusal)
				}
				return
			}
			if op != opData || string(rest[2:]) != test.want {
				t.Errorf("answer %d %q, want %q", op, rest, test.want)
			}
			c.say(opAck, 1, "")
		})
	}
}

// TestNotARead: writes and malformed requests are refused in words, other
// packets are passed over (an error must not answer an error).
func TestNotARead(t *testing.T) {
	s := serve(t, 0, map[string][]byte{"loader": []byte("content")})
	c := dial(t)
	c.ask(s.addr, opWrite, "loader", "octet")
	if op, rest := c.reply(soon); op != opError || !bytes.Contains(rest, []byte("read-only")) {
		t.Errorf("write: answer %d %q, want an error", op, rest)
	}
	c.ask(s.addr, opRead, "no mode")
	if op, rest := c.reply(soon); op != opError || !bytes.Contains(rest, []byte("malformed")) {
		t.Errorf("malformed request: answer %d %q, want an error", op, rest)
	}
	for _, packet := range [][]byte{{}, {0}, {0, 5, 0, 0, 0}, {0, 4, 0, 1}, {9, 9}, bytes.Repeat([]byte{0xff}, 600)} {
		c.WriteToUDPAddrPort(packet, s.addr)
	}
	c.ask(s.addr, opRead, "loader", "octet")
	if op, rest := c.reply(soon); op != opData || string(rest[2:]) != "content" {
		t.Errorf("after garbage: answer %d %q, want the file", op, rest)
	}
	c.say(opAck, 1, "")
}

// TestBound: no more transfers at once than allowed; who waits is served when
// a place is free and he asks again; a repeated request starts no second
// transfer.
func TestBound(t *testing.T) {
	s := serve(t, 2, map[string][]byte{"loader": random(2000)})
	first, second, third := dial(t), dial(t), dial(t)
	for _, c := range []*client{first, second} {
		c.ask(s.addr, opRead, "loader", "octet")
		c.ask(s.addr, opRead, "loader", "octet") // as if the answer were late
		if op, _ := c.reply(soon); op != opData {
			t.Fatalf("answer %d, want data", op)
		}
		port := c.server.Port
		if op, _ := c.reply(100 * time.Millisecond); op != 0 && c.server.Port != port {
			t.Fatal("the repeated request started a second transfer")
		}
	}
	third.ask(s.addr, opRead, "loader", "octet")
	if op, _ := third.reply(100 * time.Millisecond); op != 0 {
		t.Fatalf("a third transfer began (answer %d), though two are allowed", op)
	}
	first.say(opError, 0, "enough")
	for deadline := time.Now().Add(soon); ; {
		third.ask(s.addr, opRead, "loader", "octet")
		if op, _ := third.reply(200 * time.Millisecond); op == opData {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place that became free is not given to the next")
		}
	}
	if log := s.log.String(); strings.Count(log, "all places are taken") != 1 {
		t.Errorf("log says not once that clients wait:\n%s", log)
	}
}

// TestLostPackets: a client that loses every third packet gets the file.
func TestLostPackets(t *testing.T) {
	t.Parallel()
	data := random(5 * 512)
	s := serve(t, 0, map[string][]byte{"loader": data})
	c := dial(t)
	c.ask(s.addr, opRead, "loader", "octet")
	var got []byte
	for number, packets := uint16(1), 0; ; packets++ {
		op, rest := c.reply(soon)
		if op != opData {
			t.Fatalf("answer %d %q, want data", op, rest)
		}
		if packets%3 == 1 || binary.BigEndian.Uint16(rest) != number {
			continue // lost, or sent again
		}
		got = append(got, rest[2:]...)
		c.say(opAck, number, "")
		if len(rest) < 2+512 {
			break
		}
		number++
	}
	if !bytes.Equal(got, data) {
		t.Error("the file is not the same")
	}
}

// TestBlockSize: a block never needs a fragmented packet.
func TestBlockSize(t *testing.T) {
	s := serve(t, 0, map[string][]byte{"loader": random(100)})
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skipf("no loopback device: %v", err)
	}
	c := dial(t)
	c.ask(s.addr, opRead, "loader", "octet", "blksize", "65464")
	op, rest := c.reply(soon)
	want := fmt.Sprintf("blksize\x00%d\x00", min(loopback.MTU-32, 65464))
	if op != opOptions || string(rest) != want {
		t.Errorf("answer %d %q, want the option %q", op, rest, want)
	}
	c.say(opError, 0, "enough")
}
