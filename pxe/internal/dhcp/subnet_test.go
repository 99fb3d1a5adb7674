package dhcp_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"edeploy/pxe/internal/dhcp"
	"edeploy/pxe/internal/lease"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// two is the network of network(), and 10.1.0.0/24 behind a relay, where
// machine ...:02 has a reservation.
func two(t testing.TB, now *time.Time) dhcp.Network {
	t.Helper()
	far, err := lease.Open(lease.Config{First: netip.MustParseAddr("10.1.0.50"), Last: netip.MustParseAddr("10.1.0.51"), Time: 2 * time.Hour,
		Reserved: map[lease.MAC]netip.Addr{{0x52, 0x54, 0x12, 0x34, 0, 2}: netip.MustParseAddr("10.1.0.7")}, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	n := network(table(t, 2, now))
	n.Subnets = append(n.Subnets, dhcp.Subnet{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Leases: far, Settings: dhcp.Settings{
		Router: netip.MustParseAddr("10.1.0.254"), DNS: []netip.Addr{netip.MustParseAddr("10.1.0.253")},
		NTP: []netip.Addr{netip.MustParseAddr("10.1.0.252")}, Domain: "far.example", MTU: 9000,
	}})
	return n
}

// TestSubnets: a machine gets an address of the network that it is on, which is
// the relay's, or that of the address it has.
func TestSubnets(t *testing.T) {
	relayed, other := dhcpv4.WithGatewayIP(net.ParseIP("10.1.0.1")), dhcpv4.WithHwAddr(net.HardwareAddr{0x52, 0x54, 0x12, 0x34, 0, 2})
	discover := func(with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 { return message(t, dhcpv4.MessageTypeDiscover, with...) }
	request := func(with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 { return message(t, dhcpv4.MessageTypeRequest, with...) }
	const none, offer, ack, nak = dhcpv4.MessageTypeNone, dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak
	const relay, far, near = "10.1.0.1:67", "10.1.0.50", "192.168.122.100"
	for name, steps := range map[string][]step{
		"through a relay, and renewed without it": {
			{0, discover(relayed), offer, far, relay, ""},
			{0, request(relayed, requested(far), chosen("192.168.122.1")), ack, far, relay, ""},
			{0, request(current(far)), ack, far, far + ":68", ""},
			{0, message(t, dhcpv4.MessageTypeInform, current(far)), ack, "", far + ":68", "settings"},
			{0, message(t, dhcpv4.MessageTypeRelease, current(far)), none, "", "", "released " + far},
		},
		"moved from one network to the other": {
			{0, request(requested(near), chosen("192.168.122.1")), ack, near, near + ":68", ""},
			{0, request(relayed, requested(near)), nak, "", relay, "192.168.122.100 is not in this network"},
			{0, discover(relayed), offer, far, relay, ""},
			{0, request(relayed, requested(far), chosen("192.168.122.1")), ack, far, relay, ""},
			{0, discover(), offer, near, near + ":68", ""},
		},
		"reserved": {
			{0, discover(other, relayed), offer, "10.1.0.7", relay, ""},
			{0, request(other, relayed, requested(far), chosen("192.168.122.1")), nak, "", relay, "not the one that is reserved for this machine, 10.1.0.7"},
			{0, request(other, relayed, requested("10.1.0.7"), chosen("192.168.122.1")), ack, "10.1.0.7", relay, ""},
			{0, request(relayed, requested("10.1.0.7")), nak, "", relay, "held by another machine"},
		},
		"a relay of no network": {
			{0, discover(dhcpv4.WithGatewayIP(net.ParseIP("10.2.0.1"))), none, "", "", "the relay 10.2.0.1 is on a network for which"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := start
			n := two(t, &now)
			for i, s := range steps {
				check(t, i, s, n.Answer(s.req))
			}
		})
	}
}

// TestSettings: each network has its own.
func TestSettings(t *testing.T) {
	now := start
	info := dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 2, 'e', '1'})
	r := two(t, &now).Answer(message(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.ParseIP("10.1.0.1")), dhcpv4.WithOption(info))).Reply
	got := map[string]string{
		"router": r.Router()[0].String(), "dns": r.DNS()[0].String(), "ntp": r.NTPServers()[0].String(), "domain": r.DomainName(),
		"mask": net.IP(r.SubnetMask()).String(), "lease": r.IPAddressLeaseTime(0).String(), "server": r.ServerIdentifier().String(),
		"mtu": string(r.Options.Get(dhcpv4.OptionInterfaceMTU)), "relay": string(r.Options.Get(dhcpv4.OptionRelayAgentInformation)),
	}
	want := map[string]string{"router": "10.1.0.254", "dns": "10.1.0.253", "ntp": "10.1.0.252", "domain": "far.example",
		"mask": "255.255.255.0", "lease": "2h0m0s", "server": "192.168.122.1", "mtu": "\x23\x28", "relay": "\x01\x02e1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
