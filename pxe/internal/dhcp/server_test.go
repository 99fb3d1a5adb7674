package dhcp_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"edeploy/pxe/internal/dhcp"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// serve runs a server on loopback and answers where.
func serve(t *testing.T, s *dhcp.Server) netip.AddrPort {
	t.Helper()
	if s.Log == nil {
		s.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if err := s.Listen("", netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
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
		case <-time.After(10 * time.Second):
			t.Error("Serve does not end")
		}
	})
	return s.Addr()
}

// client is a UDP socket of a machine.
type client struct {
	t *testing.T
	*net.UDPConn
}

func dial(t *testing.T, to netip.AddrPort) client {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return client{t, conn}
}

func (c client) send(m *dhcpv4.DHCPv4) {
	c.t.Helper()
	if _, err := c.Write(m.ToBytes()); err != nil {
		c.t.Fatal(err)
	}
}

// receive is the next reply within the time, nil when there is none.
func (c client) receive(within time.Duration) *dhcpv4.DHCPv4 {
	c.t.Helper()
	buf := make([]byte, 1500)
	c.SetReadDeadline(time.Now().Add(within))
	n, err := c.Read(buf)
	if err != nil {
		return nil
	}
	m, err := dhcpv4.FromBytes(buf[:n])
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

const soon = 10 * time.Second

func machineRequest(t *testing.T, n int) *dhcpv4.DHCPv4 {
	a := netip.MustParseAddr("192.168.122.100").As4()
	a[3] += byte(n)
	return message(t, dhcpv4.MessageTypeRequest,
		dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, byte(n)}), requested(netip.AddrFrom4(a).String()))
}

// TestGroupCommit: no ACK goes out before its lease is saved, an offer does
// not wait, and the requests that come in during one save share the next.
func TestGroupCommit(t *testing.T) {
	const machines = 40
	now := start
	entered, release := make(chan struct{}), make(chan struct{})
	var saves atomic.Int32
	server := &dhcp.Server{Network: network(table(t, 100, &now)), Save: func() error {
		saves.Add(1)
		entered <- struct{}{}
		<-release
		return nil
	}}
	to := serve(t, server)
	first := dial(t, to)
	first.send(machineRequest(t, 1))
	wait(t, entered, "first save")

	var others []client
	for n := range machines {
		c := dial(t, to)
		c.send(machineRequest(t, 2+n))
		others = append(others, c)
	}
	// The offer shows that the requests before it have been decided.
	first.send(message(t, dhcpv4.MessageTypeDiscover))
	if r := first.receive(soon); r == nil || r.MessageType() != dhcpv4.MessageTypeOffer {
		t.Fatalf("during a save a discover gets %v, want an offer", r)
	}
	for i, c := range others {
		if r := c.receive(time.Millisecond); r != nil {
			t.Fatalf("machine %d has its answer before its lease is saved: %s", i, r.Summary())
		}
	}

	release <- struct{}{}
	if r := first.receive(soon); r == nil || r.MessageType() != dhcpv4.MessageTypeAck {
		t.Fatalf("after its save the first machine gets %v, want an ACK", r)
	}
	wait(t, entered, "second save")
	release <- struct{}{}
	for i, c := range others {
		if r := c.receive(soon); r == nil || r.MessageType() != dhcpv4.MessageTypeAck {
			t.Fatalf("machine %d gets %v, want an ACK", i, r)
		}
	}
	if n := saves.Load(); n != 2 {
		t.Errorf("%d saves for %d leases, want 2", n, machines+1)
	}
}

func wait(t *testing.T, event <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(soon):
		t.Fatalf("no %s within %s", what, soon)
	}
}

// TestSaveFails: a lease that is not on disk is not confirmed; when the disk
// is back, the machine's next try is.
func TestSaveFails(t *testing.T) {
	now := start
	var broken atomic.Bool
	broken.Store(true)
	tried, heard := make(chan struct{}, 10), make(chan dhcp.Answer, 10)
	server := &dhcp.Server{Network: network(table(t, 10, &now)), Notify: func(a dhcp.Answer) { heard <- a }, Save: func() error {
		tried <- struct{}{}
		if broken.Load() {
			return errors.New("disk is full")
		}
		return nil
	}}
	c := dial(t, serve(t, server))
	c.send(machineRequest(t, 1))
	wait(t, tried, "save")
	select {
	case a := <-heard:
		if want := "gets no answer: its lease cannot be kept: disk is full"; a.Sentence != want || a.From != "02:00:00:00:00:01" {
			t.Errorf("event %q of %s, want %q", a.Sentence, a.From, want)
		}
	case <-time.After(soon):
		t.Error("nobody hears of it")
	}
	broken.Store(false)
	c.send(machineRequest(t, 1))
	r := c.receive(soon)
	if r == nil || r.MessageType() != dhcpv4.MessageTypeAck {
		t.Fatalf("second try gets %v, want an ACK", r)
	}
	if extra := c.receive(50 * time.Millisecond); extra != nil {
		t.Errorf("the withheld answer came as well: %s", extra.Summary())
	}
}

