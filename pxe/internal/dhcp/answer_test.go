package dhcp_test

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/pxe/internal/dhcp"
	"edeploy/pxe/internal/firmware"
	"edeploy/pxe/internal/lease"
	"edeploy/pxe/internal/pcap"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// network is one network, 192.168.122.0/24, with a router and a name server.
func network(leases *lease.Table) dhcp.Network {
	return dhcp.Network{
		Self: netip.MustParseAddr("192.168.122.1"),
		Subnets: []dhcp.Subnet{{Prefix: netip.MustParsePrefix("192.168.122.0/24"), Leases: leases, Settings: dhcp.Settings{
			Router: netip.MustParseAddr("192.168.122.254"),
			DNS:    []netip.Addr{netip.MustParseAddr("192.168.122.253")},
		}}},
		ScriptURL: func(mac, uuid string) string { return "http://192.168.122.1/boot/ipxe?mac=" + mac + "&uuid=" + uuid },
		FileURL:   func(name string) string { return "http://192.168.122.1/boot/file/" + name },
		HasFile:   func(name string) bool { return name == "undionly.kpxe" || name == "snponly.efi" },
	}
}

// start is the time of every test's first request.
var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// table is a lease table of 192.168.122.100 and following addresses, whose
// clock stands at *now.
func table(t testing.TB, size int, now *time.Time) *lease.Table {
	t.Helper()
	first := netip.MustParseAddr("192.168.122.100")
	last := first
	for range size - 1 {
		last = last.Next()
	}
	leases, err := lease.Open(lease.Config{First: first, Last: last, Time: time.Hour, Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

var hw = net.HardwareAddr{0x52, 0x54, 0x12, 0x34, 0, 1}

// message is a request of machine hw; later modifiers win.
func message(t testing.TB, kind dhcpv4.MessageType, with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hw), dhcpv4.WithMessageType(kind)}, with...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func requested(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a)))
}

func chosen(server string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(server)))
}

func current(a string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(a)) }

// boot is what a reply gives a boot ROM.
type boot struct {
	Kind     firmware.Kind
	NextHop  string // siaddr
	File     string // header
	Option66 string
	Option67 string
	Class    string // option 60
	Vendor   []byte // option 43
	UUID     bool   // option 97 is echoed
	IPXE     []byte // option 175
	To       string
	Frame    bool
	Sentence string
}

func bootOf(a dhcp.Answer) boot {
	r := a.Reply
	b := boot{
		Kind: a.Client.Kind, File: r.BootFileName,
		Option66: r.TFTPServerName(), Option67: r.BootFileNameOption(),
		Class: r.ClassIdentifier(), Vendor: r.Options.Get(dhcpv4.OptionVendorSpecificInformation),
		UUID: r.Options.Has(dhcpv4.OptionClientMachineIdentifier), IPXE: r.Options.Get(dhcpv4.GenericOptionCode(175)),
		To: a.To.Addr.String(), Frame: a.To.Frame, Sentence: a.Sentence,
	}
	if r.ServerIPAddr != nil {
		b.NextHop = r.ServerIPAddr.String()
	}
	return b
}

// asROM makes the capture of an iPXE look like a ROM without iPXE.
func asROM(m *dhcpv4.DHCPv4) {
	m.DeleteOption(dhcpv4.OptionUserClassInformation)
	m.DeleteOption(dhcpv4.GenericOptionCode(175))
}

