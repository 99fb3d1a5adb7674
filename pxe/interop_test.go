package pxe_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edeploy/integration/needs"
	"edeploy/pxe"
	"edeploy/server/api"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestPeers lets real DHCP clients ask over a real (virtual) wire: the server
// is in one network namespace, the clients in another.
func TestPeers(t *testing.T) {
	if !needs.Namespace(t, "busybox", "dhclient", "rdisc6") {
		return
	}
	wire := newWire(t)
	conf := onWire(t)
	conf.Router = netip.MustParseAddr("192.168.122.254")
	conf.DNS = []netip.Addr{netip.MustParseAddr("192.168.122.253")}
	_, stop := run(t, conf)
	restart := func() {
		stop()
		_, stop = run(t, conf)
	}

	t.Run("udhcpc", func(t *testing.T) {
		c := wire.start(t, "busybox", "udhcpc", "-i", "cli0", "-f", "-n", "-t", "8", "-T", "1", "-s", wire.script)
		c.expect("bound ip=192.168.122.100 mask=24 router=192.168.122.254 dns=192.168.122.253 server=192.168.122.1 lease=3600")
		c.signal(syscall.SIGUSR1)
		c.expect("renew ip=192.168.122.100")
		c.signal(syscall.SIGUSR2)
		c.expect("deconfig")
		awaitLease(t, conf.LeaseFile, "192.168.122.100 52:54:12:34:00:10", "released")
	})
	t.Run("broadcast", func(t *testing.T) { // as a client that cannot take unicast yet
		c := wire.start(t, "busybox", "udhcpc", "-i", "cli0", "-f", "-n", "-q", "-B", "-t", "8", "-T", "1", "-s", wire.script)
		c.expect("bound ip=192.168.122.100")
	})
	t.Run("dhclient", func(t *testing.T) {
		args := []string{"dhclient", "-1", "-d", "-v", "-sf", "/bin/true", "-pf", filepath.Join(t.TempDir(), "pid"), "-lf", filepath.Join(t.TempDir(), "leases"), "cli0"}
		c := wire.start(t, args...)
		c.expect("DHCPACK of 192.168.122.100 from 192.168.122.1") // its client identifier is another one
		c.expect("bound to 192.168.122.100")
		c.kill()
		c = wire.start(t, args...) // with its lease file: INIT-REBOOT
		c.expect("DHCPREQUEST for 192.168.122.100")
		c.expect("bound to 192.168.122.100")
	})
	t.Run("after a restart", func(t *testing.T) {
		restart()
		c := wire.start(t, "busybox", "udhcpc", "-i", "cli0", "-f", "-n", "-q", "-r", "192.168.122.105", "-t", "8", "-T", "1", "-s", wire.script)
		c.expect("bound ip=192.168.122.100")
	})
	t.Run("TFTP", func(t *testing.T) {
		got := filepath.Join(t.TempDir(), "got")
		wire.Run(t, "busybox", "tftp", "-g", "-r", "undionly.kpxe", "-l", got, "192.168.122.1")
		text, err := os.ReadFile(got)
		if err != nil || len(text) != 6000 {
			t.Errorf("loader has %d bytes (%v), want 6000", len(text), err)
		}
	})
	t.Run("router solicitation", func(t *testing.T) {
		out, err := wire.Command(t.Context(), "rdisc6", "--single", "--retry", "10", "--wait", "1000", "cli0").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, line := range []string{"Router lifetime", "Stateful address conf.", "Stateful other conf."} {
			if !strings.Contains(string(out), line) {
				t.Errorf("rdisc6 does not say %q:\n%s", line, out)
			}
		}
		t.Logf("%s", out)
	})
	t.Run("an address in use", func(t *testing.T) {
		wire.Run(t, "ip", "link", "add", "link", "cli0", "name", "mac0", "address", "52:54:12:34:00:11", "type", "macvlan", "mode", "bridge")
		wire.Run(t, "ip", "link", "set", "mac0", "up")
		wire.Run(t, "ip", "address", "add", "192.168.122.101/24", "dev", "cli0") // by hand, and the next to be given
		c := wire.start(t, "busybox", "udhcpc", "-i", "mac0", "-f", "-n", "-q", "-t", "8", "-T", "1", "-s", "/bin/true")
		c.expect("lease of 192.168.122.102 obtained")
		awaitLease(t, conf.LeaseFile, "192.168.122.101 -", "declined")
		wire.Run(t, "ip", "link", "del", "mac0")
		wire.Run(t, "ip", "address", "del", "192.168.122.101/24", "dev", "cli0")
	})
	t.Run("other device", func(t *testing.T) {
		out, err := wire.Command(t.Context(), "busybox", "udhcpc", "-i", "cli1", "-f", "-n", "-q", "-t", "2", "-T", "1", "-s", "/bin/true").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "no lease") {
			t.Errorf("a machine of another network was answered: %v\n%s", err, out)
		}
		// Routed so that an answer would reach it.
		wire.Run(t, "ip", "address", "add", "192.168.122.150/32", "dev", "cli1")
		wire.Run(t, "ip", "route", "add", "192.168.122.1/32", "dev", "cli1", "src", "192.168.122.150")
		needs.IP(t, "route", "add", "192.168.122.150/32", "dev", "srv1", "src", "192.168.122.1")
		out, err = wire.Command(t.Context(), "timeout", "3", "busybox", "tftp", "-g", "-r", "undionly.kpxe", "-l", "/dev/null", "192.168.122.1").CombinedOutput()
		if err == nil {
			t.Errorf("a machine of another network was served files: %s", out)
		}
	})
	stop()
	t.Run("no device", func(t *testing.T) {
		conf.Interface = "srv9"
		s, err := pxe.New(conf)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "srv9") {
			t.Errorf("error %v, want one that names the device", err)
		}
	})
}

