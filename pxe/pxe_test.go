package pxe_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edeploy/pxe"
	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/pin/tftp/v3"
)

const soon = 20 * time.Second

// policy answers the same for every machine.
type policy wire.BootAction

func (p policy) BootAction(mac, uuid string) wire.BootAction { return wire.BootAction(p) }

// bootDir is a boot directory with small files.
func bootDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"vmlinuz": "the kernel", "initrd.pxe": "the initrd", "undionly.kpxe": strings.Repeat("loader", 1000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// loopback is a configuration for tests without a network device.
func loopback(t *testing.T) pxe.Config {
	return pxe.Config{
		Address:    netip.MustParsePrefix("127.0.0.1/8"),
		RangeFirst: netip.MustParseAddr("127.1.0.10"), RangeLast: netip.MustParseAddr("127.1.0.20"),
		LeaseFile: filepath.Join(t.TempDir(), "leases"), BootDir: bootDir(t),
		DHCPListen: netip.MustParseAddrPort("127.0.0.1:0"), TFTPListen: netip.MustParseAddrPort("127.0.0.1:0"),
		KernelArgs: "console=ttyS0", Args: wire.BootArgs{},
		Policy: policy(wire.BootInstall),
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// run runs a server until stop is called.
func run(t *testing.T, conf pxe.Config) (s *pxe.Server, stop func()) {
	t.Helper()
	s, err := pxe.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatalf("Run ended: %v", err)
	case <-time.After(soon):
		t.Fatal("not ready")
	}
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(soon):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// exchange sends a DHCP request and answers the reply; it may be called by any
// goroutine.
func exchange(t *testing.T, s *pxe.Server, kind dhcpv4.MessageType, with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	reply, err := ask(s, kind, with...)
	if err != nil {
		t.Error(err)
		return &dhcpv4.DHCPv4{Options: dhcpv4.Options{}}
	}
	return reply
}

func ask(s *pxe.Server, kind dhcpv4.MessageType, with ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.DHCPAddr()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 1})}, with...)...)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(m.ToBytes()); err != nil {
		return nil, err
	}
	buf := make([]byte, 1500)
	conn.SetReadDeadline(time.Now().Add(soon))
	n, err := conn.Read(buf)
	if err != nil {
		return nil, err
	}
	return dhcpv4.FromBytes(buf[:n])
}

func asROM(d *dhcpv4.DHCPv4) {
	d.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001"))
	d.UpdateOption(dhcpv4.OptClientArch(iana.INTEL_X86PC))
}

func asIPXE(d *dhcpv4.DHCPv4) {
	asROM(d)
	d.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")))
}

func wants(a net.IP) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(a)) }

// TestJourney is a legacy machine's way from its ROM to the agent's initrd.
func TestJourney(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf := loopback(t)
	conf.HTTPPort = listener.Addr().(*net.TCPAddr).Port
	events := make(chan api.Event, 100)
	conf.OnEvent = func(e api.Event) { events <- e }
	s, _ := run(t, conf)
	web := &http.Server{Handler: s.Handler()}
	go web.Serve(listener)
	t.Cleanup(func() { web.Close() })

	offer := exchange(t, s, dhcpv4.MessageTypeDiscover, asROM)
	ack := exchange(t, s, dhcpv4.MessageTypeRequest, asROM, wants(offer.YourIPAddr))
	if got := ack.YourIPAddr.String() + " " + ack.ServerIPAddr.String() + " " + ack.BootFileName; got != "127.1.0.10 127.0.0.1 undionly.kpxe" {
		t.Fatalf("the ROM gets %q", got)
	}
	if got := fetchTFTP(t, s, ack.BootFileName); got != strings.Repeat("loader", 1000) {
		t.Fatalf("the loader is %q", got)
	}
	ack = exchange(t, s, dhcpv4.MessageTypeRequest, asIPXE, wants(offer.YourIPAddr))
	script := fetch(t, ack.BootFileName)
	base := fmt.Sprintf("http://127.0.0.1:%d/boot/file/", conf.HTTPPort)
	args := fmt.Sprintf("initrd=initrd.pxe console=ttyS0 SERV=127.0.0.1 HTTP_PORT=%d ", conf.HTTPPort)
	const card = " BOOTIF=01-02-00-00-00-00-01 "
	if !strings.Contains(script, base+"vmlinuz?mac=02:00:00:00:00:01 "+args) || !strings.Contains(script, card) {
		t.Fatalf("script does not start %s with %s and %s:\n%s", base+"vmlinuz", args, card, script)
	}
	if got := fetch(t, base+"vmlinuz?mac=02:00:00:00:00:01") + ", " + fetch(t, base+"initrd.pxe?mac=02:00:00:00:00:01"); got != "the kernel, the initrd" {
		t.Errorf("kernel and initrd are %q", got)
	}

	var history []string
	for range 6 {
		select {
		case e := <-events:
			history = append(history, e.MAC+" "+e.Message)
		case <-time.After(soon):
			t.Fatalf("history ends after %q", history)
		}
	}
	want := []string{
		"02:00:00:00:00:01 bios: gets 127.1.0.10 and the loader undionly.kpxe",
		"02:00:00:00:00:01 ipxe: gets 127.1.0.10 and its boot script",
		"02:00:00:00:00:01 boots: install",
		"02:00:00:00:00:01 fetched vmlinuz, 10 bytes in 0.0 s",
		"02:00:00:00:00:01 fetched initrd.pxe, 10 bytes in 0.0 s",
		"02:00:00:00:00:01 the loader ipxe works, and is remembered",
	} // on loopback the TFTP client has none of the addresses that are leased
	if diff := cmp.Diff(want, history); diff != "" {
		t.Errorf("history: (-want +got)\n%s", diff)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v %s", url, resp.Status, err, body)
	}
	return string(body)
}

