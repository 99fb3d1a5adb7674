// Package radv tells machines that there is no IPv6 router on the provisioning
// network, so that they need not wait for one.
//
// An iPXE that knows IPv6 (Debian's does) does not fetch its script before it
// has heard of a router or given up, which takes 16 seconds. The answer here
// is a router advertisement (RFC 4861 section 4.2) of a router with lifetime
// zero, "not a default router", without any prefix: nobody configures anything
// from it, also not an installed system that hears it.
package radv

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"syscall"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// ICMPv6 types, RFC 4861 section 4.
const (
	solicitation  = 133
	advertisement = 134
)

// notARouter is the advertisement: type, code, checksum (the kernel fills it
// in), hop limit "unspecified", no flags, lifetime 0, no timers, no options.
var notARouter = []byte{advertisement, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// Server answers router solicitations on one device.
type Server struct {
	Log *slog.Logger

	raw  net.PacketConn
	conn *ipv6.PacketConn
}

// Listen opens the raw socket, bound to the device.
func (s *Server) Listen(device string) error {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("network device %s: %w", device, err)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); e != nil {
			return e
		}
		return err
	}}
	if s.raw, err = config.ListenPacket(context.Background(), "ip6:ipv6-icmp", "::"); err != nil {
		return err
	}
	s.conn = ipv6.NewPacketConn(s.raw)
	if err := s.prepare(ifi); err != nil {
		s.raw.Close()
		return err
	}
	return nil
}

// prepare joins the routers' group and sets what RFC 4861 wants of a sender:
// every receiver drops what has not the hop limit 255.
func (s *Server) prepare(ifi *net.Interface) error {
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	allRouters := &net.IPAddr{IP: net.IPv6linklocalallrouters}
	if err := s.conn.SetICMPFilter(&filter); err != nil {
		return fmt.Errorf("filter ICMPv6: %w", err)
	}
	if err := s.conn.JoinGroup(ifi, allRouters); err != nil {
		return fmt.Errorf("join %s on %s: %w", allRouters, ifi.Name, err)
	}
	if err := s.conn.SetMulticastHopLimit(255); err != nil {
		return fmt.Errorf("set hop limit: %w", err)
	}
	if err := s.conn.SetHopLimit(255); err != nil {
		return fmt.Errorf("set hop limit: %w", err)
	}
	return nil
}

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.raw.Close() })
	defer stop()
	buf := make([]byte, 1500)
	for {
		n, _, peer, err := s.conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("router solicitations: %w", err)
		}
		to := peer.(*net.IPAddr)
		if n < 8 || buf[0] != solicitation || !to.IP.IsLinkLocalUnicast() {
			continue // from a machine that has no address yet: it asks again when it has
		}
		// The socket's device, not the name of the zone: package net remembers
		// the number of a device for a minute, also when it is made anew.
		to.Zone = ""
		if _, err := s.raw.WriteTo(notARouter, to); err != nil {
			s.Log.Debug("router solicitation not answered", "from", to, "err", err)
		}
	}
}

// Close closes the socket of a server that is not going to serve.
func (s *Server) Close() error { return s.raw.Close() }
