// Package ether sends and receives what Ethernet frames carry on one network
// device, past the kernel's addresses: to machines that have none yet, and
// while this one has none.
package ether

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// MAC is an Ethernet address.
type MAC = [6]byte

// Broadcast is everybody on the wire.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// SendOnly is the protocol of a socket that receives nothing.
const SendOnly = 0

// Socket is a packet socket (packet(7)) on one device.
type Socket struct {
	file  *os.File
	index int
	own   MAC
}

// Open opens a socket that receives frames of a protocol (unix.ETH_P_IP). It
// needs CAP_NET_RAW.
func Open(device string, protocol uint16) (*Socket, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("network device %s: %w", device, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	if protocol != SendOnly {
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: link.Index}); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("bind raw socket to %s: %w", device, err)
		}
	}
	s := &Socket{file: os.NewFile(uintptr(fd), "raw socket of "+device), index: link.Index}
	copy(s.own[:], link.HardwareAddr)
	return s, nil
}

// Own is the device's address.
func (s *Socket) Own() MAC { return s.own }

// Close closes the socket; a Receive that waits ends.
func (s *Socket) Close() error { return s.file.Close() }

// Send sends a payload to a machine on the wire.
func (s *Socket) Send(to MAC, protocol uint16, payload []byte) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	addr := &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: s.index, Halen: uint8(len(to))}
	copy(addr.Addr[:], to[:])
	var sent error
	if err := raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), payload, 0, addr)
		return sent != unix.EAGAIN
	}); err != nil {
		return err
	}
	return sent
}

// Receive waits for a payload that came in, and from whom, until the deadline
// (os.ErrDeadlineExceeded); the zero time: for ever.
func (s *Socket) Receive(buf []byte, deadline time.Time) (n int, from MAC, err error) {
	if err := s.file.SetReadDeadline(deadline); err != nil {
		return 0, from, err
	}
	raw, err := s.file.SyscallConn()
	if err != nil {
		return 0, from, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		var peer unix.Sockaddr
		n, peer, failed = unix.Recvfrom(int(fd), buf, 0)
		if failed == unix.EAGAIN {
			return false
		}
		link, ok := peer.(*unix.SockaddrLinklayer)
		if ok && link.Pkttype == unix.PACKET_OUTGOING {
			return false // our own
		}
		if ok {
			from = MAC(link.Addr[:6])
		}
		return true
	})
	if err == nil {
		err = failed
	}
	return n, from, err
}

// networkOrder is the number whose bytes in memory are big-endian.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}
