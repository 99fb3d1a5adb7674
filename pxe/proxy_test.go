package pxe_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"edeploy/integration/needs"
	"edeploy/pxe"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"
)

// lan is one wire with three on it: br0 (192.168.122.1) in the test's
// namespace, oth0 (192.168.122.2) of another server, and cli0
// (52:54:12:34:00:10) of a machine.
type lan struct{ other, machine needs.Neighbour }

func newLAN(t *testing.T) lan {
	t.Helper()
	l := lan{needs.NewNeighbour(t), needs.NewNeighbour(t)}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "br0", "type", "bridge"},
		{"address", "add", "192.168.122.1/24", "dev", "br0"},
		{"link", "set", "br0", "up"},
		{"link", "add", "port0", "master", "br0", "type", "veth", "peer", "name", "oth0", "netns", l.other.PID},
		{"link", "add", "port1", "master", "br0", "type", "veth", "peer", "name", "cli0", "address", "52:54:12:34:00:10", "netns", l.machine.PID},
		{"link", "set", "port0", "up"},
		{"link", "set", "port1", "up"},
	} {
		needs.IP(t, args...)
	}
	l.other.Run(t, "ip", "address", "add", "192.168.122.2/24", "dev", "oth0")
	l.other.Run(t, "ip", "link", "set", "oth0", "up")
	l.machine.Run(t, "ip", "link", "set", "cli0", "up")
	return l
}

// foreign starts another DHCP server on oth0, which gives 192.168.122.50 to .60
// and names a boot file of its own.
func (l lan) foreign(t *testing.T, name string) *peer {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	switch name {
	case "dnsmasq":
		p := startIn(t, l.other, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-hosts", "--no-resolv", "--user=root",
			"--interface=oth0", "--bind-interfaces", "--no-ping", "--dhcp-leasefile="+filepath.Join(dir, "leases"),
			"--dhcp-range=192.168.122.50,192.168.122.60,255.255.255.0,1h", "--dhcp-boot=theirs.0", "--log-dhcp")
		p.expect("sockets bound exclusively to interface oth0")
		return p
	case "dhcpd":
		conf := file("conf", "authoritative;\ndefault-lease-time 3600;\nping-check off;\n"+
			"subnet 192.168.122.0 netmask 255.255.255.0 { range 192.168.122.50 192.168.122.60; filename \"theirs.0\"; next-server 192.168.122.2; }\n")
		p := startIn(t, l.other, "dhcpd", "-4", "-f", "-d", "--no-pid", "-cf", conf, "-lf", file("leases", ""), "oth0")
		p.expect("Server starting service.")
		return p
	case "kea-dhcp4":
		conf := file("conf", `{"Dhcp4": {"interfaces-config": {"interfaces": ["oth0"], "dhcp-socket-type": "raw"},
"lease-database": {"type": "memfile", "persist": false}, "valid-lifetime": 3600, "boot-file-name": "theirs.0", "next-server": "192.168.122.2",
"subnet4": [{"subnet": "192.168.122.0/24", "pools": [{"pool": "192.168.122.50 - 192.168.122.60"}]}],
"loggers": [{"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout", "flush": true}]}]}}`)
		p := startIn(t, l.other, "env", "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR="+dir, "kea-dhcp4", "-c", conf)
		p.expect("DHCP4_STARTED")
		return p
	}
	t.Fatalf("no server %s", name)
	return nil
}