func fetchTFTP(t *testing.T, s *pxe.Server, name string) string {
	t.Helper()
	client, err := tftp.NewClient(s.TFTPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	from, err := client.Receive(name, "octet")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if _, err := from.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestRestart: a confirmed lease is in the file, and belongs to the same
// machine after the server came back.
func TestRestart(t *testing.T) {
	conf := loopback(t)
	s, stop := run(t, conf)
	ack := exchange(t, s, dhcpv4.MessageTypeRequest, wants(net.IPv4(127, 1, 0, 15)))
	if ack.MessageType() != dhcpv4.MessageTypeAck {
		t.Fatalf("answer %s", ack.Summary())
	}
	text, err := os.ReadFile(conf.LeaseFile)
	if err != nil || !strings.Contains(string(text), "127.1.0.15 02:00:00:00:00:01 ") {
		t.Fatalf("lease file: %v\n%s", err, text)
	}
	stop()

	s, _ = run(t, conf)
	other := dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 2})
	if r := exchange(t, s, dhcpv4.MessageTypeRequest, other, wants(net.IPv4(127, 1, 0, 15))); r.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("another machine gets %s", r.Summary())
	}
	if r := exchange(t, s, dhcpv4.MessageTypeDiscover); r.YourIPAddr.String() != "127.1.0.15" {
		t.Errorf("the same machine is offered %s", r.YourIPAddr)
	}
}

