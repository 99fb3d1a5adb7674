package pxe

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/pxe/internal/firmware"
	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestLoaderNames: what operators can pin is what there is.
func TestLoaderNames(t *testing.T) {
	var names []string
	for _, l := range firmware.Ladder(firmware.UEFI, "") {
		names = append(names, string(l))
	}
	if diff := cmp.Diff(api.Loaders, names); diff != "" {
		t.Errorf("(-api +firmware)\n%s", diff)
	}
}

// rack is boot services and the machines in front of them.
type rack struct {
	*Server
	conf   Config
	known  map[string]bool
	pinned string
	action wire.BootAction
	now    time.Time
	boots  uint32
}

func newRack(t *testing.T) *rack {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"vmlinuz", "initrd.pxe", "undionly.kpxe", "ipxe.pxe", "snponly.efi", "ipxe.efi", "shimx64.efi", "grubx64.efi"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := &rack{known: map[string]bool{}, action: wire.BootInstall, now: time.Now()}
	r.conf = Config{Address: netip.MustParsePrefix("192.168.122.1/24"), RangeFirst: netip.MustParseAddr("192.168.122.100"), RangeLast: netip.MustParseAddr("192.168.122.200"),
		LeaseFile: filepath.Join(t.TempDir(), "leases"), LoaderFile: filepath.Join(t.TempDir(), "loaders"), BootDir: dir, Policy: r,
		Known:  func(mac, _ string) bool { return r.known[mac] },
		Pinned: func(string, string) string { return r.pinned }, now: func() time.Time { return r.now }}
	r.restart(t)
	return r
}

func (r *rack) BootAction(string, string) wire.BootAction { return r.action }

func (r *rack) restart(t *testing.T) {
	t.Helper()
	if r.Server != nil {
		if err := r.ladder.Save(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(r.conf)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
}

// client is a machine whose firmware hangs with every loader but one.
type client struct {
	mac   string
	kind  firmware.Kind
	works string // file
}

// boot switches it on; true: it has the agent.
func (r *rack) boot(t *testing.T, c client) bool {
	t.Helper()
	r.now = r.now.Add(2 * time.Minute)
	r.boots++
	file := r.exchange(t, c)
	if file == "" && c.kind == firmware.UEFI { // the next boot entry
		c.kind = firmware.UEFIHTTP
		file = r.exchange(t, c)
	}
	if u, err := url.Parse(file); err == nil && u.Scheme != "" {
		file = "http:" + u.Path[strings.LastIndex(u.Path, "/")+1:]
	}
	if file != c.works {
		return false
	}
	query := "?mac=" + c.mac
	script := r.get(t, map[bool]string{true: "/boot/grub", false: "/boot/ipxe"}[strings.Contains(file, "shim")]+query)
	if !strings.Contains(script, "initrd.pxe"+query) {
		t.Fatalf("script:\n%s", script)
	}
	r.get(t, "/boot/file/vmlinuz"+query)
	r.get(t, "/boot/file/initrd.pxe"+query)
	return true
}

func (r *rack) get(t *testing.T, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

// exchange is DISCOVER to ACK; it answers the boot file.
func (r *rack) exchange(t *testing.T, c client) string {
	t.Helper()
	class := map[firmware.Kind]string{firmware.BIOS: "PXEClient:Arch:00000", firmware.UEFI: "PXEClient:Arch:00007", firmware.UEFIHTTP: "HTTPClient:Arch:00016"}[c.kind]
	hw, err := net.ParseMAC(c.mac)
	if err != nil {
		t.Fatal(err)
	}
	discover, err := dhcpv4.NewDiscovery(hw, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{byte(r.boots), byte(r.boots >> 8), byte(len(class))}))
	if err != nil {
		t.Fatal(err)
	}
	offer := r.dhcp.Network.Answer(discover)
	if offer.Reply == nil {
		t.Fatalf("no offer: %s", offer.Sentence)
	}
	if offer.Reply.BootFileName == "" { // firmware takes no such offer
		return ""
	}
	request, err := dhcpv4.NewRequestFromOffer(offer.Reply, dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)))
	if err != nil {
		t.Fatal(err)
	}
	ack := r.dhcp.Network.Answer(request)
	if ack.Reply == nil || ack.Reply.BootFileName != offer.Reply.BootFileName {
		t.Fatalf("offered %s, then %s: %s", offer.Reply.BootFileName, ack.Reply, ack.Sentence)
	}
	return ack.Reply.BootFileName
}