// within calls f in a network namespace; sockets that it opens stay there.
func within(t *testing.T, n needs.Neighbour, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := os.Open("/proc/" + n.PID + "/ns/net")
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// rom is a boot ROM's DHCP client in the machine's namespace.
type rom struct {
	t    *testing.T
	conn *net.UDPConn
}

func (l lan) rom(t *testing.T) rom {
	t.Helper()
	var conn net.PacketConn
	within(t, l.machine, func() (err error) {
		conn, err = listenOn("cli0", "0.0.0.0:68")
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return rom{t, conn.(*net.UDPConn)}
}

// ask sends a request and answers the replies by server that come until all of
// the servers have answered, or, with none named, within a second.
func (r rom) ask(to string, m *dhcpv4.DHCPv4, servers ...string) map[string]*dhcpv4.DHCPv4 {
	r.t.Helper()
	m.SetBroadcast()
	if _, err := r.conn.WriteTo(m.ToBytes(), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
		r.t.Fatal(err)
	}
	wait := soon
	if len(servers) == 0 {
		wait = time.Second
	}
	replies, buf := map[string]*dhcpv4.DHCPv4{}, make([]byte, 1500)
	r.conn.SetReadDeadline(time.Now().Add(wait))
	for {
		n, err := r.conn.Read(buf)
		if err != nil && len(servers) == 0 {
			return replies
		}
		if err != nil {
			r.t.Fatalf("answers of %v only: %v", replies, err)
		}
		reply, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || reply.TransactionID != m.TransactionID {
			continue
		}
		replies[reply.ServerIdentifier().String()] = reply
		missing := 0
		for _, s := range servers {
			if replies[s] == nil {
				missing++
			}
		}
		if len(servers) > 0 && missing == 0 {
			return replies
		}
	}
}

func romMessage(t *testing.T, kind dhcpv4.MessageType, with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithMessageType(kind),
		dhcpv4.WithHwAddr(net.HardwareAddr{0x52, 0x54, 0x12, 0x34, 0, 0x10})}, with...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func asUEFI(d *dhcpv4.DHCPv4) {
	d.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003001"))
	d.UpdateOption(dhcpv4.OptClientArch(iana.EFI_BC))
}

// TestProxyBeside: machines get their address from the network's own server,
// whichever it is, and what they boot from here; what is none of ours hears
// nothing.
func TestProxyBeside(t *testing.T) {
	servers := []string{"dnsmasq", "dhcpd", "kea-dhcp4"}
	if !needs.Namespace(t, append(servers, "busybox")...) {
		return
	}
	l := newLAN(t)
	conf := onWire(t)
	conf.Mode, conf.Interface, conf.LeaseFile = pxe.ModeProxy, "br0", ""
	conf.RangeFirst, conf.RangeLast = netip.Addr{}, netip.Addr{}
	if err := os.WriteFile(filepath.Join(conf.BootDir, "snponly.efi"), make([]byte, 7000), 0o644); err != nil {
		t.Fatal(err)
	}
	s, _ := run(t, conf)
	const ours, theirs, everybody = "192.168.122.1", "192.168.122.2", "255.255.255.255:67"
	for _, name := range servers {
		t.Run(name, func(t *testing.T) {
			other := l.foreign(t, name)
			defer other.kill()
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, []byte(clientScript), 0o755); err != nil {
				t.Fatal(err)
			}
			c := startIn(t, l.machine, "busybox", "udhcpc", "-i", "cli0", "-f", "-n", "-q", "-t", "8", "-T", "1", "-s", script)
			c.expect("server=" + theirs)
			rom := l.rom(t)
			for _, test := range []struct {
				name, loader string
				size         int
				as           dhcpv4.Modifier
			}{
				{"BIOS", "undionly.kpxe", 6000, asROM},
				{"UEFI", "snponly.efi", 7000, asUEFI},
			} {
				offers := rom.ask(everybody, romMessage(t, dhcpv4.MessageTypeDiscover, test.as), ours, theirs)
				yours := netip.MustParseAddr(offers[theirs].YourIPAddr.String())
				if !offers[ours].YourIPAddr.IsUnspecified() || !netip.MustParsePrefix("192.168.122.48/28").Contains(yours) {
					t.Fatalf("%s: addresses %s of the proxy and %s of %s", test.name, offers[ours].YourIPAddr, yours, name)
				}
				rom.ask(everybody, romMessage(t, dhcpv4.MessageTypeRequest, test.as, wants(offers[theirs].YourIPAddr),
					dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(theirs)))), theirs)
				l.machine.Run(t, "ip", "address", "replace", yours.String()+"/24", "dev", "cli0")
				ack := rom.ask(ours+":4011", romMessage(t, dhcpv4.MessageTypeRequest, test.as, dhcpv4.WithClientIP(offers[theirs].YourIPAddr)), ours)[ours]
				for what, got := range map[string]string{"offer": offers[ours].BootFileName, "boot server": ack.BootFileName} {
					if got != test.loader {
						t.Errorf("%s: %s names %q, want %s", test.name, what, got, test.loader)
					}
				}
				l.machine.Run(t, "timeout", "10", "busybox", "tftp", "-g", "-r", test.loader, "-l", filepath.Join(t.TempDir(), "got"), ours)
				offers = rom.ask(everybody, romMessage(t, dhcpv4.MessageTypeDiscover, test.as, asIPXEClass), ours, theirs)
				if got, want := offers[ours].BootFileName, "http://192.168.122.1/boot/ipxe?mac=52:54:12:34:00:10"; got != want {
					t.Errorf("%s: iPXE is sent to %q, want %s", test.name, got, want)
				}
				l.machine.Run(t, "ip", "address", "flush", "dev", "cli0")
			}
			if extra := rom.ask(everybody, romMessage(t, dhcpv4.MessageTypeDiscover))[ours]; extra != nil {
				t.Errorf("a system gets %s", extra.Summary())
			}
		})
	}
	if got := scriptOf(t, s, "52:54:12:34:00:10"); !strings.Contains(got, "on hold") {
		t.Errorf("a machine that nobody knows boots:\n%s", got)
	}
}

