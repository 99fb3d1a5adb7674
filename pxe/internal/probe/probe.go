// Package probe asks whether somebody uses an address, before it is given to a
// machine: by ARP on the device's own network (RFC 5227 section 2.1.1), by ICMP
// echo in networks behind a router.
package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"edeploy/pxe/internal/ether"

	"golang.org/x/sys/unix"
)

// Wait is how long an answer is waited for. A machine on the same wire answers
// in a millisecond; RFC 5227 is for machines that have nothing else to do, and
// waits for seconds.
const Wait = 250 * time.Millisecond

// Max is how many addresses are asked for at a time.
const Max = 1024

// Prober asks on one device.
type Prober struct {
	arp  *ether.Socket
	icmp net.PacketConn

	mu      sync.Mutex
	pending map[netip.Addr]*question
}

type question struct {
	mac   ether.MAC // whose own answer does not count
	tell  func(used bool)
	timer *time.Timer
}

// Open opens the sockets; it needs CAP_NET_RAW.
func Open(device string) (*Prober, error) {
	arp, err := ether.Open(device, unix.ETH_P_ARP)
	if err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); e != nil {
			return e
		}
		return err
	}}
	icmp, err := config.ListenPacket(context.Background(), "ip4:icmp", "0.0.0.0")
	if err != nil {
		arp.Close()
		return nil, fmt.Errorf("open ICMP socket on %s: %w", device, err)
	}
	return &Prober{arp: arp, icmp: icmp, pending: map[netip.Addr]*question{}}, nil
}

// Close closes the sockets; nobody is told any more.
func (p *Prober) Close() {
	p.arp.Close()
	p.icmp.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for a, q := range p.pending {
		q.timer.Stop()
		delete(p.pending, a)
	}
}

// Ask asks whether somebody else than the machine uses the address, and calls
// tell with the answer once, from another goroutine. near: the address is on
// the device's own network. It answers false, and tells nothing, when it cannot
// ask: then nobody knows.
func (p *Prober) Ask(mac ether.MAC, a netip.Addr, near bool, tell func(used bool)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, asked := p.pending[a]; asked || len(p.pending) >= Max {
		return false
	}
	if err := p.send(a, near); err != nil {
		return false
	}
	p.pending[a] = &question{mac, tell, time.AfterFunc(Wait, func() { p.answer(a, ether.MAC{}, false) })}
	return true
}

func (p *Prober) send(a netip.Addr, near bool) error {
	if near {
		return p.arp.Send(ether.Broadcast, unix.ETH_P_ARP, request(p.arp.Own(), a))
	}
	_, err := p.icmp.WriteTo(echo(), &net.IPAddr{IP: a.AsSlice()})
	return err
}

// answer ends a question.
func (p *Prober) answer(a netip.Addr, from ether.MAC, used bool) {
	p.mu.Lock()
	q, ok := p.pending[a]
	if !ok || used && from == q.mac {
		p.mu.Unlock()
		return
	}
	delete(p.pending, a)
	q.timer.Stop()
	p.mu.Unlock()
	q.tell(used)
}

// Serve reads answers until ctx ends or a socket fails.
func (p *Prober) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.Close)
	defer stop()
	defer p.Close()
	failed := make(chan error, 2)
	go func() { failed <- p.readICMP() }()
	go func() { failed <- p.readARP() }()
	err := <-failed
	p.Close()
	<-failed
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("ask whether addresses are used: %w", err)
}

func (p *Prober) readARP() error {
	buf := make([]byte, 1500)
	for {
		n, _, err := p.arp.Receive(buf, time.Time{})
		if err != nil {
			return err
		}
		if a, mac, ok := sender(buf[:n]); ok {
			p.answer(a, mac, true)
		}
	}
}

func (p *Prober) readICMP() error {
	buf := make([]byte, 1500)
	for {
		n, from, err := p.icmp.ReadFrom(buf)
		if err != nil {
			return err
		}
		a, ok := netip.AddrFromSlice(from.(*net.IPAddr).IP.To4())
		if ok && n >= 8 && buf[0] == echoReply && binary.BigEndian.Uint16(buf[4:]) == echoID {
			p.answer(a, ether.MAC{}, true)
		}
	}
}

// arpHead is hardware type Ethernet, protocol IPv4, and the lengths of their
// addresses (RFC 826).
var arpHead = []byte{0, 1, 8, 0, 6, 4}

// request asks who has an address, without telling one of our own, so that
// nobody's ARP table changes.
func request(own ether.MAC, a netip.Addr) []byte {
	p := append(bytes.Clone(arpHead), 0, 1)
	p = append(p, own[:]...)
	p = append(p, make([]byte, 4+6)...)
	return append(p, a.AsSlice()...)
}

// sender is who says in an ARP packet that it has an address.
func sender(p []byte) (a netip.Addr, mac ether.MAC, ok bool) {
	if len(p) < 28 || !bytes.Equal(p[:6], arpHead) {
		return a, mac, false
	}
	a = netip.AddrFrom4([4]byte(p[14:18]))
	return a, ether.MAC(p[8:14]), !a.IsUnspecified()
}

const (
	echoRequest = 8
	echoReply   = 0
	echoID      = 0xed01
)

// echo is an ICMP echo request (RFC 792).
func echo() []byte {
	p := make([]byte, 8)
	p[0] = echoRequest
	binary.BigEndian.PutUint16(p[4:], echoID)
	binary.BigEndian.PutUint16(p[2:], ether.Checksum(p))
	return p
}
