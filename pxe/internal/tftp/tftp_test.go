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

	"edeploy/integration/needs"
	"edeploy/pxe/internal/tftp"
)

const soon = 10 * time.Second

// made is a text that the server makes.
var made = strings.Repeat("made ", 300)

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
func serve(t *testing.T, sessions int, files map[string][]byte, patience ...time.Duration) server {
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
		Made:   func(name string) (string, bool) { return made, name == "grub/grub.cfg" },
		Log:    slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Notify: func(_ netip.Addr, name string, _ int64, _ time.Duration) { s.ended <- name }}
	if len(patience) > 0 {
		s.Patience = patience[0]
	}
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

func dial(t *testing.T) *client { return dialFrom(t, 1) }

// dialFrom is a client with an address of its own, 127.0.0.HOST.
func dialFrom(t *testing.T, host int) *client {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, byte(host))})
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

// fetch is a file, got as a well-behaved client does.
func (c *client) fetch(from netip.AddrPort, name string, block int) (got []byte) {
	c.t.Helper()
	words := []string{name, "octet"}
	if block != 512 {
		words = append(words, "blksize", fmt.Sprint(block))
	}
	op, rest := uint16(0), []byte(nil)
	for try := 0; op == 0 && try < 5; try++ { // a request may be lost
		c.ask(from, opRead, words...)
		op, rest = c.reply(time.Second)
	}
	if block != 512 {
		if op != opOptions {
			c.t.Fatalf("answer %d %q, want the options", op, rest)
		}
		c.say(opAck, 0, "")
		op, rest = c.reply(soon)
	}
	for number := uint16(1); ; op, rest = c.reply(soon) {
		if op != opData {
			c.t.Fatalf("answer %d %q, want block %d", op, rest, number)
		}
		if binary.BigEndian.Uint16(rest) != number {
			continue // of an earlier transfer
		}
		c.say(opAck, number, "")
		if number++; len(rest) < 2+block {
			return append(got, rest[2:]...)
		}
		got = append(got, rest[2:]...)
	}
}

// Operation codes, RFC 1350 section 5 and RFC 2347.
const (
	opRead, opWrite, opData, opAck, opError, opOptions = 1, 2, 3, 4, 5, 6
)

// TestPlaces: no more transfers at once than allowed, a quarter of them to one
// address; who waits is served when a place is free and he asks again; a
// repeated request starts no second transfer.
func TestPlaces(t *testing.T) {
	s := serve(t, 8, map[string][]byte{"loader": random(2000)})
	start := func(c *client) bool {
		c.ask(s.addr, opRead, "loader", "octet")
		op, _ := c.reply(200 * time.Millisecond)
		if op == opData {
			c.say(opAck, 1, "")
			c.reply(soon) // the second block: the acknowledgement has arrived
		}
		return op == opData
	}
	var first *client
	for host := range 4 {
		for place := range 2 {
			c := dialFrom(t, host+1)
			if host+place == 0 {
				first = c
			}
			if !start(c) {
				t.Fatalf("transfer %d of host %d is not served", place, host)
			}
		}
		if start(dialFrom(t, host+1)) {
			t.Errorf("host %d has more than its share", host)
		}
	}
	fifth := dialFrom(t, 5)
	if start(fifth) {
		t.Error("a ninth transfer began, though eight are allowed")
	}
	first.ask(s.addr, opRead, "loader", "octet") // as if the answer were late
	port := first.server.Port
	if op, _ := first.reply(100 * time.Millisecond); op != 0 && first.server.Port != port {
		t.Error("the repeated request started a second transfer")
	}
	first.server.Port = port
	first.say(opError, 0, "enough")
	for deadline := time.Now().Add(soon); !start(fifth); {
		if time.Now().After(deadline) {
			t.Fatal("the place that became free is not given to the next")
		}
	}
	s.awaitLog(t, "127.0.0.1 wait: it has 2 transfers, its share of 8")
}