// TestBrokenLeaseFile: it does not prevent a start, and is named.
func TestBrokenLeaseFile(t *testing.T) {
	conf := loopback(t)
	if err := os.WriteFile(conf.LeaseFile, []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	events := make(chan api.Event, 10)
	conf.OnEvent = func(e api.Event) { events <- e }
	run(t, conf)
	select {
	case e := <-events:
		if !strings.Contains(e.Message, "leases line 1: 1 words") || !strings.Contains(e.Message, conf.LeaseFile+".broken") {
			t.Errorf("event %q", e.Message)
		}
	case <-time.After(soon):
		t.Error("nobody hears of it")
	}
}

// TestNoDescriptors: when the process has no file descriptor left, DHCP goes on,
// TFTP requests are not answered, and served as soon as there are some again.
func TestNoDescriptors(t *testing.T) {
	s, _ := run(t, loopback(t))
	machine, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.DHCPAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Close()
	loader, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer loader.Close()
	asks := func(within time.Duration) bool {
		loader.WriteToUDPAddrPort([]byte("\x00\x01undionly.kpxe\x00octet\x00"), s.TFTPAddr())
		loader.SetReadDeadline(time.Now().Add(within))
		buf := make([]byte, 1000)
		n, _, err := loader.ReadFrom(buf)
		if err == nil && (n != 516 || buf[1] != 3) {
			t.Errorf("TFTP answers %q", buf[:n])
		}
		return err == nil
	}

	restore := noDescriptors(t)
	request, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0, 0, 0, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	machine.Write(request.ToBytes())
	machine.SetReadDeadline(time.Now().Add(soon))
	if _, err := machine.Read(make([]byte, 1500)); err != nil {
		t.Errorf("DHCP does not answer: %v", err)
	}
	if asks(300 * time.Millisecond) {
		t.Error("TFTP answers without a descriptor: the test tests nothing")
	}
	restore()
	if !asks(soon) {
		t.Error("TFTP does not answer again")
	}
}

// noDescriptors lets the process have no further file descriptor, until
// restore is called; those that others close meanwhile do not count.
func noDescriptors(t *testing.T) (restore func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	restore = sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(restore)
	return restore
}

// TestBootStorm: many machines at once, on a real disk; every one gets an
// address of its own, and all of them are in the file.
func TestBootStorm(t *testing.T) {
	const machines = 250
	conf := loopback(t)
	conf.RangeLast = netip.MustParseAddr("127.1.1.255")
	conf.Log = nil
	s, _ := run(t, conf)
	addrs := make([]string, machines)
	var all sync.WaitGroup
	for i := range machines {
		all.Go(func() {
			hw := dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)})
			offer := exchange(t, s, dhcpv4.MessageTypeDiscover, hw)
			ack := exchange(t, s, dhcpv4.MessageTypeRequest, hw, wants(offer.YourIPAddr))
			if ack.MessageType() == dhcpv4.MessageTypeAck {
				addrs[i] = ack.YourIPAddr.String()
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(conf.LeaseFile)
	if err != nil {
		t.Fatal(err)
	}
	owner := map[string]int{}
	for i, a := range addrs {
		if other, taken := owner[a]; a == "" || taken {
			t.Fatalf("machine %d has address %q, as machine %d", i, a, other)
		}
		owner[a] = i
		if line := fmt.Sprintf("%s 02:00:00:01:%02x:%02x ", a, i>>8, i&255); !strings.Contains(string(text), line) {
			t.Errorf("lease file lacks %q", line)
		}
	}
}

// TestPortTaken: Run says which port is taken, and frees the other one.
func TestPortTaken(t *testing.T) {
	first, _ := run(t, loopback(t))
	conf := loopback(t)
	conf.DHCPListen = first.DHCPAddr()
	s, err := pxe.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "DHCP") || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("error %v, want one that says that the DHCP port is taken", err)
	}
}

// TestSection: the boot of a machine names the deployment that it belongs to.
func TestSection(t *testing.T) {
	const mac, uuid = "52:54:00:00:00:01", "6a3c0a52-5a9d-4d3f-8a75-0123456789ab"
	for _, test := range []struct {
		name, section, want string
		action              wire.BootAction
		asked               bool
	}{
		{"its own", "LAB", "LAB", wire.BootInstall, true},
		{"rescue", "LAB", "LAB", wire.BootRescue, true},
		{"the agent's default", "SERVER", "SERVER", wire.BootInstall, true},
		{"none", "", "RACK", wire.BootInstall, true},
		{"a name with a blank", "LAB 2", "RACK", wire.BootInstall, true},
		{"a name that iPXE would replace", "${net0/ip}", "RACK", wire.BootInstall, true},
		{"a machine that boots its disk", "LAB", "", wire.BootLocal, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf := loopback(t)
			conf.Policy, conf.Args = policy(test.action), wire.DefaultBootArgs()
			conf.Args.Section = "RACK"
			var asked []string
			conf.Section = func(mac, uuid string) string {
				asked = append(asked, mac+" "+uuid)
				return test.section
			}
			s, err := pxe.New(conf)
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/boot/ipxe?mac="+mac+"&uuid="+uuid, nil))
			if (len(asked) == 1 && asked[0] == mac+" "+uuid) != test.asked {
				t.Errorf("asked for %q", asked)
			}
			if !test.asked {
				return
			}
			_, line, found := strings.Cut(w.Body.String(), " initrd=initrd.pxe ")
			line, _, _ = strings.Cut(line, " ||")
			args, err := wire.ParseBootArgs(line)
			if err != nil || !found || args.Section != test.want {
				t.Errorf("the agent reads section %q of %q (%v), want %q", args.Section, line, err, test.want)
			}
		})
	}
}