// TestBootFirmware answers what real firmware sent (testdata/README): its
// discover, and its request with our address put in.
func TestBootFirmware(t *testing.T) {
	const uuid = "6a3c0a52-5a9d-4d3f-8a75-0123456789ab"
	script := func(mac string) string { return "http://192.168.122.1/boot/ipxe?mac=" + mac + "&uuid=" + uuid }
	const self, frame, everybody = "192.168.122.1", "192.168.122.100:68", "255.255.255.255:68"
	noProxy, thisFile := []byte{176, 1, 1}, []byte{6, 1, 8, 255}
	for _, test := range []struct {
		capture string
		change  func(*dhcpv4.DHCPv4)
		want    boot
	}{
		{"seabios-ipxe-rom", nil, boot{Kind: firmware.IPXE, NextHop: self, File: script("52:54:12:34:00:01"), IPXE: noProxy,
			Option66: self, Option67: script("52:54:12:34:00:01"), To: frame, Frame: true, Sentence: "gets 192.168.122.100 and its boot script"}},
		{"seabios-undionly", nil, boot{Kind: firmware.IPXE, NextHop: self, File: script("52:54:12:34:00:03"), IPXE: noProxy,
			Option66: self, Option67: script("52:54:12:34:00:03"), To: everybody, Sentence: "gets 192.168.122.100 and its boot script"}},
		{"seabios-ipxe-rom", asROM, boot{Kind: firmware.BIOS, NextHop: self, File: "undionly.kpxe", Class: "PXEClient", Vendor: thisFile, UUID: true,
			Option66: self, Option67: "undionly.kpxe", To: frame, Frame: true, Sentence: "gets 192.168.122.100 and the loader undionly.kpxe"}},
		{"ovmf-pxe", nil, boot{Kind: firmware.UEFI, NextHop: self, File: "snponly.efi", Class: "PXEClient", Vendor: thisFile, UUID: true,
			Option66: self, Option67: "snponly.efi", To: everybody, Sentence: "gets 192.168.122.100 and the loader snponly.efi"}},
		{"ovmf-http", nil, boot{Kind: firmware.UEFIHTTP, NextHop: self, File: "http://192.168.122.1/boot/file/snponly.efi", Class: "HTTPClient", UUID: true,
			Option67: "http://192.168.122.1/boot/file/snponly.efi", To: everybody, Sentence: "gets 192.168.122.100 and the loader snponly.efi"}},
		{"ovmf-snponly", nil, boot{Kind: firmware.IPXE, NextHop: self, File: script("52:54:12:34:00:02"), IPXE: noProxy,
			Option66: self, Option67: script("52:54:12:34:00:02"), To: frame, Frame: true, Sentence: "gets 192.168.122.100 and its boot script"}},
		{"ovmf-pxe", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptClientArch(iana.EFI_ARM64))
		}, boot{Kind: firmware.Unknown, To: everybody, Sentence: "gets 192.168.122.100; nothing to boot for 64-bit ARM UEFI (architecture 11): only x86-64 is booted"}},
		{"ovmf-pxe", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptClientArch(iana.EFI_IA32))
		}, boot{Kind: firmware.Unknown, To: everybody, Sentence: "gets 192.168.122.100; nothing to boot for 32-bit UEFI (architecture 6): only x86-64 is booted"}},
		{"udhcpc", nil, boot{Kind: firmware.Plain, To: frame, Frame: true, Sentence: "gets 192.168.122.100"}},
		{"dhclient", nil, boot{Kind: firmware.Plain, To: frame, Frame: true, Sentence: "gets 192.168.122.100"}},
	} {
		t.Run(test.capture, func(t *testing.T) {
			now := start
			leases := table(t, 3, &now)
			discover, request := captured(t, test.capture)
			if test.change != nil {
				test.change(discover)
				test.change(request)
			}
			offer := network(leases).Answer(discover)
			if offer.Reply.MessageType() != dhcpv4.MessageTypeOffer || offer.Durable || offer.Event {
				t.Errorf("discover: answer %s, durable %v, event %v; want an offer, false, false", offer.Reply.MessageType(), offer.Durable, offer.Event)
			}
			requested("192.168.122.100")(request)
			ack := network(leases).Answer(request)
			if ack.Reply.MessageType() != dhcpv4.MessageTypeAck || !ack.Durable || !ack.Event {
				t.Errorf("request: answer %s, durable %v, event %v; want ACK, true, true", ack.Reply.MessageType(), ack.Durable, ack.Event)
			}
			if diff := cmp.Diff(test.want, bootOf(ack), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(ack.Reply.ToBytes()) > 576 {
				t.Errorf("reply has %d bytes, more than every client must take", len(ack.Reply.ToBytes()))
			}
		})
	}
}