// TestRequestsWithoutClient: requests that nobody stands behind, more than
// there are places, from one address and from many, keep nobody from his file.
func TestRequestsWithoutClient(t *testing.T) {
	loader := random(100_000)
	s := serve(t, 0, map[string][]byte{"loader": loader})
	for n := range 2 * tftp.DefaultSessions {
		dialFrom(t, 10+n%8).ask(s.addr, opRead, "loader", "octet")
	}
	for n := range tftp.DefaultSessions {
		dialFrom(t, 1).ask(s.addr, opRead, "loader", "octet")
		if n%64 == 0 {
			for _, host := range []int{1, 2} { // the same address and another
				began := time.Now()
				if got := dialFrom(t, host).fetch(s.addr, "loader", 1468); !bytes.Equal(got, loader) {
					t.Fatalf("host %d: the file is not the same", host)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("host %d waited %s", host, took)
				}
			}
		}
	}
}

// TestPatience: a client that never answers, falls silent or takes next to
// nothing loses its place.
func TestPatience(t *testing.T) {
	for name, talk := range map[string]func(c *client){
		"the client does not answer": func(c *client) {},
		"less than 4096 bytes in": func(c *client) { // one block, then silence
			c.reply(soon)
			c.say(opAck, 1, "")
		},
		"takes less than 4096 bytes": func(c *client) {
			for number := uint16(1); ; number++ {
				if op, _ := c.reply(time.Second); op != opData {
					return
				}
				time.Sleep(100 * time.Millisecond)
				c.say(opAck, number, "")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, 1, map[string][]byte{"loader": random(100_000)}, 300*time.Millisecond)
			c := dial(t)
			c.ask(s.addr, opRead, "loader", "octet")
			talk(c)
			s.awaitLog(t, name)
			s.awaitLog(t, "broken off")
			if got := dial(t).fetch(s.addr, "loader", 512); len(got) != 100_000 {
				t.Error("its place is not given to the next")
			}
		})
	}
}

// TestClientError: an error of a client ends its transfer and is not answered,
// least of all with an error.
func TestClientError(t *testing.T) {
	for _, words := range [][]string{{"loader", "octet"}, {"loader", "octet", "tsize", "0"}} {
		s := serve(t, 0, map[string][]byte{"loader": random(2000)})
		c := dial(t)
		c.ask(s.addr, opRead, words...)
		if op, _ := c.reply(soon); op == 0 {
			t.Fatal("no answer")
		}
		c.say(opError, 8, "User aborted the transfer")
		s.awaitLog(t, "TFTP size asked")
		if op, rest := c.reply(300 * time.Millisecond); op != 0 {
			t.Errorf("%q: the error is answered with %d %q", words, op, rest)
		}
	}
}

// TestNextRequest: another request from the same port ends the old transfer.
func TestNextRequest(t *testing.T) {
	old, next := random(5000), bytes.Repeat([]byte("next"), 1000)
	s := serve(t, 0, map[string][]byte{"old": old, "next": next})
	c := dial(t)
	c.ask(s.addr, opRead, "old", "octet")
	if op, _ := c.reply(soon); op != opData {
		t.Fatalf("answer %d, want data", op)
	}
	c.say(opAck, 1, "")
	c.reply(soon)
	before := c.server.Port
	if got := c.fetch(s.addr, "next", 512); !bytes.Equal(got, next) {
		t.Errorf("got %d bytes of another file", len(got))
	}
	if c.server.Port == before {
		t.Error("the new transfer has the old one's port")
	}
	select {
	case <-s.ended:
	case <-time.After(soon):
		t.Fatal("the end of the transfer is not reported")
	}
	if got := c.fetch(s.addr, "next", 512); !bytes.Equal(got, next) {
		t.Error("the same file once more is not served after the first transfer ended")
	}
}

// TestManyBlocks: block numbers go round.
func TestManyBlocks(t *testing.T) {
	want := random(66_000 * 512)
	s := serve(t, 0, map[string][]byte{"loader": want})
	if got := dial(t).fetch(s.addr, "loader", 512); !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want %d; or other ones", len(got), len(want))
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
	needs.That(t, err == nil, "a loopback device: %v", err)
	c := dial(t)
	c.ask(s.addr, opRead, "loader", "octet", "blksize", "65464")
	op, rest := c.reply(soon)
	want := fmt.Sprintf("blksize\x00%d\x00", min(loopback.MTU-32, 65464))
	if op != opOptions || string(rest) != want {
		t.Errorf("answer %d %q, want the option %q", op, rest, want)
	}
	c.say(opError, 0, "enough")
}
