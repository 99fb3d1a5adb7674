// Package foreign looks for other DHCP servers on a network before this one
// answers there: it asks for an address as a machine would, and takes none.
//
// Two appliances that look at the same time see each other's requests by their
// vendor class; see Class.
package foreign

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"edeploy/pxe/internal/ether"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// Class is the vendor class (option 60) of a request that only looks. An
// appliance that gives addresses answers it, whoever asks; one that looks itself
// answers when its own Ethernet address is the lower one; either with the class
// in the answer, and without an address.
const Class = "edeploy looks for DHCP servers"

// Server is a DHCP server that was found.
type Server struct {
	Address netip.Addr // its server identifier
	MAC     net.HardwareAddr
}

func (s Server) String() string { return fmt.Sprintf("%s (%s)", s.Address, s.MAC) }

// Look asks twice on a device, the second time after half of the time, and
// answers who has offered an address within the time, by address.
func Look(ctx context.Context, device string, wait time.Duration) ([]Server, error) {
	socket, err := ether.Open(device, unix.ETH_P_IP)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer stop()
	request, err := discover(socket.Own())
	if err != nil {
		return nil, err
	}
	packet := ether.UDP(netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ClientPort),
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpv4.ServerPort), request.ToBytes())
	var found []Server
	for range 2 {
		if err := socket.Send(ether.Broadcast, unix.ETH_P_IP, packet); err != nil {
			return nil, fmt.Errorf("look for DHCP servers on %s: %w", device, err)
		}
		found, err = collect(socket, request.TransactionID, time.Now().Add(wait/2), found)
		if err != nil {
			return nil, fmt.Errorf("look for DHCP servers on %s: %w", device, err)
		}
	}
	slices.SortFunc(found, func(a, b Server) int { return a.Address.Compare(b.Address) })
	return found, nil
}

func discover(own ether.MAC) (*dhcpv4.DHCPv4, error) {
	var id dhcpv4.TransactionID
	rand.Read(id[:])
	return dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithHwAddr(own[:]), dhcpv4.WithTransactionID(id),
		dhcpv4.WithBroadcast(true), dhcpv4.WithOption(dhcpv4.OptClassIdentifier(Class)))
}

// maxFound is how many servers are told apart.
const maxFound = 8

// collect adds the servers that answer until the deadline.
func collect(socket *ether.Socket, id dhcpv4.TransactionID, deadline time.Time, found []Server) ([]Server, error) {
	buf := make([]byte, 2048)
	for {
		n, from, err := socket.Receive(buf, deadline)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return found, nil
		case err != nil:
			return found, err
		}
		address, ok := offer(buf[:n], id)
		s := Server{address, from[:]}
		same := func(o Server) bool { return o.Address == s.Address && bytes.Equal(o.MAC, s.MAC) }
		if ok && len(found) < maxFound && !slices.ContainsFunc(found, same) {
			found = append(found, s)
		}
	}
}

// offer is the server whose offer to us a packet is.
func offer(packet []byte, id dhcpv4.TransactionID) (server netip.Addr, ok bool) {
	from, to, payload, ok := ether.ParseUDP(packet)
	if !ok || from.Port() != dhcpv4.ServerPort || to.Port() != dhcpv4.ClientPort {
		return server, false
	}
	m, err := dhcpv4.FromBytes(payload)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || m.TransactionID != id || m.MessageType() != dhcpv4.MessageTypeOffer {
		return server, false
	}
	if m.YourIPAddr.IsUnspecified() && m.ClassIdentifier() != Class {
		return server, false // a ProxyDHCP server, which gives no addresses
	}
	if named, ok := netip.AddrFromSlice(m.ServerIdentifier().To4()); ok {
		return named, true
	}
	return from.Addr(), true
}