func asIPXEClass(d *dhcpv4.DHCPv4) {
	d.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")))
}

// TestUnknown: a machine that nobody has said anything about is installed, waits,
// or is left alone; one that is known boots what the policy says.
func TestUnknown(t *testing.T) {
	const known, unknown = "02:00:00:00:00:01", "02:00:00:00:00:02"
	stranger := dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 2})
	for _, test := range []struct {
		mode   pxe.Mode
		say    pxe.Unknown
		policy wire.BootAction
		want   string // in the script of the machine that is not known
		silent bool
	}{
		{pxe.ModeDHCP, "", wire.BootInstall, "starts the agent (install)", false},
		{pxe.ModeProxy, "", wire.BootInstall, "is on hold, asking again every 10 seconds: it is not known here; edeployctl add " + unknown + " lets it be installed", false},
		{pxe.ModeDHCP, pxe.UnknownHold, wire.BootInstall, "is on hold", false},
		{pxe.ModeProxy, pxe.UnknownInstall, wire.BootInstall, "starts the agent (install)", false},
		{pxe.ModeDHCP, pxe.UnknownIgnore, wire.BootInstall, "booting its own disk", true},
		{pxe.ModeProxy, pxe.UnknownIgnore, wire.BootInstall, "booting its own disk", true},
		{pxe.ModeProxy, pxe.UnknownIgnore, wire.BootLocal, "booting its own disk", false}, // of a twin that is installed
	} {
		t.Run(fmt.Sprintf("%s, %s, %s", test.mode, test.say, test.policy), func(t *testing.T) {
			conf := loopback(t)
			conf.Mode, conf.Unknown, conf.Policy = test.mode, test.say, policy(test.policy)
			conf.Known = func(mac, uuid string) bool { return mac == known }
			s, _ := run(t, conf)
			if got := scriptOf(t, s, unknown); !strings.Contains(got, test.want) {
				t.Errorf("the unknown machine's script has no %q:\n%s", test.want, got)
			}
			if got := scriptOf(t, s, known); test.policy == wire.BootInstall && !strings.Contains(got, "starts the agent (install)") {
				t.Errorf("the known machine's script:\n%s", got)
			}
			// The known machine's offer shows that the other's request has been decided.
			var order []string
			for _, who := range []dhcpv4.Modifier{stranger, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 1})} {
				order = append(order, offered(t, s, who)...)
			}
			want := []string{unknown, known}
			if test.silent {
				want = want[1:]
			}
			if diff := cmp.Diff(want, order); diff != "" {
				t.Errorf("offers to (-want +got)\n%s", diff)
			}
		})
	}
}

// scriptOf is the boot script of a machine.
func scriptOf(t *testing.T, s *pxe.Server, mac string) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/boot/ipxe?mac="+mac, nil))
	return w.Body.String()
}

// listenOn opens a UDP socket on one device.
func listenOn(device, address string) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) }); e != nil {
			return e
		}
		return err
	}}
	return config.ListenPacket(context.Background(), "udp4", address)
}

// offered is who gets an offer within a moment.
func offered(t *testing.T, s *pxe.Server, who dhcpv4.Modifier) (macs []string) {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.DHCPAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(romMessage(t, dhcpv4.MessageTypeDiscover, asROM, who).ToBytes()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := conn.Read(buf); err == nil {
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		macs = append(macs, m.ClientHWAddr.String())
	}
	return macs
}
