package dhcp

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"edeploy/pxe/internal/lease"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// socket sends and receives DHCP packets on one network device.
type socket struct {
	udp    *net.UDPConn
	device string
	source netip.Addr // of every answer
	from   []byte     // control message that says so

	frames    *frameSocket // nil: not possible, see framesErr
	framesErr error
}

// openSocket binds to the device. There is no SO_REUSEADDR: a second DHCP
// server on this device must be an error, not a lottery.
func openSocket(device string, listen netip.AddrPort, source netip.Addr) (*socket, error) {
	if device == "" && !listen.Addr().IsLoopback() {
		return nil, fmt.Errorf("listen on %s: no network device is named, so machines of any network would be answered", listen)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = bindDevice(int(fd), device) }); e != nil {
			return e
		}
		return err
	}}
	conn, err := config.ListenPacket(context.Background(), "udp4", listen.String())
	if err != nil {
		return nil, err
	}
	s := &socket{udp: conn.(*net.UDPConn), device: device, source: source}
	if device != "" {
		// The kernel would take the device's first address, which may be another.
		s.from = (&ipv4.ControlMessage{Src: source.AsSlice()}).Marshal()
		s.frames, s.framesErr = openFrames(device)
	}
	return s, nil
}

func bindDevice(fd int, device string) error {
	// Room for a whole rack that is switched on at once; without the right to
	// have it, the usual size must do.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 2<<20)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return fmt.Errorf("allow broadcast: %w", err)
	}
	if device == "" {
		return nil
	}
	if err := unix.BindToDevice(fd, device); err != nil {
		return fmt.Errorf("bind to network device %s: %w", device, err)
	}
	return nil
}

func (s *socket) addr() netip.AddrPort { return s.udp.LocalAddr().(*net.UDPAddr).AddrPort() }

func (s *socket) Close() {
	s.udp.Close()
	if s.frames != nil {
		s.frames.Close()
	}
}

func (s *socket) receive(buf []byte) (int, netip.AddrPort, error) {
	return s.udp.ReadFromUDPAddrPort(buf)
}

// send sends a reply. On loopback, where nothing can be broadcast, it goes
// back to where its request came from.
func (s *socket) send(to Destination, mac lease.MAC, peer netip.AddrPort, payload []byte) error {
	if s.device == "" || to == (Destination{}) {
		to = Destination{Addr: peer}
	}
	if to.Frame && s.frames != nil {
		return s.frames.send(mac, udpPacket(netip.AddrPortFrom(s.source, dhcpv4.ServerPort), to.Addr, payload))
	}
	if to.Frame {
		to = broadcast
	}
	_, _, err := s.udp.WriteMsgUDPAddrPort(payload, s.from, to.Addr)
	return err
}

// frameSocket sends IP packets to Ethernet addresses without asking ARP.
type frameSocket struct{ fd, index int }

func openFrames(device string) (*frameSocket, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	// Protocol 0: the socket only sends, it receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	return &frameSocket{fd, ifi.Index}, nil
}

func (f *frameSocket) Close() { unix.Close(f.fd) }

func (f *frameSocket) send(mac lease.MAC, packet []byte) error {
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_IP), Ifindex: f.index, Halen: uint8(len(mac))}
	copy(to.Addr[:], mac[:])
	return unix.Sendto(f.fd, packet, 0, to)
}

// networkOrder is the number whose bytes in memory are big-endian.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// udpPacket is an IPv4 packet (RFC 791) that holds a UDP datagram (RFC 768).
func udpPacket(from, to netip.AddrPort, payload []byte) []byte {
	const ipLen, udpLen = 20, 8
	p := make([]byte, ipLen+udpLen, ipLen+udpLen+len(payload))
	p = append(p, payload...)
	src, dst := from.Addr().As4(), to.Addr().As4()
	p[0] = 0x45 // version 4, header of five words
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[8], p[9] = 64, unix.IPPROTO_UDP // time to live, protocol
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[10:], checksum(0, p[:ipLen]))

	udp := p[ipLen:]
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	pseudo := uint32(unix.IPPROTO_UDP) + uint32(len(udp))
	for _, a := range [][4]byte{src, dst} {
		pseudo += uint32(binary.BigEndian.Uint16(a[:])) + uint32(binary.BigEndian.Uint16(a[2:]))
	}
	sum := checksum(pseudo, udp)
	if sum == 0 {
		sum = 0xffff // zero would mean "no checksum"
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return p
}

// checksum is the Internet checksum (RFC 1071).
func checksum(sum uint32, data []byte) uint16 {
	for ; len(data) >= 2; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