// TestFirmwareThatHangs: a machine whose firmware hangs with each loader but one
// is at the agent in at most four boots, stays with that loader, also when the
// appliance was restarted, and so does the next machine like it from its first
// boot on.
func TestFirmwareThatHangs(t *testing.T) {
	for _, test := range []struct {
		kind  firmware.Kind
		works string
		boots int
		now   string // what operators see
	}{
		{firmware.BIOS, "undionly.kpxe", 1, "ipxe"},
		{firmware.BIOS, "ipxe.pxe", 2, "ipxe-native"},
		{firmware.UEFI, "snponly.efi", 1, "ipxe"},
		{firmware.UEFI, "ipxe.efi", 2, "ipxe-native"},
		{firmware.UEFI, "shimx64.efi", 3, "grub"},
		{firmware.UEFI, "http:snponly.efi", 4, "http"},
		{firmware.UEFIHTTP, "http:ipxe.efi", 2, "ipxe-native"},
		{firmware.UEFIHTTP, "http:shimx64.efi", 3, "grub"},
	} {
		t.Run(string(test.kind)+" "+test.works, func(t *testing.T) {
			r := newRack(t)
			first, second := client{"52:54:00:00:00:01", test.kind, test.works}, client{"52:54:00:00:00:02", test.kind, test.works}
			boots := 1
			for ; boots < 10 && !r.boot(t, first); boots++ {
			}
			if boots != test.boots {
				t.Errorf("it was at the agent at boot %d, want %d", boots, test.boots)
			}
			r.known[first.mac] = true
			r.restart(t)
			for _, c := range []client{first, second, first, first, second} {
				if !r.boot(t, c) {
					t.Errorf("%s did not reach the agent: %+v", c.mac, r.Loaders([]string{c.mac}))
				}
			}
			all := r.Loaders([]string{first.mac})
			if len(all) == 0 || all[0].Works != test.now || all[0].Next != test.now || all[0].Firmware != string(test.kind) {
				t.Errorf("operators see %+v", all)
			}
		})
	}
}

// TestPinned: the operator's word is the only one; when it cannot be, the ladder
// goes on. What is not in the boot directory is not offered.
func TestPinned(t *testing.T) {
	r := newRack(t)
	c := client{"52:54:00:00:00:01", firmware.UEFI, "none"}
	r.pinned = "grub"
	for range 3 {
		r.now = r.now.Add(time.Minute)
		if got := r.exchange(t, c); got != "shimx64.efi" {
			t.Errorf("pinned to grub, offered %s", got)
		}
	}
	c.kind = firmware.BIOS
	if got := r.exchange(t, c); got != "undionly.kpxe" {
		t.Errorf("BIOS, pinned to grub, is offered %s", got)
	}
	r.pinned, c.kind = "", firmware.UEFI
	for _, name := range []string{"ipxe.efi", "grubx64.efi"} {
		if err := os.Remove(filepath.Join(r.conf.BootDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"snponly.efi", "http:snponly.efi"} {
		c.works = want
		if !r.boot(t, c) {
			t.Errorf("%s is not offered: %+v", want, r.Loaders([]string{c.mac}))
		}
		if want == "snponly.efi" {
			c.works = ""
			r.boot(t, c)
			r.boot(t, c) // works no longer, twice
		}
	}
}

// TestLocalBoot: a machine that boots its own disk has reached all that it wants
// with its script.
func TestLocalBoot(t *testing.T) {
	r := newRack(t)
	r.action = wire.BootLocal
	c := client{"52:54:00:00:00:01", firmware.BIOS, "undionly.kpxe"}
	for n := range 4 {
		r.now, r.boots = r.now.Add(time.Minute), r.boots+1
		if got := r.exchange(t, c); got != c.works {
			t.Fatalf("boot %d: %s", n, got)
		}
		r.get(t, "/boot/ipxe?mac="+c.mac)
	}
}