// TestLoader: a machine's own loader is named when all of it is there, in each
// protocol's form.
func TestLoader(t *testing.T) {
	const url = "http://192.168.122.1/boot/file/"
	for _, test := range []struct {
		name, capture string
		change        dhcpv4.Modifier
		files         string // of the boot directory
		file          string // in header and option 67
		says          string
	}{
		{"UEFI", "ovmf-pxe", nil, "shimx64.efi grubx64.efi", "shimx64.efi", "gets 192.168.122.100 and the loader shimx64.efi"},
		{"HTTP boot", "ovmf-http", nil, "shimx64.efi grubx64.efi", url + "shimx64.efi", "gets 192.168.122.100 and the loader shimx64.efi"},
		{"HTTP boot that does not ask for the name", "ovmf-http", func(m *dhcpv4.DHCPv4) { m.DeleteOption(dhcpv4.OptionParameterRequestList) },
			"shimx64.efi grubx64.efi", url + "shimx64.efi", "gets 192.168.122.100 and the loader shimx64.efi"},
		{"half of it", "ovmf-pxe", nil, "shimx64.efi snponly.efi", "", "gets 192.168.122.100; nothing to boot, because the boot directory has no grubx64.efi"},
		{"BIOS has none", "seabios-ipxe-rom", asROM, "undionly.kpxe", "undionly.kpxe", "gets 192.168.122.100 and the loader undionly.kpxe"},
		{"iPXE is there already", "ovmf-snponly", nil, "", "http://192.168.122.1/boot/ipxe?mac=52:54:12:34:00:02&uuid=6a3c0a52-5a9d-4d3f-8a75-0123456789ab",
			"gets 192.168.122.100 and its boot script"},
	} {
		t.Run(test.name, func(t *testing.T) {
			now := start
			n := network(table(t, 1, &now))
			n.HasFile = func(name string) bool { return slices.Contains(strings.Fields(test.files), name) }
			n.Loader = func(f dhcp.Firmware) firmware.Loader {
				if !strings.HasPrefix(f.MAC, "52:54:12:34:00:") || f.Link != n.Self || !f.Last || f.Transaction == [4]byte{} {
					t.Errorf("asked for %+v", f)
				}
				return firmware.LoaderGRUB
			}
			_, request := captured(t, test.capture)
			requested("192.168.122.100")(request)
			if test.change != nil {
				test.change(request)
			}
			got := bootOf(n.Answer(request))
			if got.File != test.file || got.Option67 != test.file || got.Sentence != test.says {
				t.Errorf("file %q, option 67 %q, sentence %q; want %q twice, %q", got.File, got.Option67, got.Sentence, test.file, test.says)
			}
		})
	}
}

func captured(t testing.TB, name string) (discover, request *dhcpv4.DHCPv4) {
	t.Helper()
	packets, err := pcap.Payloads("../../testdata/" + name + ".pcap")
	if err != nil {
		t.Fatal(err)
	}
	if discover, err = dhcpv4.FromBytes(packets[0]); err != nil {
		t.Fatal(err)
	}
	if request, err = dhcpv4.FromBytes(packets[1]); err != nil {
		t.Fatal(err)
	}
	return discover, request
}

// step is one request and what must come of it.
type step struct {
	after time.Duration // since the step before
	req   *dhcpv4.DHCPv4
	reply dhcpv4.MessageType // MessageTypeNone: silence
	addr  string             // yiaddr
	to    string
	says  string // part of the sentence
}

