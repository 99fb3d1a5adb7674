package pxe

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"edeploy/pxe/internal/dhcp"
	"edeploy/pxe/internal/firmware"
	"edeploy/pxe/internal/lease"
	"edeploy/server/wire"
)

// Settings are what the machines of a network are told besides their address:
// Router, DNS, NTP, Domain and MTU. Zero values are not told.
type Settings = dhcp.Settings

// Loader is what firmware is made to start, which then asks for the machine's
// script.
type Loader = firmware.Loader

// The loaders.
const (
	LoaderIPXE = firmware.LoaderIPXE // on any firmware, but not signed
	LoaderGRUB = firmware.LoaderGRUB // on UEFI, signed for Secure Boot
)

// Subnet is a network and the addresses to give away there.
type Subnet struct {
	Prefix      netip.Prefix
	First, Last netip.Addr    // the range, both ends included; both zero: only reservations are given
	LeaseTime   time.Duration // 0: that of Config
	Unknown     Unknown       // "": that of Config
	Loader      Loader        // "": that of Config
	Settings
}

// Host is what is said about a machine beforehand.
type Host struct {
	Address netip.Addr // reserved for it, in one of the networks; the zero Addr: none
	Unknown Unknown    // what happens to it while it is not known; "": as its network has it
	Loader  Loader     // what its firmware is made to start; "": as its network has it
}

// MaxHosts is the most machines that Hosts may hold.
const MaxHosts = 1 << 16

// networks are all networks, with what they take from the configuration; the
// first is Address's.
func (c Config) networks() []Subnet {
	all := append([]Subnet{{Prefix: c.Address.Masked(), First: c.RangeFirst, Last: c.RangeLast, Settings: c.Settings}}, c.Subnets...)
	for i := range all {
		s := &all[i]
		if s.LeaseTime == 0 {
			s.LeaseTime = c.LeaseTime
		}
		if s.Unknown == "" {
			s.Unknown = c.Unknown
		}
		s.Loader = cmp.Or(s.Loader, c.Loader)
	}
	return all
}

// unknown is what happens to an unknown machine at an address, its own or that
// of its relay.
func (c Config) unknown(mac string, at netip.Addr) Unknown {
	return cmp.Or(c.Hosts[mac].Unknown, c.network(at).Unknown)
}

// loader is what the firmware of a machine starts; at as above.
func (c Config) loader(mac, _ string, at netip.Addr) Loader {
	return cmp.Or(c.Hosts[mac].Loader, c.network(at).Loader)
}

// network is the one that an address is in; of an address elsewhere only what
// Config says is known.
func (c Config) network(at netip.Addr) Subnet {
	all := c.networks()
	if i := slices.IndexFunc(all, func(s Subnet) bool { return s.Prefix.Contains(at) }); i >= 0 {
		return all[i]
	}
	return Subnet{Unknown: c.Unknown, Loader: c.Loader}
}

// checkNetworks makes sure that only addresses of the machines' own networks,
// and nobody else's, are given away.
func (c Config) checkNetworks() error {
	if !c.Address.IsValid() || !c.Address.Addr().Is4() || c.Address.Bits() > 30 {
		return fmt.Errorf("address %s: want an IPv4 address with a network, like 192.168.122.1/24", c.Address)
	}
	if c.Mode != ModeDHCP {
		return nil
	}
	all := c.networks()
	if !all[0].First.IsValid() || !all[0].Last.IsValid() {
		return fmt.Errorf("address range %s to %s is not inside the network of %s", c.RangeFirst, c.RangeLast, c.Address)
	}
	for i, s := range all {
		if err := s.check(c.Address.Addr()); err != nil {
			return err
		}
		for _, other := range all[:i] {
			if s.Prefix.Overlaps(other.Prefix) {
				return fmt.Errorf("networks %s and %s overlap", other.Prefix, s.Prefix)
			}
		}
	}
	return c.checkHosts(all)
}

func (c Config) checkHosts(all []Subnet) error {
	if len(c.Hosts) > MaxHosts {
		return fmt.Errorf("%d hosts are more than %d", len(c.Hosts), MaxHosts)
	}
	holders := map[netip.Addr]string{}
	for mac, h := range c.Hosts {
		if wire.NormalMAC(mac) != mac {
			return fmt.Errorf("host %q is no MAC address like 52:54:00:12:34:56", mac)
		}
		if err := cmp.Or(h.Unknown, UnknownHold).check(); err != nil {
			return fmt.Errorf("host %s: %w", mac, err)
		}
		if err := h.Loader.Check(); err != nil {
			return fmt.Errorf("host %s: %w", mac, err)
		}
		if !h.Address.IsValid() {
			continue
		}
		if other, twice := holders[h.Address]; twice {
			return fmt.Errorf("address %s is reserved for %s and %s", h.Address, min(other, mac), max(other, mac))
		}
		holders[h.Address] = mac
		i := slices.IndexFunc(all, func(s Subnet) bool { return s.Prefix.Contains(h.Address) })
		if i < 0 {
			return fmt.Errorf("address %s of host %s is in no network that is served", h.Address, mac)
		}
		if what, a := all[i].taken(c.Address.Addr(), h.Address, h.Address); what != "" {
			return fmt.Errorf("address %s of host %s is %s", a, mac, what)
		}
	}
	return nil
}

