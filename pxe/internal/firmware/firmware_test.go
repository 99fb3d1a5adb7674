package firmware_test

import (
	"testing"

	"edeploy/pxe/internal/firmware"
	"edeploy/pxe/internal/pcap"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func options(m *dhcpv4.DHCPv4) firmware.Options {
	return firmware.Options{
		VendorClass: m.Options.Get(dhcpv4.GenericOptionCode(60)),
		UserClass:   m.Options.Get(dhcpv4.GenericOptionCode(77)),
		Arch:        m.Options.Get(dhcpv4.GenericOptionCode(93)),
		UUID:        m.Options.Get(dhcpv4.GenericOptionCode(97)),
		IPXE:        m.Options.Get(dhcpv4.GenericOptionCode(175)),
	}
}

// TestCaptured identifies what real firmware sent; testdata/README says which.
func TestCaptured(t *testing.T) {
	const uuid = "6a3c0a52-5a9d-4d3f-8a75-0123456789ab"
	for _, test := range []struct {
		capture string
		want    firmware.Client
	}{
		{"seabios-ipxe-rom", firmware.Client{Kind: firmware.IPXE, Arch: 0, UUID: uuid}},
		{"seabios-undionly", firmware.Client{Kind: firmware.IPXE, Arch: 0, UUID: uuid}},
		{"ovmf-pxe", firmware.Client{Kind: firmware.UEFI, Arch: 7, UUID: uuid}},
		{"ovmf-http", firmware.Client{Kind: firmware.UEFIHTTP, Arch: 16, UUID: uuid}},
		{"ovmf-snponly", firmware.Client{Kind: firmware.IPXE, Arch: 7, UUID: uuid}},
		{"udhcpc", firmware.Client{Kind: firmware.Plain, Arch: -1}},
		{"dhclient", firmware.Client{Kind: firmware.Plain, Arch: -1}},
	} {
		t.Run(test.capture, func(t *testing.T) {
			packets, err := pcap.Payloads("../../testdata/" + test.capture + ".pcap")
			if err != nil {
				t.Fatal(err)
			}
			if len(packets) < 2 {
				t.Fatalf("capture holds %d packets, want a discover and a request", len(packets))
			}
			for _, packet := range packets {
				m, err := dhcpv4.FromBytes(packet)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, firmware.Identify(options(m))); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", m.MessageType(), diff)
				}
			}
		})
	}
}

