package network_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"edeploy/agent/internal/network"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

const inside = "EDEPLOY_TEST_NAMESPACE"

// alone runs the calling test again in a process with network and mounts of
// its own; it answers true in there.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) != "" {
		// Up writes name servers there.
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	t.Parallel() // what is done in there is waiting, for the most part
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v", "-test.timeout=50s")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	needs.That(t, err == nil || len(out) > 0, "namespaces: %v", err)
	t.Logf("in a namespace:\n%s", out)
	if err != nil {
		t.Error(err)
	}
	return false
}

// cable makes a pair of devices, ours and the far end.
func cable(t *testing.T, ours, far string) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: ours}, PeerName: far}); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(far)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// otherEnd runs a program in a network namespace that holds the far end, with
// an address; it answers its process and the lines of its output.
func otherEnd(t *testing.T, far netlink.Link, address string, argv ...string) (pid int, lines *bufio.Scanner) {
	t.Helper()
	name := far.Attrs().Name
	script := fmt.Sprintf("read go; ip link set lo up; ip addr add %s dev %s; ip link set %s up; exec \"$@\" 2>&1", address, name, name)
	cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if err := netlink.LinkSetNsPid(far, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	io.WriteString(in, "go\n")
	return cmd.Process.Pid, bufio.NewScanner(out)
}

// until reads lines up to one that holds the text.
func until(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		t.Log(lines.Text())
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the other end ended before it said %q", text)
}

func addresses(t *testing.T, name string) []string {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(link, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, a := range list {
		found = append(found, a.IPNet.String())
	}
	return found
}

// args name the server that serve plays.
func args(ip string, linkUp int) wire.BootArgs {
	a := wire.DefaultBootArgs()
	a.IP, a.LinkUpTimeoutSeconds = ip, linkUp
	a.Serv, a.HTTPPort = "10.9.0.1", 5353
	return a
}

// serve answers HTTP requests in the namespace of a process: edeploy's server with
// the script of a refusal, another one with another content.
func serve(t *testing.T, pid int, kind string) {
	t.Helper()
	in(t, pid, func() {
		l, err := net.Listen("tcp4", ":5353")
		if err != nil {
			t.Fatal(err)
		}
		web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			if kind == wire.ScriptType {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
		})}
		t.Cleanup(func() { web.Close() })
		go web.Serve(l)
	})
}

// dnsmasq is the command line of a DHCP server.
func dnsmasq(t *testing.T, device string, more ...string) []string {
	t.Helper()
	return append([]string{needs.Program(t, "dnsmasq"), "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-hosts", "--no-resolv",
		"--pid-file=", "--no-ping", "--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases"), "--user=root", "--interface=" + device, "--log-dhcp"}, more...)
}

// Debian's dnsmasq serves one of three devices; one has a static address, one
// is not plugged in.
func TestUpWithDnsmasq(t *testing.T) {
	needs.Programs(t, "dnsmasq", "ip")
	if !alone(t) {
		return
	}
	served, fixed := cable(t, "eth0", "far0"), cable(t, "eth1", "far1")
	unplugged := cable(t, "eth2", "far2") // nobody sets the far end up: no carrier
	web, out := otherEnd(t, served, "10.9.0.1/24", dnsmasq(t, "far0", "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,1h", "--dhcp-option=option:router,10.9.0.254",
		"--dhcp-option=option:dns-server,10.9.0.53", "--dhcp-option=option:mtu,1400", "--domain=rack.example")...)
	until(t, out, "DHCP, IP range")
	serve(t, web, wire.ScriptType)
	pid, there := otherEnd(t, fixed, "10.8.0.1/24", "sh", "-c", "echo there; sleep 60")
	until(t, there, "there")
	if err := netlink.LinkSetNsPid(unplugged, pid); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	if err := network.Up(ctx, args("eth1:10.8.0.5/24,all:dhcp", 3), log); err != nil {
		t.Fatal(err)
	}
	if got := addresses(t, "eth0"); len(got) != 1 || !strings.HasPrefix(got[0], "10.9.0.5") && !strings.HasPrefix(got[0], "10.9.0.60") {
		t.Errorf("eth0 has %v, want one of 10.9.0.50 to .60", got)
	}
	if diff := cmp.Diff([]string{"10.8.0.5/24"}, addresses(t, "eth1")); diff != "" {
		t.Errorf("addresses of eth1 (-want +got):\n%s", diff)
	}
	if got := addresses(t, "eth2"); got != nil {
		t.Errorf("eth2 has %v, want none", got)
	}
	conf, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("search rack.example\nnameserver 10.9.0.53\n", string(conf)); diff != "" {
		t.Errorf("resolv.conf (-want +got):\n%s", diff)
	}
	routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 1))
	if err != nil || len(routes) != 1 || routes[0].Gw.String() != "10.9.0.254" {
		t.Errorf("default route %v %v, want one via 10.9.0.254", routes, err)
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil || link.Attrs().MTU != 1400 {
		t.Errorf("MTU of eth0: %v, want 1400", link.Attrs().MTU)
	}
	until(t, out, "vendor class: edeploy")
}

