package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"edeploy/pxe/internal/ether"
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
	own    ether.MAC  // of the device; zero without one

	frames    *ether.Socket // nil: not possible, see framesErr
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
		s.frames, s.framesErr = ether.Open(device, ether.SendOnly)
		if s.frames != nil {
			s.own = s.frames.Own()
		}
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
		return s.frames.Send(mac, unix.ETH_P_IP, ether.UDP(netip.AddrPortFrom(s.source, dhcpv4.ServerPort), to.Addr, payload))
	}
	if to.Frame {
		to = broadcast
	}
	_, _, err := s.udp.WriteMsgUDPAddrPort(payload, s.from, to.Addr)
	return err
}