// TestPackets: the end of a packet ends its options; what is refused leaves
// one line with the hardware address.
func TestPackets(t *testing.T) {
	discover := message(t, dhcpv4.MessageTypeDiscover).ToBytes()
	end := bytes.LastIndexByte(discover, 255)
	header := func(at int, b ...byte) []byte {
		packet := bytes.Clone(discover)
		copy(packet[at:], b)
		return packet
	}
	for _, test := range []struct {
		name   string
		packet []byte
		served bool
		log    string
	}{
		{"no end option", discover[:end], true, ""},
		{"last option runs over", append(bytes.Clone(discover[:end]), 60, 200, 'P', 'X'), true, ""},
		{"last option without its length", append(bytes.Clone(discover[:end]), 60), true, ""},
		{"padding", append(append(discover[:end:end], 0, 0, 0), 255), true, ""},
		{"hardware address of 16 bytes", header(2, 16), false, "mac=52:54:12:34:00:01:00:00:00:00:00:00:00:00:00:00 sentence=\"ignored: hardware type 1 with an address of 16 bytes is not Ethernet\""},
		{"not Ethernet", header(1, 32), false, "mac=52:54:12:34:00:01 sentence=\"ignored: hardware type"},
		{"many hosts", header(28, 0xff), false, "mac=ff:54:12:34:00:01 sentence=\"ignored: ff:54:12:34:00:01 is not the address of one machine"},
		{"BOOTP", header(236, 0, 0, 0, 0), false, "mac=52:54:12:34:00:01 sentence=\"ignored: BOOTP without"},
		{"half a packet", discover[:200], false, "mac=52:54:12:34:00:01 sentence=\"ignored: 200 bytes are shorter"},
		{"one byte", discover[:1], false, "mac=unknown sentence=\"ignored: 1 bytes are shorter"},
		{"empty", nil, false, "mac=unknown sentence=\"ignored: 0 bytes"},
		{"no message type", discover[:240], false, "not a message that a DHCP client sends"},
		{"long", make([]byte, 1400), false, "BOOTP without"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log syncBuffer
			now := start
			server := &dhcp.Server{Network: network(table(t, 10, &now)), Log: slog.New(slog.NewTextHandler(&log, nil))}
			c := dial(t, serve(t, server))
			for range 3 {
				if _, err := c.Write(test.packet); err != nil {
					t.Fatal(err)
				}
			}
			if r := c.receive(soonIf(test.served)); (r != nil) != test.served {
				t.Errorf("answer %v, want one: %v", r, test.served)
			}
			c = dial(t, c.RemoteAddr().(*net.UDPAddr).AddrPort())
			c.send(message(t, dhcpv4.MessageTypeDiscover))
			if r := c.receive(soon); r == nil || r.MessageType() != dhcpv4.MessageTypeOffer {
				t.Errorf("afterwards: answer %v, want an offer", r)
			}
			if n := strings.Count(log.String(), test.log); test.log != "" && n != 1 {
				t.Errorf("log says %d times %q:\n%s", n, test.log, log.String())
			}
		})
	}
}

// soonIf is how long to wait for an answer that must, or must not, come.
func soonIf(comes bool) time.Duration {
	if comes {
		return soon
	}
	return 50 * time.Millisecond
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

// TestListenNeedsDevice: without a device, machines of every network would be
// answered.
func TestListenNeedsDevice(t *testing.T) {
	s := &dhcp.Server{Network: network(nil)}
	for _, listen := range []string{"0.0.0.0:0", "192.168.122.1:0"} {
		if err := s.Listen("", netip.MustParseAddrPort(listen)); err == nil {
			t.Errorf("listens on %s of every device", listen)
		}
	}
	if err := s.Listen("no-such-dev0", netip.MustParseAddrPort("0.0.0.0:0")); err == nil {
		t.Error("listens on a device that does not exist")
	}
}

// TestEvents: the history hears of boots and of what an operator must know,
// not of every renewal.
func TestEvents(t *testing.T) {
	now := start
	heard := make(chan dhcp.Answer, 10)
	server := &dhcp.Server{Network: network(table(t, 2, &now)), Notify: func(a dhcp.Answer) { heard <- a }}
	c := dial(t, serve(t, server))
	send := func(m *dhcpv4.DHCPv4) {
		c.send(m)
		c.receive(soon)
	}
	send(machineRequest(t, 1)) // new: event
	send(machineRequest(t, 1)) // renewal: none
	c.send(message(t, dhcpv4.MessageTypeRequest, requested("192.168.122.7"), chosen("192.168.122.9")))
	for _, want := range []string{"gets 192.168.122.101", "took the offer of another DHCP server on this network, 192.168.122.9"} {
		select {
		case a := <-heard:
			if a.Sentence != want {
				t.Errorf("event %q, want %q", a.Sentence, want)
			}
		case <-time.After(soon):
			t.Fatalf("no event %q", want)
		}
	}
}

// TestFlood: while 10,000 machines ask, one that has its address is served, and
// the history does not drown.
func TestFlood(t *testing.T) {
	now := start
	var told atomic.Int32
	server := &dhcp.Server{Network: network(table(t, 20, &now)), Notify: func(dhcp.Answer) { told.Add(1) }, Log: slog.New(slog.DiscardHandler)}
	to := serve(t, server)
	known := dial(t, to)
	known.send(machineRequest(t, 1))
	if r := known.receive(soon); r == nil || r.MessageType() != dhcpv4.MessageTypeAck {
		t.Fatalf("before: %v, want an ACK", r)
	}
	flood := dial(t, to)
	discover := message(t, dhcpv4.MessageTypeDiscover)
	for n := range 10_000 {
		discover.ClientHWAddr = net.HardwareAddr{2, 9, 0, byte(n >> 16), byte(n >> 8), byte(n)}
		flood.send(discover)
		if n%1000 != 0 {
			continue
		}
		var r *dhcpv4.DHCPv4
		for range 5 { // a machine asks again
			known.send(machineRequest(t, 1))
			if r = known.receive(time.Second); r != nil {
				break
			}
		}
		if r == nil || r.MessageType() != dhcpv4.MessageTypeAck {
			t.Fatalf("after %d: %v, want an ACK", n, r)
		}
	}
	if n := told.Load(); n > 150 {
		t.Errorf("%d lines in the history", n)
	}
}