func TestIdentify(t *testing.T) {
	withHTTP := []byte{0xb1, 2, 0, 0, 0, 0x13, 1, 1, 0x17, 1, 1}
	withoutHTTP := []byte{0xb1, 2, 0, 0, 0x17, 1, 1}
	for _, test := range []struct {
		name string
		in   firmware.Options
		want firmware.Kind
		arch int
	}{
		{"nothing", firmware.Options{}, firmware.Plain, -1},
		{"Windows", firmware.Options{VendorClass: []byte("MSFT 5.0")}, firmware.Plain, -1},
		{"legacy ROM", firmware.Options{VendorClass: []byte("PXEClient:Arch:00000:UNDI:002001"), Arch: []byte{0, 0}}, firmware.BIOS, 0},
		{"architecture only in the class", firmware.Options{VendorClass: []byte("PXEClient:Arch:00000:UNDI:002001")}, firmware.BIOS, 0},
		{"no architecture at all", firmware.Options{VendorClass: []byte("PXEClient")}, firmware.BIOS, -1},
		{"broken architecture", firmware.Options{VendorClass: []byte("PXEClient:Arch:x"), Arch: []byte{7}}, firmware.BIOS, -1},
		{"x86-64 by its old number", firmware.Options{VendorClass: []byte("PXEClient"), Arch: []byte{0, 9}}, firmware.UEFI, 9},
		{"first of two architectures", firmware.Options{VendorClass: []byte("PXEClient"), Arch: []byte{0, 7, 0, 0}}, firmware.UEFI, 7},
		{"UEFI of 32 bits", firmware.Options{VendorClass: []byte("PXEClient"), Arch: []byte{0, 6}}, firmware.Unknown, 6},
		{"ARM", firmware.Options{VendorClass: []byte("PXEClient"), Arch: []byte{0, 11}}, firmware.Unknown, 11},
		{"ARM over HTTP", firmware.Options{VendorClass: []byte("HTTPClient"), Arch: []byte{0, 19}}, firmware.Unknown, 19},
		{"iPXE on ARM", firmware.Options{UserClass: []byte("iPXE"), Arch: []byte{0, 11}}, firmware.Unknown, 11},
		{"HTTP boot", firmware.Options{VendorClass: []byte("HTTPClient:Arch:00016:UNDI:003001")}, firmware.UEFIHTTP, 16},
		{"HTTP boot of RISC-V", firmware.Options{VendorClass: []byte("HTTPClient"), Arch: []byte{0, 28}}, firmware.Unknown, 28},
		{"bare iPXE", firmware.Options{UserClass: []byte("iPXE")}, firmware.IPXE, -1},
		{"iPXE as RFC 3004 wants it", firmware.Options{UserClass: []byte("\x03lab\x04iPXE")}, firmware.IPXE, -1},
		{"iPXE with HTTP", firmware.Options{VendorClass: []byte("PXEClient"), UserClass: []byte("iPXE"), IPXE: withHTTP}, firmware.IPXE, -1},
		{"iPXE without HTTP gets ours", firmware.Options{VendorClass: []byte("PXEClient"), UserClass: []byte("iPXE"), IPXE: withoutHTTP}, firmware.BIOS, -1},
		{"truncated iPXE option", firmware.Options{VendorClass: []byte("PXEClient"), UserClass: []byte("iPXE"), IPXE: []byte{0x17, 9}}, firmware.BIOS, -1},
		{"padded iPXE option", firmware.Options{UserClass: []byte("iPXE"), IPXE: []byte{0, 0, 0x13, 1, 1, 255}}, firmware.IPXE, -1},
		{"gPXE is not iPXE", firmware.Options{VendorClass: []byte("PXEClient"), UserClass: []byte("gPXE"), Arch: []byte{0, 0}}, firmware.BIOS, 0},
		{"user class that lies about its length", firmware.Options{UserClass: []byte("\x20iPXE")}, firmware.Plain, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := firmware.Client{Kind: test.want, Arch: test.arch}
			if diff := cmp.Diff(want, firmware.Identify(test.in)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestArchName: what is refused has a name.
func TestArchName(t *testing.T) {
	for arch, want := range map[int]string{
		6:  "32-bit UEFI (architecture 6): only x86-64 is booted",
		11: "64-bit ARM UEFI (architecture 11): only x86-64 is booted",
		28: "64-bit RISC-V UEFI HTTP boot (architecture 28): only x86-64 is booted",
		99: "architecture 99",
	} {
		if got := (firmware.Client{Arch: arch}).ArchName(); got != want {
			t.Errorf("architecture %d is %q, want %q", arch, got, want)
		}
	}
}

// TestLoader: what the firmware is named, and what must be there beside it.
func TestLoader(t *testing.T) {
	for _, test := range []struct {
		loader firmware.Loader
		kind   firmware.Kind
		want   []string
	}{
		{firmware.LoaderIPXE, firmware.BIOS, []string{"undionly.kpxe"}},
		{firmware.LoaderIPXE, firmware.UEFI, []string{"snponly.efi"}},
		{firmware.LoaderIPXE, firmware.UEFIHTTP, []string{"snponly.efi"}},
		{firmware.LoaderGRUB, firmware.BIOS, []string{"undionly.kpxe"}},
		{firmware.LoaderGRUB, firmware.UEFI, []string{"shimx64.efi", "grubx64.efi"}},
		{firmware.LoaderGRUB, firmware.UEFIHTTP, []string{"shimx64.efi", "grubx64.efi"}},
		{firmware.LoaderIPXENative, firmware.BIOS, []string{"ipxe.pxe"}},
		{firmware.LoaderIPXENative, firmware.UEFI, []string{"ipxe.efi"}},
		{firmware.LoaderHTTP, firmware.UEFI, nil},
		{firmware.LoaderHTTP, firmware.UEFIHTTP, []string{"snponly.efi"}},
		{"", firmware.UEFI, []string{"snponly.efi"}},
		{firmware.LoaderGRUB, firmware.IPXE, nil},
		{firmware.LoaderGRUB, firmware.Unknown, nil},
		{firmware.LoaderIPXE, firmware.Plain, nil},
	} {
		if diff := cmp.Diff(test.want, test.loader.Files(test.kind)); diff != "" {
			t.Errorf("loader %q on %s (-want +got)\n%s", test.loader, test.kind, diff)
		}
	}
	for _, good := range []firmware.Loader{"", "ipxe", "grub"} {
		if err := good.Check(); err != nil {
			t.Error(err)
		}
	}
	if err := firmware.Loader("lilo").Check(); err == nil || err.Error() != `loader "lilo": want ipxe, ipxe-native or grub` {
		t.Errorf("lilo: %v", err)
	}
}

// TestLadder: what comes first is the operator's, the rest keeps its order.
func TestLadder(t *testing.T) {
	for _, test := range []struct {
		kind  firmware.Kind
		first firmware.Loader
		want  []firmware.Loader
	}{
		{firmware.BIOS, "", []firmware.Loader{"ipxe", "ipxe-native"}},
		{firmware.BIOS, "grub", []firmware.Loader{"ipxe", "ipxe-native"}},
		{firmware.UEFI, "ipxe", []firmware.Loader{"ipxe", "ipxe-native", "grub", "http"}},
		{firmware.UEFI, "grub", []firmware.Loader{"grub", "ipxe", "ipxe-native", "http"}},
		{firmware.UEFIHTTP, "ipxe-native", []firmware.Loader{"ipxe-native", "ipxe", "grub"}},
		{firmware.Plain, "ipxe", nil},
	} {
		if diff := cmp.Diff(test.want, firmware.Ladder(test.kind, test.first)); diff != "" {
			t.Errorf("%s, %q first (-want +got)\n%s", test.kind, test.first, diff)
		}
	}
}

func TestUUID(t *testing.T) {
	set := []byte{0, 0x52, 0x0a, 0x3c, 0x6a, 0x9d, 0x5a, 0x3f, 0x4d, 0x8a, 0x75, 1, 0x23, 0x45, 0x67, 0x89, 0xab}
	for _, test := range []struct {
		name string
		in   []byte
		want string
	}{
		{"set", set, "6a3c0a52-5a9d-4d3f-8a75-0123456789ab"},
		{"absent", nil, ""},
		{"zero", make([]byte, 17), ""},
		{"all ones", append([]byte{0}, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")...), ""},
		{"other type", append([]byte{1}, set[1:]...), ""},
		{"short", set[:16], ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := firmware.UUID(test.in); got != test.want {
				t.Errorf("UUID = %q, want %q", got, test.want)
			}
		})
	}
}

// FuzzIdentify: no bytes of the network make it fail.
func FuzzIdentify(f *testing.F) {
	f.Add([]byte("PXEClient:Arch:00007"), []byte("iPXE"), []byte{0, 7}, make([]byte, 17), []byte{0x13, 1, 1})
	f.Add([]byte("HTTPClient"), []byte("\x04iPXE\x09"), []byte{0}, []byte{0}, []byte{0x13, 200})
	f.Fuzz(func(t *testing.T, vendor, user, arch, uuid, ipxe []byte) {
		c := firmware.Identify(firmware.Options{VendorClass: vendor, UserClass: user, Arch: arch, UUID: uuid, IPXE: ipxe})
		if c.Kind == "" || len(c.UUID) != 0 && len(c.UUID) != 36 {
			t.Errorf("client %+v", c)
		}
	})
}
