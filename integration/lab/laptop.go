package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	laptopNIC   = 1
	laptopMTU   = 1500
	laptopQueue = 1024 // frames on their way from the stack to the hub
)

// Laptop is a host on a hub whose whole network stack is in this process: with
// it a test or the demo talks to machines on the private wire without root. It
// answers ARP and ping.
type Laptop struct {
	addr  netip.Addr
	hub   *Hub
	port  *Port
	stack *stack.Stack
	link  *channel.Endpoint

	ctx  context.Context // ends with the laptop
	stop context.CancelFunc
	done sync.WaitGroup
	once sync.Once
}

// Laptop plugs in a laptop with one address, written with the length of its
// network: 10.0.3.200/24. What is not in that network is out of its reach.
func (h *Hub) Laptop(prefix netip.Prefix) (*Laptop, error) {
	if !prefix.IsValid() || !prefix.Addr().Is4() {
		return nil, fmt.Errorf("plug a laptop into hub %s: %v is not an IPv4 address with a prefix length", h.name, prefix)
	}
	mac := laptopMAC(prefix.Addr())
	link := channel.New(laptopQueue, laptopMTU, tcpip.LinkAddress(mac[:]))
	s, err := newStack(ethernet.New(link), prefix)
	if err != nil {
		return nil, fmt.Errorf("plug laptop %v into hub %s: %w", prefix, h.name, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Laptop{
		addr: prefix.Addr(), hub: h, port: h.Port("laptop-" + prefix.Addr().String()),
		stack: s, link: link, ctx: ctx, stop: stop,
	}
	h.mu.Lock()
	h.laptops = append(h.laptops, l)
	h.mu.Unlock()
	l.done.Go(l.send)
	l.done.Go(l.receive)
	return l, nil
}

// laptopMAC is a locally administered address made of the IP address, so that
// it is easy to find in a capture.
func laptopMAC(addr netip.Addr) macAddress {
	ip := addr.As4()
	return macAddress{0x02, 0x1a, ip[0], ip[1], ip[2], ip[3]}
}

func newStack(link stack.LinkEndpoint, prefix netip.Prefix) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, icmp.NewProtocol4},
	})
	sack := tcpip.TCPSACKEnabled(true)
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return nil, stackError(err)
	}
	if err := s.CreateNIC(laptopNIC, link); err != nil {
		return nil, stackError(err)
	}
	address := tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{
			Address:   tcpip.AddrFrom4(prefix.Addr().As4()),
			PrefixLen: prefix.Bits(),
		},
	}
	if err := s.AddProtocolAddress(laptopNIC, address, stack.AddressProperties{}); err != nil {
		return nil, stackError(err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: address.AddressWithPrefix.Subnet(), NIC: laptopNIC}})
	return s, nil
}

// stackError makes an error of gvisor's, which have the method String only.
func stackError(err tcpip.Error) error { return errors.New(err.String()) }

// send carries frames from the stack to the hub.
func (l *Laptop) send() {
	for {
		packet := l.link.ReadContext(l.ctx)
		if packet == nil {
			return
		}
		view := packet.ToView()
		packet.DecRef()
		l.port.put(bytes.Clone(view.AsSlice()))
		view.Release()
	}
}

// receive carries frames from the hub to the stack.
func (l *Laptop) receive() {
	for {
		frame, err := l.port.Receive(l.ctx)
		if err != nil {
			return
		}
		packet := stack.NewPacketBuffer(stack.PacketBufferOptions{
			Payload: buffer.MakeWithData(frame),
		})
		l.link.InjectInbound(header.EthernetProtocolAll, packet)
		packet.DecRef()
	}
}

// Port is the laptop's socket on the hub.
func (l *Laptop) Port() *Port { return l.port }

// DialContext connects as net.Dialer.DialContext does; network is tcp or tcp4,
// and the host in address is an IPv4 address, since the wire has no name server.
func (l *Laptop) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	remote, err := netip.ParseAddrPort(address)
	if err != nil || !remote.Addr().Is4() || !strings.HasPrefix(network, "tcp") {
		return nil, fmt.Errorf("dial %s %s: want tcp, an IPv4 address and a port", network, address)
	}
	to := tcpip.FullAddress{NIC: laptopNIC, Addr: tcpip.AddrFrom4(remote.Addr().As4()), Port: remote.Port()}
	conn, err := gonet.DialContextTCP(ctx, l.stack, to, ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("dial %s %s from %v: %w", network, address, l.addr, err)
	}
	return conn, nil
}

// Listen accepts TCP connections from the wire; port 0 picks one.
func (l *Laptop) Listen(port uint16) (net.Listener, error) {
	at := tcpip.FullAddress{NIC: laptopNIC, Addr: tcpip.AddrFrom4(l.addr.As4()), Port: port}
	listener, err := gonet.ListenTCP(l.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		return nil, fmt.Errorf("listen on %v port %d: %w", l.addr, port, err)
	}
	return listener, nil
}

// HTTPClient is a client whose connections start at the laptop. It has no
// overall timeout: pass a context with the request.
func (l *Laptop) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:         l.DialContext,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}}
}

// Forward listens on a TCP address of the host ("127.0.0.1:0" picks a port)
// and connects everyone who comes to remote, an address on the wire. The
// result is the address it listens on; it is served until the laptop ends.
func (l *Laptop) Forward(local, remote string) (net.Addr, error) {
	if _, err := netip.ParseAddrPort(remote); err != nil {
		return nil, fmt.Errorf("forward %s to %s: want an IPv4 address and a port", local, remote)
	}
	listener, err := net.Listen("tcp", local)
	if err != nil {
		return nil, fmt.Errorf("forward %s to %s: %w", local, remote, err)
	}
	l.done.Go(func() {
		<-l.ctx.Done()
		listener.Close()
	})
	l.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.done.Go(func() { l.relay(conn, remote) })
		}
	})
	return listener.Addr(), nil
}

// dialTimeout bounds how long someone who comes to a forwarded port waits for
// the machine behind it.
const dialTimeout = 20 * time.Second

func (l *Laptop) relay(near net.Conn, remote string) {
	defer near.Close()
	ctx, cancel := context.WithTimeout(l.ctx, dialTimeout)
	far, err := l.DialContext(ctx, "tcp", remote)
	cancel()
	if err != nil {
		l.hub.log.Debug("a forwarded connection found nobody", "error", err)
		return
	}
	defer far.Close()
	stop := context.AfterFunc(l.ctx, func() {
		near.Close()
		far.Close()
	})
	defer stop()
	var ways sync.WaitGroup
	ways.Go(func() { pass(far, near) })
	ways.Go(func() { pass(near, far) })
	ways.Wait()
}

// pass copies one direction and hands its end on.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
		from.Close()
	}
}

// Close unplugs the laptop and ends its connections.
func (l *Laptop) Close() {
	l.once.Do(func() {
		l.stop()
		l.port.Close()
		l.done.Wait()
		l.stack.Close()
		l.stack.Wait()
	})
}
