package foreign

import (
	"net"
	"net/netip"
	"testing"

	"edeploy/pxe/internal/ether"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var id = dhcpv4.TransactionID{1, 2, 3, 4}

// answer is a packet that a server sends.
func answer(t testing.TB, from string, with ...dhcpv4.Modifier) []byte {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithTransactionID(id),
		func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply }}, with...)...)
	if err != nil {
		t.Fatal(err)
	}
	return ether.UDP(netip.MustParseAddrPort(from), netip.MustParseAddrPort("255.255.255.255:68"), m.ToBytes())
}

// TestOffer: offers to us count, of servers and of appliances; those of proxies
// and to others do not.
func TestOffer(t *testing.T) {
	yours := dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 9))
	named := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 0, 2)))
	class := func(text string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(text)) }
	for name, test := range map[string]struct {
		packet []byte
		want   string // "": none
	}{
		"a server":               {answer(t, "10.0.0.1:67", yours, named), "10.0.0.2"},
		"one without a name":     {answer(t, "10.0.0.1:67", yours), "10.0.0.1"},
		"an appliance":           {answer(t, "10.0.0.1:67", named, class(Class)), "10.0.0.2"},
		"a proxy":                {answer(t, "10.0.0.1:67", named, class("PXEClient")), ""},
		"to somebody else":       {answer(t, "10.0.0.1:67", yours, dhcpv4.WithTransactionID(dhcpv4.TransactionID{9})), ""},
		"an ACK":                 {answer(t, "10.0.0.1:67", yours, dhcpv4.WithMessageType(dhcpv4.MessageTypeAck)), ""},
		"from no server's port":  {answer(t, "10.0.0.1:1067", yours, named), ""},
		"a request with our id":  {answer(t, "10.0.0.1:67", yours, func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootRequest }), ""},
		"half of one":            {answer(t, "10.0.0.1:67", yours, named)[:100], ""},
		"UDP that holds no DHCP": {ether.UDP(netip.MustParseAddrPort("10.0.0.1:67"), netip.MustParseAddrPort("10.0.0.2:68"), []byte("x")), ""},
	} {
		got, ok := offer(test.packet, id)
		if ok != (test.want != "") || ok && got.String() != test.want {
			t.Errorf("%s: %s, %v; want %q", name, got, ok, test.want)
		}
	}
}

// FuzzOffer: no packet makes it fail.
func FuzzOffer(f *testing.F) {
	f.Add(answer(f, "10.0.0.1:67", dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 9))))
	f.Add(answer(f, "10.0.0.1:67", dhcpv4.WithOption(dhcpv4.OptClassIdentifier(Class))))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if a, ok := offer(packet, id); ok && !a.Is4() {
			t.Errorf("server %s", a)
		}
	})
}
