package dhcp_test

import (
	"net/netip"
	"testing"

	"edeploy/pxe/internal/dhcp"
	"edeploy/pxe/internal/firmware"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// TestProxy answers what real firmware sent, beside another server.
func TestProxy(t *testing.T) {
	const uuid = "6a3c0a52-5a9d-4d3f-8a75-0123456789ab"
	const self, everybody, back = "192.168.122.1", "255.255.255.255:68", "invalid AddrPort"
	script := "http://192.168.122.1/boot/ipxe?mac=52:54:12:34:00:01&uuid=" + uuid
	bios := boot{Kind: firmware.BIOS, NextHop: self, File: "undionly.kpxe", Class: "PXEClient", Vendor: []byte{6, 1, 8, 255}, UUID: true,
		Option66: self, Option67: "undionly.kpxe", To: everybody, Sentence: "is offered the loader undionly.kpxe"}
	uefi := boot{Kind: firmware.UEFI, NextHop: self, File: "snponly.efi", Class: "PXEClient", UUID: true,
		Option66: self, Option67: "snponly.efi", To: everybody, Sentence: "is offered the loader snponly.efi"}
	asked := uefi
	asked.To, asked.Sentence = back, "gets the loader snponly.efi"
	chose := asked
	chose.Vendor = []byte{71, 4, 0, 0, 0, 0, 255}
	for _, test := range []struct {
		name, capture string
		request       bool
		bootServer    bool
		change        dhcpv4.Modifier
		want          *boot // nil: silence
		says          string
	}{
		{"BIOS", "seabios-ipxe-rom", false, false, asROM, &bios, ""},
		{"iPXE", "seabios-ipxe-rom", false, false, nil, &boot{Kind: firmware.IPXE, NextHop: self, File: script, Class: "PXEClient", IPXE: []byte{1, 1, 1},
			Option66: self, Option67: script, To: everybody, Sentence: "is offered its boot script"}, ""},
		{"UEFI", "ovmf-pxe", false, false, nil, &uefi, ""},
		{"UEFI over HTTP", "ovmf-http", false, false, nil, &boot{Kind: firmware.UEFIHTTP, NextHop: self, File: "http://192.168.122.1/boot/file/snponly.efi",
			Class: "HTTPClient", UUID: true, Option67: "http://192.168.122.1/boot/file/snponly.efi", To: everybody, Sentence: "is offered the loader snponly.efi"}, ""},
		{"boot server asked", "ovmf-pxe", true, true, current("192.168.122.50"), &asked, ""},
		{"boot server asked by INFORM", "ovmf-pxe", true, true, func(m *dhcpv4.DHCPv4) {
			current("192.168.122.50")(m)
			m.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeInform))
		}, &asked, ""},
		{"boot server chosen", "ovmf-pxe", true, true, func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{0, 8, 1, 1, 71, 4, 0, 0, 0, 0, 255}))
		}, &chose, ""},
		{"boot server chosen, cut off", "ovmf-pxe", true, true, func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{71, 4, 0}))
		}, &asked, ""},
		{"the other server's request", "ovmf-pxe", true, false, nil, nil, ""},
		{"a discover to the boot server", "ovmf-pxe", false, true, nil, nil, ""},
		{"a system", "dhclient", false, false, nil, nil, ""},
		{"a system's request", "udhcpc", true, false, nil, nil, ""},
		{"ARM", "ovmf-pxe", false, false, func(m *dhcpv4.DHCPv4) { m.UpdateOption(dhcpv4.OptClientArch(iana.EFI_ARM64)) }, nil,
			"nothing to boot for 64-bit ARM UEFI (architecture 11): only x86-64 is booted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, request := captured(t, test.capture)
			if test.request {
				req = request
			}
			if test.change != nil {
				test.change(req)
			}
			a := network(nil).Proxy(req, test.bootServer)
			if test.want == nil {
				if a.Reply != nil || a.Sentence != test.says {
					t.Errorf("answer %v, sentence %q; want silence and %q", a.Reply, a.Sentence, test.says)
				}
				return
			}
			if a.Reply == nil {
				t.Fatalf("silence: %s", a.Sentence)
			}
			if diff := cmp.Diff(*test.want, bootOf(a), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if a.Reply.YourIPAddr != nil || a.Durable || a.Reply.ServerIdentifier().String() != self {
				t.Errorf("answer %s: want no address, from %s", a.Reply.Summary(), self)
			}
		})
	}
}

// TestAlone: a machine that is to be left alone hears nothing.
func TestAlone(t *testing.T) {
	now := start
	n := network(table(t, 2, &now))
	n.Alone = func(mac, _ string, link netip.Addr) bool { return mac == "52:54:12:34:00:01" && link == n.Self }
	discover, _ := captured(t, "seabios-ipxe-rom")
	want := "ignored: it is not known here, and unknown machines are left alone"
	for name, a := range map[string]dhcp.Answer{"proxy": n.Proxy(discover, false), "server": n.Answer(discover)} {
		if a.Reply != nil || a.Sentence != want {
			t.Errorf("%s: answer %v, sentence %q", name, a.Reply, a.Sentence)
		}
	}
	discover.ClientHWAddr[5]++
	if n.Proxy(discover, false).Reply == nil || n.Answer(discover).Reply == nil {
		t.Error("another machine is not served")
	}
}

// FuzzProxy: no packet makes it fail, and whatever it answers can be read and
// gives nobody an address.
func FuzzProxy(f *testing.F) {
	for _, name := range []string{"seabios-ipxe-rom", "seabios-undionly", "ovmf-pxe", "ovmf-http", "ovmf-snponly", "dhclient"} {
		discover, request := captured(f, name)
		f.Add(discover.ToBytes(), false)
		f.Add(request.ToBytes(), true)
	}
	_, request := captured(f, "ovmf-pxe")
	request.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{71, 4, 0, 0, 0, 0, 255}))
	f.Add(request.ToBytes(), true)
	f.Fuzz(func(t *testing.T, packet []byte, bootServer bool) {
		req, err := dhcp.Parse(packet)
		if err != nil {
			return
		}
		a := network(nil).Proxy(req, bootServer)
		if a.Reply == nil {
			return
		}
		r, err := dhcpv4.FromBytes(a.Reply.ToBytes())
		if err != nil {
			t.Fatalf("own answer: %v", err)
		}
		if !r.YourIPAddr.IsUnspecified() || a.Client.Kind == firmware.Plain || a.Sentence == "" {
			t.Fatalf("%s gets %s (%q)", a.Client.Kind, r.Summary(), a.Sentence)
		}
	})
}