func TestConversations(t *testing.T) {
	discover := func(with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 { return message(t, dhcpv4.MessageTypeDiscover, with...) }
	request := func(with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 { return message(t, dhcpv4.MessageTypeRequest, with...) }
	other := dhcpv4.WithHwAddr(net.HardwareAddr{0x52, 0x54, 0x12, 0x34, 0, 2})
	relayed := dhcpv4.WithGatewayIP(net.ParseIP("192.168.122.99"))
	const none, offer, ack, nak = dhcpv4.MessageTypeNone, dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak
	const a100, a101, everybody = "192.168.122.100", "192.168.122.101", "255.255.255.255:68"

	for name, steps := range map[string][]step{
		"the four messages": {
			{0, discover(), offer, a100, a100 + ":68", "is offered 192.168.122.100"},
			{0, request(requested(a100), chosen("192.168.122.1")), ack, a100, a100 + ":68", "gets 192.168.122.100"},
		},
		"broadcast flag": {
			{0, discover(dhcpv4.WithBroadcast(true)), offer, a100, everybody, ""},
			{0, request(requested(a100), chosen("192.168.122.1"), dhcpv4.WithBroadcast(true)), ack, a100, everybody, ""},
		},
		"through a relay": {
			{0, discover(relayed), offer, a100, "192.168.122.99:67", ""},
			{0, request(relayed, requested(a100), chosen("192.168.122.1")), ack, a100, "192.168.122.99:67", ""},
			{0, request(relayed, other, requested(a100)), nak, "", "192.168.122.99:67", "held by another machine"},
		},
		"relay of another network": {
			{0, discover(dhcpv4.WithGatewayIP(net.ParseIP("10.1.1.1"))), none, "", "", "the relay 10.1.1.1 is on a network"},
		},
		"chose another server": {
			{0, discover(), offer, a100, a100 + ":68", ""},
			{0, request(requested("192.168.122.77"), chosen("192.168.122.66")), none, "", "", "another DHCP server on this network, 192.168.122.66"},
			{0, discover(other), offer, a100, a100 + ":68", ""}, // its offer is free again
		},
		"reboot with a lease": {
			{0, request(requested(a101)), ack, a101, a101 + ":68", ""},
			{0, request(requested(a101)), ack, a101, a101 + ":68", ""},
			{0, discover(), offer, a101, a101 + ":68", ""},
		},
		"reboot in another network": {
			{0, request(requested("10.0.0.5")), nak, "", everybody, "10.0.0.5 is not in this network"},
			{0, request(current("10.0.0.5")), nak, "", everybody, "10.0.0.5 is not in this network"},
		},
		"an address that was never given here": {
			{0, request(requested("192.168.122.7")), none, "", "", "asks again for 192.168.122.7, which this server did not give it"},
			{0, request(current("192.168.122.7")), none, "", "", "asks again for 192.168.122.7"},
			{0, request(requested("192.168.122.7"), chosen("192.168.122.1")), nak, "", everybody, "not in the range"},
			{0, request(requested(a100)), ack, a100, a100 + ":68", ""},
			{0, request(requested("192.168.122.7")), nak, "", everybody, "not in the range"}, // we know better
		},
		"a left-over ciaddr": { // RFC 2131 table 5
			{0, discover(current("192.168.122.50")), offer, a100, a100 + ":68", "is offered"},
			{0, request(current("192.168.122.50"), requested(a100), chosen("192.168.122.1")), ack, a100, a100 + ":68", "gets"},
			{0, request(current("192.168.122.50"), requested(a100)), ack, a100, a100 + ":68", "gets"},
			{0, request(current(a100), chosen("192.168.122.1")), nak, "", everybody, "names no address"},
			{0, request(current(a100)), ack, a100, a100 + ":68", "gets"},
		},
		"renew and rebind": {
			{0, request(requested(a100), chosen("192.168.122.1")), ack, a100, a100 + ":68", ""},
			{30 * time.Minute, request(current(a100)), ack, a100, a100 + ":68", ""},
			{50 * time.Minute, request(other, requested(a100)), nak, "", everybody, "held by another machine"},
			{0, request(current(a100), dhcpv4.WithBroadcast(true)), ack, a100, a100 + ":68", ""},
		},
		"renew of a lease that ended and was given away": {
			{0, request(requested(a100)), ack, a100, a100 + ":68", ""},
			{0, request(requested(a101), other), ack, a101, a101 + ":68", ""},
			{61 * time.Minute, request(other, requested(a100)), ack, a100, a100 + ":68", ""},
			{0, request(current(a100)), nak, "", everybody, "held by another machine"},
			{0, discover(), offer, a101, a101 + ":68", ""},
		},
		"one machine, four client identifiers": {
			{0, request(requested(a100), dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("firmware")))), ack, a100, a100 + ":68", ""},
			{0, discover(dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("iPXE")))), offer, a100, a100 + ":68", ""},
			{0, discover(), offer, a100, a100 + ":68", ""},
			{0, discover(dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte("\xffinstalled")))), offer, a100, a100 + ":68", ""},
		},
		"release": {
			{0, request(requested(a100)), ack, a100, a100 + ":68", ""},
			{0, message(t, dhcpv4.MessageTypeRelease, other, current(a100)), none, "", "", "which it does not have"},
			{0, message(t, dhcpv4.MessageTypeRelease, current(a100)), none, "", "", "released 192.168.122.100"},
			{0, request(other, requested(a100)), ack, a100, a100 + ":68", ""},
		},
		"decline": {
			{0, request(requested(a100)), ack, a100, a100 + ":68", ""},
			{0, message(t, dhcpv4.MessageTypeDecline, other, requested(a100)), none, "", "", "which it does not have"},
			{0, message(t, dhcpv4.MessageTypeDecline, requested(a100)), none, "", "", "found another machine that uses 192.168.122.100"},
			{0, discover(), offer, a101, a101 + ":68", ""},
			{0, discover(other), offer, a100, a100 + ":68", "is offered 192.168.122.100; nothing else is free, though it is set aside because 52:54:12:34:00:01 found it in use"},
			{0, request(other, requested(a100), chosen("192.168.122.1")), ack, a100, a100 + ":68", ""},
		},
		"exhausted": {
			{0, request(requested(a100)), ack, a100, a100 + ":68", ""},
			{0, discover(other, requested(a100)), offer, a101, a101 + ":68", ""},
			{0, discover(dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 9})), none, "", "", "no free address in the range: of 2, 1 are leased and 1 on offer"},
		},
		"settings only": {
			{0, message(t, dhcpv4.MessageTypeInform, current("192.168.122.7")), ack, "", "192.168.122.7:68", "told the network's settings"},
			{0, message(t, dhcpv4.MessageTypeInform, current("10.0.0.7")), none, "", "", "another network"},
			{0, message(t, dhcpv4.MessageTypeInform), none, "", "", "without having an address"},
		},
		"nonsense": {
			{0, request(), nak, "", everybody, "names no address"},
			{0, message(t, dhcpv4.MessageTypeOffer), none, "", "", "not a message that a DHCP client sends"},
			{0, message(t, dhcpv4.MessageTypeDecline), none, "", "", "declines no address"},
			{0, discover(dhcpv4.WithHwAddr(make(net.HardwareAddr, 6))), none, "", "", "not the address of one machine"},
			{0, discover(dhcpv4.WithHwAddr(net.HardwareAddr{1, 0, 0, 0, 0, 1})), none, "", "", "not the address of one machine"},
			{0, discover(dhcpv4.WithHwAddr(make(net.HardwareAddr, 16))), none, "", "", "an address of 16 bytes is not Ethernet"},
			{0, discover(dhcpv4.WithHWType(iana.HWTypeInfiniband)), none, "", "", "hardware type"},
			{0, discover(func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply }), none, "", "", "not a request"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := start
			leases := table(t, 2, &now)
			for i, s := range steps {
				now = now.Add(s.after)
				check(t, i, s, network(leases).Answer(s.req))
			}
		})
	}
}

