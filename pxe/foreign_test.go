package pxe_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"edeploy/integration/needs"
	"edeploy/pxe"
	"edeploy/server/api"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// TestForeign: while another DHCP server answers on the network, ours is quiet
// and names it.
func TestForeign(t *testing.T) {
	servers := []string{"dnsmasq", "dhcpd", "kea-dhcp4"}
	if !needs.Namespace(t, servers...) {
		return
	}
	l := newLAN(t)
	conf := onWire(t)
	conf.Interface, conf.Look = "br0", 2*time.Second
	const ours, theirs, everybody = "192.168.122.1", "192.168.122.2", "255.255.255.255:67"
	rom := l.rom(t)
	for _, name := range servers {
		t.Run(name, func(t *testing.T) {
			other := l.foreign(t, name)
			defer other.kill()
			events := make(chan api.Event, 10)
			conf.OnEvent = func(e api.Event) { events <- e }
			s, stop := run(t, conf)
			defer stop()
			want := fmt.Sprintf("DHCP stays quiet, because another DHCP server answers on br0: %s (%s).", theirs, hardware(t, l.other, "oth0"))
			if !strings.HasPrefix(s.Quiet(), want) {
				t.Errorf("quiet: %q, want %q", s.Quiet(), want)
			}
			if e := <-events; e.MAC != "" || e.Message != s.Quiet() {
				t.Errorf("event %+v, want the same", e)
			}
			offers := rom.ask(everybody, romMessage(t, dhcpv4.MessageTypeDiscover))
			if offers[theirs] == nil || offers[ours] != nil {
				t.Errorf("offers %v, want one of %s only", offers, theirs)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		s, stop := run(t, conf)
		defer stop()
		if s.Quiet() != "" {
			t.Errorf("quiet: %s", s.Quiet())
		}
		rom.ask(everybody, romMessage(t, dhcpv4.MessageTypeDiscover), ours)
	})
	t.Run("told not to look", func(t *testing.T) {
		defer l.foreign(t, "dnsmasq").kill()
		conf.Look = -1
		_, stop := run(t, conf)
		defer stop()
		rom.ask(everybody, romMessage(t, dhcpv4.MessageTypeDiscover), ours, theirs)
	})
}

// hardware is the Ethernet address of a device elsewhere.
func hardware(t *testing.T, n needs.Neighbour, device string) string {
	t.Helper()
	out, err := n.Command(t.Context(), "ip", "-o", "link", "show", device).CombinedOutput()
	_, rest, ok := strings.Cut(string(out), "link/ether ")
	if err != nil || !ok {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.Fields(rest)[0]
}

// TestTwoAppliances: of two on one wire, one answers and the other says that it
// does not, also when both are switched on together; when the first is gone, the
// other answers.
func TestTwoAppliances(t *testing.T) {
	if !needs.Namespace(t) {
		return
	}
	l := newLAN(t)
	const everybody = "255.255.255.255:67"
	rom := l.rom(t)
	one, two := onWire(t), onWire(t)
	needs.IP(t, "link", "add", "two0", "type", "veth", "peer", "name", "port2")
	needs.IP(t, "link", "set", "port2", "master", "br0", "up")
	needs.IP(t, "link", "set", "two0", "up")
	needs.IP(t, "address", "add", "192.168.122.3/24", "dev", "two0")
	one.Interface, two.Interface, two.Address = "br0", "two0", netip.MustParsePrefix("192.168.122.3/24")
	for _, delay := range []time.Duration{0, 700 * time.Millisecond, 3 * time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			one.Look, two.Look = 2*time.Second, 2*time.Second
			var servers [2]*pxe.Server
			started := make(chan struct{})
			go func() {
				defer close(started)
				servers[0], _ = run(t, one)
			}()
			time.Sleep(delay)
			servers[1], _ = run(t, two)
			<-started
			quiet := 0
			for _, s := range servers {
				if strings.Contains(s.Quiet(), "another DHCP server answers") {
					quiet++
				}
			}
			offers := rom.ask(everybody, romMessage(t, dhcpv4.MessageTypeDiscover))
			if quiet != 1 || len(offers) != 1 {
				t.Errorf("%d are quiet, and a machine gets %d offers: want 1 and 1\n%q\n%q", quiet, len(offers), servers[0].Quiet(), servers[1].Quiet())
			}
		})
	}
}