// onWire is the configuration of a server on srv0.
func onWire(t *testing.T) pxe.Config {
	conf := loopback(t)
	conf.Interface, conf.DHCPListen, conf.TFTPListen = "srv0", netip.AddrPort{}, netip.AddrPort{}
	conf.Look = 100 * time.Millisecond
	conf.Address = netip.MustParsePrefix("192.168.122.1/24")
	conf.RangeFirst, conf.RangeLast = netip.MustParseAddr("192.168.122.100"), netip.MustParseAddr("192.168.122.109")
	return conf
}

// TestSecondAddress: everything comes from the address asked and by the device
// asked, though it is not the device's first and another device has the same
// network.
func TestSecondAddress(t *testing.T) {
	if !needs.Namespace(t, "busybox", "tftp", "atftp") {
		return
	}
	wire := newWire(t)
	needs.IP(t, "address", "flush", "dev", "srv0", "scope", "global")
	needs.IP(t, "address", "flush", "dev", "srv1", "scope", "global")
	needs.IP(t, "address", "add", "192.168.122.77/24", "dev", "srv1")
	needs.IP(t, "address", "add", "192.168.122.5/24", "dev", "srv0")
	needs.IP(t, "address", "add", "192.168.122.1/24", "dev", "srv0")
	needs.IP(t, "route", "replace", "192.168.122.0/24", "dev", "srv1", "src", "192.168.122.77") // it comes first
	sent := map[string]func() []string{"srv0": listenIn(t, "srv0"), "srv1": listenIn(t, "srv1")}
	conf := onWire(t)
	conf.Look = -1 // a look has no source address
	run(t, conf)

	c := wire.start(t, "busybox", "udhcpc", "-i", "cli0", "-f", "-n", "-t", "8", "-T", "1", "-s", wire.script)
	c.expect("bound ip=192.168.122.100")
	for range 2 { // renewing, it hears its server only
		c.signal(syscall.SIGUSR1)
		c.expect("renew ip=192.168.122.100")
	}
	for _, args := range [][]string{
		{"busybox", "tftp", "-g", "-r", "undionly.kpxe", "-l", "got", "192.168.122.1"},
		{"tftp", "-m", "binary", "192.168.122.1", "-c", "get", "undionly.kpxe", "got"},
		{"atftp", "--get", "-r", "undionly.kpxe", "-l", "got", "192.168.122.1"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		cmd := wire.Command(ctx, args...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		cancel()
		if text, _ := os.ReadFile(filepath.Join(cmd.Dir, "got")); err != nil || len(text) != 6000 {
			t.Errorf("%v: %v, %d bytes, want 6000\n%s", args, err, len(text), out)
		}
	}
	for device, want := range map[string][]string{"srv0": {"192.168.122.1"}, "srv1": nil} {
		if diff := cmp.Diff(want, sent[device]()); diff != "" {
			t.Errorf("source addresses of what %s sent: (-want +got)\n%s", device, diff)
		}
	}
}

// listenIn listens in on a device; the function answers the source addresses
// of the UDP packets that went out by it.
func listenIn(t *testing.T, device string) func() []string {
	t.Helper()
	link, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}); err != nil {
		t.Fatal(err)
	}
	return func() (sources []string) {
		packet := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(fd, packet, 0)
			if err != nil {
				slices.Sort(sources)
				return slices.Compact(sources)
			}
			out := from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING
			if out && n >= 20 && packet[0]>>4 == 4 && packet[9] == unix.IPPROTO_UDP {
				sources = append(sources, netip.AddrFrom4([4]byte(packet[12:16])).String())
			}
		}
	}
}