func check(t *testing.T, i int, s step, got dhcp.Answer) {
	t.Helper()
	if !strings.Contains(got.Sentence, s.says) {
		t.Errorf("step %d: sentence %q, want %q in it", i, got.Sentence, s.says)
	}
	if s.reply == dhcpv4.MessageTypeNone {
		if got.Reply != nil {
			t.Errorf("step %d: answer %s, want silence", i, got.Reply.Summary())
		}
		return
	}
	if got.Reply == nil {
		t.Fatalf("step %d: silence (%s), want %s", i, got.Sentence, s.reply)
	}
	type reply struct {
		Type            dhcpv4.MessageType
		Addr, To        string
		Durable         bool
		XID             dhcpv4.TransactionID
		HW              string
		Server, Gateway string
	}
	want := reply{s.reply, s.addr, s.to, s.reply == dhcpv4.MessageTypeAck && s.req.MessageType() == dhcpv4.MessageTypeRequest,
		s.req.TransactionID, s.req.ClientHWAddr.String(), "192.168.122.1", s.req.GatewayIPAddr.String()}
	have := reply{got.Reply.MessageType(), "", got.To.Addr.String(), got.Durable,
		got.Reply.TransactionID, got.Reply.ClientHWAddr.String(), got.Reply.ServerIdentifier().String(), got.Reply.GatewayIPAddr.String()}
	if got.Reply.YourIPAddr != nil {
		have.Addr = got.Reply.YourIPAddr.String()
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("step %d: (-want +got)\n%s", i, diff)
	}
}