// check checks one network; own is this server's address.
func (s Subnet) check(own netip.Addr) error {
	if !s.Prefix.IsValid() || !s.Prefix.Addr().Is4() || s.Prefix.Bits() > 30 || s.Prefix != s.Prefix.Masked() {
		return fmt.Errorf("network %s: want one like 192.168.122.0/24", s.Prefix)
	}
	if s.LeaseTime < minLeaseTime {
		return fmt.Errorf("network %s: lease time %s is shorter than %s", s.Prefix, s.LeaseTime, minLeaseTime)
	}
	if err := errors.Join(s.Unknown.check(), s.Loader.Check()); err != nil {
		return fmt.Errorf("network %s: %w", s.Prefix, err)
	}
	if s.First.IsValid() || s.Last.IsValid() {
		if !s.Prefix.Contains(s.First) || !s.Prefix.Contains(s.Last) {
			return fmt.Errorf("address range %s to %s is not inside the network of %s", s.First, s.Last, s.Prefix)
		}
		if what, a := s.taken(own, s.First, s.Last); what != "" {
			return fmt.Errorf("address range %s to %s holds %s, %s", s.First, s.Last, what, a)
		}
	}
	if s.Router.IsValid() && !s.Prefix.Contains(s.Router) {
		return fmt.Errorf("router %s is not inside the network of %s", s.Router, s.Prefix)
	}
	for what, all := range map[string][]netip.Addr{"name": s.DNS, "time": s.NTP} {
		for _, a := range all {
			if !a.Is4() {
				return fmt.Errorf("%s server %s is not an IPv4 address", what, a)
			}
		}
	}
	if s.MTU != 0 && (s.MTU < 576 || s.MTU > 65535) { // RFC 2132 section 5.1, and what machines must take
		return fmt.Errorf("network %s: MTU %d: want 576 to 65535", s.Prefix, s.MTU)
	}
	if len(s.Domain) > 200 || strings.ContainsFunc(s.Domain, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("network %s: %.40q is no domain", s.Prefix, s.Domain)
	}
	return nil
}

// taken is an address from first to last that no machine may have, and why.
func (s Subnet) taken(own, first, last netip.Addr) (what string, a netip.Addr) {
	for _, reserved := range []struct {
		addr netip.Addr
		what string
	}{
		{own, "the own address"},
		{s.Router, "the router"},
		{s.Prefix.Addr(), "the network's own address"},
		{broadcast(s.Prefix), "the broadcast address"},
	} {
		if a := reserved.addr; a.IsValid() && first.Compare(a) <= 0 && a.Compare(last) <= 0 {
			return reserved.what, a
		}
	}
	return "", netip.Addr{}
}

// broadcast is the last address of the network.
func broadcast(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i, m := range net.CIDRMask(p.Bits(), 32) {
		a[i] |= ^m
	}
	return netip.AddrFrom4(a)
}

// subnets opens the lease tables; broken has a sentence for each file that was
// broken. Without addresses to give, there are no tables.
func (c Config) subnets() (all []dhcp.Subnet, broken []error, err error) {
	for i, s := range c.networks() {
		subnet := dhcp.Subnet{Prefix: s.Prefix, Settings: s.Settings}
		if c.Mode == ModeDHCP {
			file := c.LeaseFile
			if i > 0 {
				file += "-" + strings.ReplaceAll(s.Prefix.String(), "/", "-")
			}
			subnet.Leases, err = lease.Open(lease.Config{First: s.First, Last: s.Last, Time: s.LeaseTime, File: file,
				Reserved: c.reserved(s.Prefix), Known: func(mac lease.MAC) bool { return c.Known(mac.String(), "") }})
			if err != nil {
				return nil, nil, fmt.Errorf("leases of %s: %w", s.Prefix, err)
			}
			if err := subnet.Leases.Broken(); err != nil {
				broken = append(broken, err)
			}
		}
		all = append(all, subnet)
	}
	return all, broken, nil
}

// reserved are the reservations in one network.
func (c Config) reserved(p netip.Prefix) map[lease.MAC]netip.Addr {
	all := map[lease.MAC]netip.Addr{}
	for text, h := range c.Hosts {
		if mac, err := net.ParseMAC(text); err == nil && p.Contains(h.Address) {
			all[lease.MAC(mac)] = h.Address
		}
	}
	return all
}