// TestDeviceAnew: the device is removed and made anew under the same name; it
// is noticed, said, and served again.
func TestDeviceAnew(t *testing.T) {
	if !needs.Namespace(t, "busybox", "rdisc6") {
		return
	}
	wire := newWire(t)
	conf := onWire(t)
	events := make(chan api.Event, 100)
	conf.OnEvent = func(e api.Event) { events <- e }
	run(t, conf)
	boots := func() {
		t.Helper()
		c := wire.start(t, "busybox", "udhcpc", "-i", "cli0", "-f", "-n", "-q", "-t", "8", "-T", "1", "-s", wire.script)
		c.expect("bound ip=192.168.122.100")
		wire.Run(t, "timeout", "10", "busybox", "tftp", "-g", "-r", "undionly.kpxe", "-l", "/dev/null", "192.168.122.1")
		wire.Run(t, "rdisc6", "--single", "--retry", "10", "--wait", "1000", "cli0")
	}
	said := func(text string) {
		t.Helper()
		for deadline := time.After(soon); ; {
			select {
			case e := <-events:
				if e.MAC == "" && strings.Contains(e.Message, text) {
					return
				}
			case <-deadline:
				t.Fatalf("no event says %q", text)
			}
		}
	}
	boots()
	for range 2 {
		needs.IP(t, "link", "del", "srv0")
		said("no machine can boot: network device srv0 is gone")
		wire.cable(t)
		said("machines can boot again: the boot services listen on srv0")
		boots()
	}
	// So quickly that nobody sees it gone, and at first without its address.
	needs.IP(t, "link", "del", "srv0")
	needs.IP(t, "link", "add", "srv0", "type", "veth", "peer", "name", "spare")
	said("no machine can boot: network device srv0")
	said("no machine can boot yet: TFTP: listen udp4 192.168.122.1:69: bind: cannot assign requested address")
	needs.IP(t, "link", "del", "srv0")
	wire.cable(t)
	said("machines can boot again")
	boots()
}

// testWire is two cables between the server's namespace, which is the test's,
// and the clients': srv0 - cli0 (52:54:12:34:00:10) and srv1 - cli1.
type testWire struct {
	needs.Neighbour        // the clients' namespace
	script          string // of udhcpc: configures the device and says what it was told
}

// clientScript says what udhcpc was told.
const clientScript = `#!/bin/sh
case $1 in
bound|renew) ip -4 address flush dev $interface; ip address add $ip/$mask dev $interface;;
esac
echo "$1 ip=$ip mask=$mask router=$router dns=$dns server=$serverid lease=$lease"
`

func newWire(t *testing.T) *testWire {
	t.Helper()
	w := &testWire{Neighbour: needs.NewNeighbour(t), script: filepath.Join(t.TempDir(), "script")}
	if err := os.WriteFile(w.script, []byte(clientScript), 0o755); err != nil {
		t.Fatal(err)
	}
	w.cable(t)
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "srv1", "type", "veth", "peer", "name", "cli1", "netns", w.PID},
		{"address", "add", "192.168.123.1/24", "dev", "srv1"},
		{"link", "set", "srv1", "up"},
	} {
		needs.IP(t, args...)
	}
	w.Run(t, "ip", "link", "set", "cli1", "up")
	return w
}

// cable makes srv0 - cli0.
func (w *testWire) cable(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "address", "52:54:12:34:00:10", "netns", w.PID},
		{"address", "add", "192.168.122.1/24", "dev", "srv0"},
		{"link", "set", "srv0", "addrgenmode", "none"},
		{"address", "add", "fe80::1/64", "dev", "srv0", "nodad"},
		{"link", "set", "srv0", "up"},
	} {
		needs.IP(t, args...)
	}
	w.Run(t, "ip", "link", "set", "cli0", "addrgenmode", "none")
	w.Run(t, "ip", "address", "add", "fe80::10/64", "dev", "cli0", "nodad")
	w.Run(t, "ip", "link", "set", "cli0", "up")
}

// peer is a running client.
type peer struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string
	kill  func()

	mu   sync.Mutex
	said bytes.Buffer
}

func (w *testWire) start(t *testing.T, args ...string) *peer {
	t.Helper()
	return startIn(t, w.Neighbour, args...)
}

// startIn starts a program in a network namespace.
func startIn(t *testing.T, n needs.Neighbour, args ...string) *peer {
	t.Helper()
	return startCommand(t, n.Command(t.Context(), args...))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *peer {
	t.Helper()
	p := &peer{t: t, cmd: cmd, lines: make(chan string, 1000)}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.mu.Lock()
			fmt.Fprintln(&p.said, scanner.Text())
			p.mu.Unlock()
			p.lines <- scanner.Text()
		}
	}()
	p.kill = sync.OnceFunc(func() {
		p.cmd.Process.Kill()
		for range p.lines { // until its output ends
		}
		p.cmd.Wait()
	})
	t.Cleanup(p.kill)
	return p
}

// expect waits for a line that holds the text.
func (p *peer) expect(text string) {
	p.t.Helper()
	deadline := time.After(soon)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%v ended without %q; it said:\n%s", p.cmd.Args, text, p.output())
			}
			if strings.Contains(line, text) {
				return
			}
		case <-deadline:
			p.t.Fatalf("%v did not say %q; it said:\n%s", p.cmd.Args, text, p.output())
		}
	}
}

func (p *peer) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

func (p *peer) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// awaitLease waits until the lease file says it.
func awaitLease(t *testing.T, file, who, state string) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, who) && slices.Contains(strings.Fields(line), state) { // a change has a checksum behind it
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("lease file has no line %s ... %s:\n%s", who, state, text)
		}
	}
}