// TestOptions: what every machine is told about the network.
func TestOptions(t *testing.T) {
	now := start
	info := dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 2, 'e', '1'})
	req := message(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(info), dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{1, 2, 3})))
	r := network(table(t, 1, &now)).Answer(req).Reply
	if got := net.IP(r.SubnetMask()).String(); got != "255.255.255.0" {
		t.Errorf("mask %s", got)
	}
	if got := r.Router(); len(got) != 1 || got[0].String() != "192.168.122.254" {
		t.Errorf("router %v", got)
	}
	if got := r.DNS(); len(got) != 1 || got[0].String() != "192.168.122.253" {
		t.Errorf("DNS %v", got)
	}
	got := []time.Duration{r.IPAddressLeaseTime(0), r.IPAddressRenewalTime(0), r.IPAddressRebindingTime(0)}
	if diff := cmp.Diff([]time.Duration{time.Hour, 30 * time.Minute, 52*time.Minute + 30*time.Second}, got); diff != "" {
		t.Errorf("times: (-want +got)\n%s", diff)
	}
	if !bytes.Equal(r.Options.Get(dhcpv4.OptionRelayAgentInformation), []byte{1, 2, 'e', '1'}) {
		t.Error("the relay's information is not returned")
	}
	if !bytes.Equal(r.Options.Get(dhcpv4.OptionClientIdentifier), []byte{1, 2, 3}) {
		t.Error("the client identifier is not returned")
	}

	bare := network(table(t, 1, &now))
	bare.Subnets[0].Settings = dhcp.Settings{}
	r = bare.Answer(req).Reply
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionNTPServers, dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU} {
		if r.Options.Has(code) {
			t.Errorf("option %s is sent, though there is none", code)
		}
	}
}

// FuzzAnswer: no packet makes it fail, and whatever it answers can be read,
// offers an address of the range, and goes to somebody of the network.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"seabios-ipxe-rom", "seabios-undionly", "ovmf-pxe", "ovmf-http", "ovmf-snponly", "udhcpc", "dhclient"} {
		discover, request := captured(f, name)
		f.Add(discover.ToBytes())
		f.Add(request.ToBytes())
	}
	f.Add(message(f, dhcpv4.MessageTypeRelease, current("192.168.122.100")).ToBytes())
	f.Add(message(f, dhcpv4.MessageTypeInform, current("192.168.122.100")).ToBytes())
	relayed := []dhcpv4.Modifier{dhcpv4.WithGatewayIP(net.ParseIP("10.1.0.1")),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 2, 'e', '1'}))}
	f.Add(message(f, dhcpv4.MessageTypeDiscover, relayed...).ToBytes())
	f.Add(message(f, dhcpv4.MessageTypeRequest, append(relayed, requested("10.1.0.50"))...).ToBytes())
	f.Add(message(f, dhcpv4.MessageTypeRequest, current("10.1.0.50")).ToBytes())
	f.Add(message(f, dhcpv4.MessageTypeDiscover, dhcpv4.WithOption(dhcpv4.OptClassIdentifier("edeploy looks for DHCP servers"))).ToBytes())
	f.Fuzz(func(t *testing.T, packet []byte) {
		req, err := dhcp.Parse(packet)
		if err != nil {
			return
		}
		now := start
		n := two(t, &now)
		for range 2 {
			a := n.Answer(req)
			if a.Sentence == "" {
				t.Fatal("no sentence")
			}
			if a.Reply == nil {
				continue
			}
			r, err := dhcpv4.FromBytes(a.Reply.ToBytes())
			if err != nil {
				t.Fatalf("own answer: %v", err)
			}
			switch y := r.YourIPAddr.String(); y {
			case "0.0.0.0", "192.168.122.100", "192.168.122.101", "10.1.0.50", "10.1.0.51", "10.1.0.7":
			default:
				t.Fatalf("address %s is not of the ranges", y)
			}
			if to := a.To.Addr.Addr(); to.String() != "255.255.255.255" && !n.Subnets[0].Prefix.Contains(to) && !n.Subnets[1].Prefix.Contains(to) {
				t.Fatalf("answer to %s", to)
			}
		}
	})
}
