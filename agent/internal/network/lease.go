package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// One round asks three times and waits 2, 4 and 8 s (RFC 2131 section 4.1 backs
// off like that, from 4 s on).
const (
	firstWait   = 2 * time.Second
	triesARound = 3
)

// vendorClass tells a DHCP server (option 60) who asks.
const vendorClass = "edeploy"

// lease asks until ctx ends, and keeps what it gets.
func (j job) lease(ctx context.Context, link netlink.Link) {
	reach := sync.OnceFunc(func() { go j.reach(ctx, link.Attrs().Name) })
	for ctx.Err() == nil {
		lease, err := j.requestLease(ctx, link, nil)
		if err == nil {
			err = j.apply(link, lease.ACK)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			j.send(outcome{port: j.port, err: err})
			wait(ctx, j.hurry.of(time.Second)) // errors may come at once
			continue
		}
		j.send(outcome{port: j.port, address: prefix(lease.ACK)})
		reach()
		j.keep(ctx, link, lease)
	}
}

// requestLease gets a lease, or a renewal of the one given. The client's raw socket sees
// every packet of the device, so it must not stay open.
func (j job) requestLease(ctx context.Context, link netlink.Link, old *nclient4.Lease) (*nclient4.Lease, error) {
	client, err := nclient4.New(link.Attrs().Name, nclient4.WithTimeout(j.hurry.of(firstWait)), nclient4.WithRetry(triesARound))
	if err != nil {
		return nil, fmt.Errorf("open DHCP socket on %s: %w", link.Attrs().Name, err)
	}
	defer client.Close()
	options := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(vendorClass)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainName,
			dhcpv4.OptionDomainNameServer, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionClasslessStaticRoute),
	}
	if old != nil {
		return client.Renew(ctx, old, options...)
	}
	return client.Request(ctx, options...)
}

// keep renews the lease when half of it is over, then when half of the rest is
// (RFC 2131 section 4.4.5), and returns when it is lost.
func (j job) keep(ctx context.Context, link netlink.Link, lease *nclient4.Lease) {
	ends := lease.CreationTime.Add(lease.ACK.IPAddressLeaseTime(time.Hour))
	for {
		pause, ok := nextRenewal(time.Now(), ends)
		if !ok || !wait(ctx, pause) {
			break
		}
		renewed, err := j.requestLease(ctx, link, lease)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			j.log.Warn("lease is not renewed yet", "error", err, "ends", ends)
			continue
		}
		lease = renewed
		ends = lease.CreationTime.Add(lease.ACK.IPAddressLeaseTime(time.Hour))
		j.log.Debug("lease renewed", "ends", ends)
		if err := j.apply(link, lease.ACK); err != nil {
			j.log.Warn("renewed lease is not applied", "error", err)
		}
	}
	if ctx.Err() == nil { // over, not given up by us
		j.log.Warn("lease lost", "address", prefix(lease.ACK).String())
	}
}

// nextRenewal is how long to wait before asking again; not ok: the lease is
// over. Attempts are a second apart at least, RFC 2131's minute would give short
// leases one attempt only.
func nextRenewal(now, ends time.Time) (time.Duration, bool) {
	left := ends.Sub(now)
	if left <= 0 {
		return 0, false
	}
	return min(left, max(left/2, time.Second)), true
}

// wait answers false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// prefix is the leased address; without a netmask option its class's.
func prefix(ack *dhcpv4.DHCPv4) netip.Prefix {
	mask := ack.SubnetMask()
	if mask == nil {
		mask = ack.YourIPAddr.DefaultMask()
	}
	address, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	ones, _ := mask.Size()
	return netip.PrefixFrom(address, ones)
}

// apply sets what the lease brings: address, size of packets, routes, name
// servers.
func (j job) apply(link netlink.Link, ack *dhcpv4.DHCPv4) error {
	address := prefix(ack)
	if !address.IsValid() || address.Addr().IsUnspecified() {
		return fmt.Errorf("DHCP answer on %s has no usable address: %v/%v", link.Attrs().Name, ack.YourIPAddr, ack.SubnetMask())
	}
	if err := dropAddresses(link, address); err != nil {
		return err
	}
	if err := setAddress(link, address); err != nil {
		return err
	}
	for _, route := range routes(ack, address, link.Attrs().Index, j.metric(link)) {
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("set route %s on %s: %w", route, link.Attrs().Name, err)
		}
	}
	j.setMTU(link, ack)
	return j.resolver.set(link.Attrs().Name, servers(ack), ack.DomainName())
}

// dropAddresses removes IPv4 addresses of an earlier lease.
func dropAddresses(link netlink.Link, keep netip.Prefix) error {
	old, err := netlink.AddrList(link, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, address := range old {
		if address.IPNet.String() == keep.String() {
			continue
		}
		if err := netlink.AddrDel(link, &address); err != nil {
			return fmt.Errorf("remove address %s from %s: %w", address.IPNet, link.Attrs().Name, err)
		}
	}
	return nil
}

// routes are the classless static routes, or the default route when the server
// sent none (RFC 3442: then the router option is ignored).
func routes(ack *dhcpv4.DHCPv4, address netip.Prefix, index, metric int) []netlink.Route {
	var found []netlink.Route
	add := func(destination *net.IPNet, gateway net.IP) {
		route := netlink.Route{LinkIndex: index, Dst: destination, Gw: gateway, Priority: metric}
		if gw, ok := netip.AddrFromSlice(gateway.To4()); ok && !address.Masked().Contains(gw) {
			route.Flags = int(netlink.FLAG_ONLINK) // hosting networks with /32 leases
		}
		if gateway.IsUnspecified() {
			route.Gw, route.Flags, route.Scope = nil, 0, netlink.SCOPE_LINK
		}
		found = append(found, route)
	}
	if static := ack.ClasslessStaticRoute(); len(static) > 0 {
		for _, r := range static {
			add(r.Dest, r.Router)
		}
		return found
	}
	if routers := ack.Router(); len(routers) > 0 {
		add(&net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, routers[0])
	}
	return found
}

// Packets that every host takes (RFC 791), and the longest that switches pass on.
const (
	leastMTU = 576
	mostMTU  = 9216
)

// setMTU follows the server within reason; a driver that refuses goes on with
// its own.
func (j job) setMTU(link netlink.Link, ack *dhcpv4.DHCPv4) {
	mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options)
	if err != nil || int(mtu) == link.Attrs().MTU {
		return
	}
	if err := changeMTU(link, int(mtu)); err != nil {
		j.log.Warn("MTU of the DHCP server is not set", "mtu", mtu, "error", err)
	}
}

// changeMTU also changes the card below a VLAN, whose packets must fit into its.
func changeMTU(link netlink.Link, mtu int) error {
	if mtu < leastMTU || mtu > mostMTU {
		return fmt.Errorf("it is not between %d and %d", leastMTU, mostMTU)
	}
	if link.Type() == "vlan" {
		card, err := netlink.LinkByIndex(link.Attrs().ParentIndex)
		if err != nil {
			return err
		}
		if card.Attrs().MTU < mtu {
			if err := netlink.LinkSetMTU(card, mtu); err != nil {
				return err
			}
		}
	}
	return netlink.LinkSetMTU(link, mtu)
}

func servers(ack *dhcpv4.DHCPv4) []netip.Addr {
	var found []netip.Addr
	for _, ip := range ack.DNS() {
		if address, ok := netip.AddrFromSlice(ip.To4()); ok {
			found = append(found, address)
		}
	}
	return found
}