// A server with leases of four seconds sees one machine renew the same address.
func TestLeaseIsRenewed(t *testing.T) {
	if !alone(t) {
		return
	}
	pid, out := otherEnd(t, cable(t, "eth0", "far0"), "10.9.0.1/24", "sh", "-c", "echo there; sleep 60")
	until(t, out, "there")
	requests := make(chan *dhcpv4.DHCPv4, 10)
	var server *server4.Server
	var err error
	serve(t, pid, wire.ScriptType)
	in(t, pid, func() {
		server, err = server4.NewServer("far0", nil, answerer(t, requests))
	})
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve()
	defer server.Close()

	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	if err := network.Up(t.Context(), args("eth0:dhcp,other:none", 5), log); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.9.0.77/24"}, addresses(t, "eth0")); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	for n, wantOld := range []net.IP{net.IPv4zero, net.IPv4(10, 9, 0, 77), net.IPv4(10, 9, 0, 77)} {
		select {
		case m := <-requests:
			if !m.ClientIPAddr.Equal(wantOld) {
				t.Errorf("request %d of a client that has %v, want %v", n, m.ClientIPAddr, wantOld)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("request %d did not come", n)
		}
	}
}

// answerer gives everybody 10.9.0.77 for four seconds, and tells of requests.
func answerer(t *testing.T, requests chan<- *dhcpv4.DHCPv4) server4.Handler {
	return func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		answer := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			answer = dhcpv4.MessageTypeAck
			requests <- m
		}
		reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(answer), dhcpv4.WithYourIP(net.IPv4(10, 9, 0, 77)),
			dhcpv4.WithServerIP(net.IPv4(10, 9, 0, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 9, 0, 1))),
			dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(4))
		if err != nil {
			t.Error(err)
			return
		}
		conn.WriteTo(reply.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
	}
}

// in runs a function whose sockets belong to the namespace of a process.
func in(t *testing.T, pid int, do func()) {
	t.Helper()
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	other, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	do()
	if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	runtime.UnlockOSThread()
}

func TestUpWithoutDevices(t *testing.T) {
	if !alone(t) {
		return
	}
	err := network.Up(t.Context(), args("all:dhcp", 1), nil)
	if want := "no network device found: the machine has none, or this kernel has no driver for it"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestUpStopsWithContext(t *testing.T) {
	if !alone(t) {
		return
	}
	far := cable(t, "eth0", "far0")
	if err := netlink.LinkSetUp(far); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := network.Up(ctx, args("all:dhcp", 1), nil)
	if err == nil || !strings.Contains(err.Error(), "bring network up: context deadline exceeded") {
		t.Errorf("error %v, want that of the context", err)
	}
}

// VLAN devices get the address, not the port.
func TestVLAN(t *testing.T) {
	if !alone(t) {
		return
	}
	far := cable(t, "eth0", "far0")
	if err := netlink.LinkSetUp(far); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // there is no server
	defer cancel()
	err := network.Up(ctx, args("eth0:10.7.0.5/24@12,other:none", 1), nil)
	if err != nil && strings.Contains(err.Error(), "make VLAN device eth0.12: this kernel cannot do VLANs") {
		t.Log("this kernel has no VLANs; Up says so:", err)
		return
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if got := addresses(t, "eth0"); got != nil {
		t.Errorf("eth0 has %v, want none", got)
	}
	if diff := cmp.Diff([]string{"10.7.0.5/24"}, addresses(t, "eth0.12")); diff != "" {
		t.Errorf("addresses of eth0.12 (-want +got):\n%s", diff)
	}
	link, err := netlink.LinkByName("eth0.12")
	if err != nil || link.Attrs().Flags&net.FlagUp == 0 {
		t.Errorf("eth0.12 is not up: %v %v", link, err)
	}
}
