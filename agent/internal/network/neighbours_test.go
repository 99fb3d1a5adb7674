package network_test

import (
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"

	"edeploy/agent/internal/lldp"
	"edeploy/agent/internal/network"
	"edeploy/integration/needs"
)

// port is a switch's end of a cable.
type port struct {
	t *testing.T
	*packet.Conn
}

// switchPort opens the far end in the namespace of a process.
func switchPort(t *testing.T, pid int, name string) port {
	t.Helper()
	p := port{t: t}
	in(t, pid, func() {
		device, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if p.Conn, err = packet.Listen(device, packet.Datagram, lldp.Protocol, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { p.Close() })
	return p
}

// hears waits for what the machine says next.
func (p port) hears() lldp.PDU {
	p.t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	buffer := make([]byte, 2000)
	n, _, err := p.ReadFrom(buffer)
	if err != nil {
		p.t.Fatal(err)
	}
	pdu, err := lldp.Parse(buffer[:n])
	if err != nil {
		p.t.Fatal(err)
	}
	return pdu
}

// says sends the LLDPDU of a switch's port.
func (p port) says(port string, seconds time.Duration) {
	p.t.Helper()
	p.sends(lldp.Announcement(port, net.HardwareAddr{2, 0, 0, 0, 0, 1}, seconds*time.Second))
}

func (p port) sends(data []byte) {
	p.t.Helper()
	if _, err := p.WriteTo(data, &packet.Addr{HardwareAddr: lldp.NearestBridge}); err != nil {
		p.t.Fatal(err)
	}
}

// plug changes the switch's end of the cable.
func (p port) plug(pid int, name string, set func(netlink.Link) error) {
	p.t.Helper()
	in(p.t, pid, func() {
		link, err := netlink.LinkByName(name)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := set(link); err != nil {
			p.t.Fatal(err)
		}
	})
}

func portText(name, seconds string) string {
	return "Chassis ID TLV\n\tMAC: 02:00:00:00:00:01\nPort ID TLV\n\tIfname: " + name + "\nTime to Live TLV\n\t" + seconds + "\nSystem Name TLV\n\tedeploy-agent\n"
}

// setUp sets our end up, as the network step does.
func setUp(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

// heard waits until exactly that is known of eth0.
func heard(t *testing.T, n *network.Neighbours, want string) {
	t.Helper()
	var got string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		found, err := n.Heard(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got = found["eth0"]; got == want {
			return
		}
	}
	t.Fatalf("heard (-want +got):\n%s", cmp.Diff(want, got))
}

// A switch that answers an announcement is heard at once; it hears when nobody
// listens any more. The switch's tcpdump understands what the machine says.
func TestNeighbours(t *testing.T) {
	needs.Programs(t, "tcpdump", "ip")
	if !alone(t) {
		return
	}
	pid, dump := otherEnd(t, cable(t, "eth0", "far0"), "10.9.0.1/24", "tcpdump", "-l", "-v", "-i", "far0", "-c", "1", "ether", "proto", "0x88cc")
	until(t, dump, "listening on far0")
	far := switchPort(t, pid, "far0")
	neighbours := network.Listen(t.Context())
	defer neighbours.Close()
	setUp(t, "eth0")
	begin := time.Now()
	if ttl := far.hears().TTL(); ttl != 30*time.Second {
		t.Errorf("the announcement holds for %s", ttl)
	}
	until(t, dump, "Subtype Interface Name (5): eth0")
	until(t, dump, "System Name TLV (5), length 13: edeploy-agent")
	far.says("gi1/1", 120)
	found, err := neighbours.Heard(t.Context(), 10*time.Second)
	if took := time.Since(begin); err != nil || took > 5*time.Second {
		t.Errorf("heard after %s: %v", took, err)
	}
	if diff := cmp.Diff(map[string]string{"eth0": portText("gi1/1", "120")}, found); diff != "" {
		t.Errorf("heard (-want +got):\n%s", diff)
	}
	neighbours.Close()
	for far.hears().TTL() != 0 { // an announcement more may have been on its way
	}
}

// What neighbours say counts until they take it back, their time is over or the
// cable is pulled; what is no LLDPDU does not count, and there are four at most.
func TestNeighboursComeAndGo(t *testing.T) {
	if !alone(t) {
		return
	}
	pid, out := otherEnd(t, cable(t, "eth0", "far0"), "10.9.0.1/24", "sh", "-c", "echo up; sleep 60")
	until(t, out, "up")
	far := switchPort(t, pid, "far0")
	neighbours := network.Listen(t.Context())
	defer neighbours.Close()
	setUp(t, "eth0")
	far.hears()

	far.sends([]byte("nonsense"))
	far.sends(make([]byte, 1500))
	far.says("b", 60)
	far.says("a", 60)
	heard(t, neighbours, portText("a", "60")+portText("b", "60"))
	far.says("b", 0)
	far.says("a", 61)
	heard(t, neighbours, portText("a", "61"))
	far.says("a", 1)
	heard(t, neighbours, "")
	far.says("a", 60)
	heard(t, neighbours, portText("a", "60"))
	far.plug(pid, "far0", netlink.LinkSetDown)
	heard(t, neighbours, "")
	far.plug(pid, "far0", netlink.LinkSetUp)
	far = switchPort(t, pid, "far0")
	for _, name := range []string{"1", "2", "3", "4", "5", "6"} {
		far.says(name, 60)
	}
	heard(t, neighbours, portText("1", "60")+portText("2", "60")+portText("3", "60")+portText("4", "60"))
}

// A card without a word is waited for as long as is said, one without a cable
// not at all.
func TestNobodySpeaks(t *testing.T) {
	if !alone(t) {
		return
	}
	cable(t, "eth0", "far0") // nobody sets the far end up: no carrier
	setUp(t, "eth0")
	silent := func(patience, least time.Duration) {
		begin := time.Now()
		neighbours := network.Listen(t.Context())
		defer neighbours.Close()
		found, err := neighbours.Heard(t.Context(), patience)
		if took := time.Since(begin); len(found) > 0 || err != nil || took < least || took > least+5*time.Second {
			t.Errorf("%v after %s: %v, want nothing after %s", found, took, err, least)
		}
	}
	silent(time.Minute, 0)
	_, out := otherEnd(t, cable(t, "eth1", "far1"), "10.9.0.1/24", "sh", "-c", "echo up; sleep 60")
	until(t, out, "up")
	setUp(t, "eth1")
	silent(2*time.Second, 2*time.Second)
}
