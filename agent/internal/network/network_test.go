package network_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"

	"edeploy/agent/internal/network"
)

func static(address string, vlan int) network.Config {
	return network.Config{Method: network.Static, Address: netip.MustParsePrefix(address), VLAN: vlan}
}

var (
	dhcp = network.Config{Method: network.DHCP}
	none = network.Config{Method: network.None}
)

// The first four rows are the table of reference section 1.3.
func TestPlan(t *testing.T) {
	for _, test := range []struct {
		text       string
		eth0, eth1 network.Config
		ignored    []string
		err        string
	}{
		{text: "eth0:10.9.0.5/24@12,other:none", eth0: static("10.9.0.5/24", 12), eth1: none},
		{text: "other:none,eth0:dhcp", eth0: dhcp, eth1: none},
		{text: "all:none,eth0:dhcp", eth0: none, eth1: none},
		{text: "eth0:dhcp,other=none", eth0: dhcp, eth1: dhcp, ignored: []string{"other=none"}},
		{text: "", eth0: dhcp, eth1: dhcp},
		{text: "all:dhcp", eth0: dhcp, eth1: dhcp},
		{text: "other:dhcp,eth1:none,other:none", eth0: none, eth1: none},
		{text: "eth1:dhcp@7,other:none", eth0: none, eth1: network.Config{Method: network.DHCP, VLAN: 7}},
		{text: "eth0:fd00::5/64,eth1:none@4", eth0: static("fd00::5/64", 0), eth1: network.Config{Method: network.None, VLAN: 4}},
		{text: "eth1:10.0.0.1/8,eth1:none", eth0: dhcp, eth1: static("10.0.0.1/8", 0)},
		{text: "eth0:10.9.0.5/24+10.9.0.1@12,other:none", eth0: network.Config{Method: network.Static, Address: netip.MustParsePrefix("10.9.0.5/24"), Gateway: netip.MustParseAddr("10.9.0.1"), VLAN: 12}, eth1: none},
		{text: "all:dhcp@7", eth0: network.Config{Method: network.DHCP, VLAN: 7}, eth1: network.Config{Method: network.DHCP, VLAN: 7}},
		{text: "eth0:10.9.0.5/24+10.8.0.1", err: `gateway "10.8.0.1": want an address in the network of 10.9.0.5/24`},
		{text: "eth0:10.9.0.5/24+", err: `gateway ""`},
		{text: "eth0:static", err: `kernel parameter IP=eth0:static: entry "eth0:static": "static": want dhcp, none or an address with prefix length such as 10.9.0.5/24`},
		{text: "eth0:10.9.0.5", err: `entry "eth0:10.9.0.5"`},
		{text: "eth0:dhcp@0", err: `VLAN "0": want a number from 1 to 4094`},
		{text: "eth0:dhcp@", err: `VLAN ""`},
	} {
		t.Run(test.text, func(t *testing.T) {
			plan, err := network.ParsePlan(test.text)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := []network.Config{plan.For("eth0"), plan.For("eth1")}
			if diff := cmp.Diff([]network.Config{test.eth0, test.eth1}, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
				t.Errorf("eth0, eth1 (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.ignored, plan.Ignored); diff != "" {
				t.Errorf("ignored entries (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzPlan(f *testing.F) {
	f.Add("eth0:10.9.0.5/24@12,other:none")
	f.Add("eth0:10.9.0.5/24+10.9.0.1")
	f.Add("all:dhcp,,x:@,=:")
	f.Fuzz(func(t *testing.T, text string) {
		plan, err := network.ParsePlan(text)
		if err != nil {
			return
		}
		c := plan.For("eth0")
		if c.Method == network.Static != c.Address.IsValid() || c.Gateway.IsValid() && !c.Address.Contains(c.Gateway) || c.VLAN < 0 || c.VLAN > 4094 {
			t.Errorf("%q gives %+v", text, c)
		}
	})
}

func TestDecision(t *testing.T) {
	const s = time.Second
	silent := errors.New("no answer")
	type ports = []network.PortState
	for _, test := range []struct {
		name  string
		at    time.Duration
		ports ports
		wait  time.Duration
		err   string // when wait is 0
	}{
		{"all have addresses", 2 * s, ports{{Method: "dhcp", Address: true, Reached: true}, {Method: "none"}}, 0, ""},
		{"nothing wanted", 0, ports{{Method: "none"}}, 0, ""},
		{"no carrier yet", 8 * s, ports{{Method: "dhcp"}}, 92 * s, ""},
		{"no carrier at all", 100 * s, ports{{Method: "dhcp"}, {Method: "static"}}, 0, "no network after 100 s: eth0 has no carrier; eth1 has no carrier"},
		{"further carriers may come", 2 * s, ports{{Method: "dhcp", Address: true, Reached: true, Carrier: true, Started: s, Changed: s}, {Method: "dhcp"}}, 4 * s, ""},
		{"carriers were quiet", 6 * s, ports{{Method: "dhcp", Address: true, Reached: true, Carrier: true, Started: s, Changed: s}, {Method: "dhcp"}}, 0, ""},
		{"link-up time bounds carriers", 10 * s, ports{{Method: "dhcp", Address: true, Reached: true, Carrier: true, Started: 9 * s, Changed: 9 * s}, {Method: "dhcp"}}, 0, ""},
		{"further answer may come", 4 * s, ports{{Method: "static", Address: true, Reached: true, Carrier: true, Started: s, Changed: s}, {Method: "dhcp", Carrier: true, Started: s}}, 7 * s, ""},
		{"further answer is late", 11 * s, ports{{Method: "dhcp", Address: true, Reached: true, Carrier: true, Started: s, Changed: s}, {Method: "dhcp", Carrier: true, Started: s}}, 0, ""},
		{"the boot card asks the server", 4 * s, ports{{Method: "dhcp", Address: true, Reached: true, Carrier: true, Started: s, Changed: s}, {Method: "dhcp", Boot: true, Address: true, Carrier: true, Started: s}}, 7 * s, ""},
		{"the boot card leads elsewhere", 4 * s, ports{{Method: "dhcp", Address: true, Reached: true, Carrier: true, Started: s, Changed: s}, {Method: "dhcp", Boot: true, Address: true, Carrier: true, Started: s, Silence: silent}}, 0, ""},
		{"an address is no success", 20 * s, ports{{Method: "dhcp", Address: true, Carrier: true, Started: s}, {Method: "dhcp", Carrier: true, Started: s}}, 3580 * s, ""},
		{"all have addresses, and no server", 200 * s, ports{{Method: "dhcp", Address: true, Carrier: true, Started: s}}, 3400 * s, ""},
		{"no server at all", 3600 * s, ports{{Method: "dhcp", Address: true, Carrier: true, Started: s, Silence: errors.New("connection refused")}, {Method: "dhcp", Carrier: true, Started: s, Asked: 9, Err: silent}, {Method: "static"}}, 0,
			"no answer of the server 10.9.0.1:80 after 3600 s: eth0 has 10.9.0.5/24, and does not lead to the server: connection refused; eth1 has a carrier, DHCP was asked 9 times: no answer; eth2 has no carrier"},
		{"the only answer takes two minutes", 120 * s, ports{{Method: "dhcp", Carrier: true, Started: s}}, 190 * s, ""},
		{"no answer", 310 * s, ports{{Method: "dhcp", Carrier: true, Started: s, Asked: 6, Err: silent}}, 0, "no network after 310 s: eth0 has a carrier, DHCP was asked 6 times: no answer"},
		{"the link is gone again", 100 * s, ports{{Method: "dhcp", Started: s, Asked: 6, Err: silent}}, 0, "no network after 100 s: eth0 has no carrier"},
		{"the wrong VLAN", 3600 * s, ports{{Method: "static", VLAN: 13, Address: true, Carrier: true, Started: s, Silence: errors.New("no answer within 5 s")}, {Method: "dhcp", VLAN: 14, Carrier: true, Started: s, Asked: 9, Err: silent}}, 0,
			"no answer of the server 10.9.0.1:80 after 3600 s: VLAN 13 on eth0 has 10.9.0.5/24, and does not lead to the server: no answer within 5 s; VLAN 14 on eth1 has a carrier, DHCP was asked 9 times: no answer"},
		{"static failed at once", s, ports{{Method: "static", Carrier: true, Started: s, Failed: true, Err: errors.New("no VLANs")}}, 0, "no network after 1 s: eth0: no VLANs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wait, err := network.Decide(test.at, 10*s, test.ports...)
			if max(wait, 0) != test.wait {
				t.Fatalf("waits %v, want %v", wait, test.wait)
			}
			if test.wait > 0 {
				return
			}
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.err {
				t.Errorf("result %q, want %q", got, test.err)
			}
		})
	}
}

// The card that the machine booted from is tried first, as far as it has a cable
// and shall have an address, and not for long.
func TestStarts(t *testing.T) {
	const s = time.Second
	ready := network.PortState{Method: "dhcp", Carrier: true}
	boot := network.PortState{Method: "dhcp", Carrier: true, Boot: true}
	for _, test := range []struct {
		name  string
		at    time.Duration
		ports []network.PortState
		want  string
	}{
		{"nobody knows", 0, []network.PortState{ready, ready}, "eth0 eth1"},
		{"first", 0, []network.PortState{ready, boot, ready}, "eth1"},
		{"its carrier is late", s, []network.PortState{ready, {Method: "dhcp", Boot: true}}, ""},
		{"too late", 3 * s, []network.PortState{ready, {Method: "dhcp", Boot: true}}, "eth0"},
		{"it leads to the server", s, []network.PortState{ready, {Method: "dhcp", Carrier: true, Boot: true, Started: s / 2, Reached: true}}, "eth0"},
		{"it leads nowhere", 3 * s, []network.PortState{ready, {Method: "dhcp", Carrier: true, Boot: true, Started: s / 2}}, "eth0"},
		{"it failed", s, []network.PortState{ready, {Method: "static", Carrier: true, Boot: true, Started: s / 2, Failed: true}}, "eth0"},
		{"it shall have no address", 0, []network.PortState{ready, {Method: "none", Carrier: true, Boot: true}}, "eth0"},
	} {
		if got := strings.Join(network.Starts(test.at, test.ports...), " "); got != test.want {
			t.Errorf("%s: %q begin, want %q", test.name, got, test.want)
		}
	}
}

func TestAdvice(t *testing.T) {
	silent := errors.New("no answer within 5 s")
	routed := static("10.8.0.5/24", 0)
	routed.Gateway = netip.MustParseAddr("10.8.0.1")
	for _, test := range []struct {
		config network.Config
		server string
		err    error
		want   string
	}{
		{static("10.8.0.5/24", 0), "10.9.0.1:80", silent, "no answer within 5 s; 10.9.0.1 is in another network: IP= takes a gateway behind a +, such as 10.8.0.5/24+10.8.0.1"},
		{static("10.9.0.5/24", 0), "10.9.0.1:80", silent, "no answer within 5 s"},
		{routed, "10.9.0.1:80", silent, "no answer within 5 s"},
		{dhcp, "10.9.0.1:80", silent, "no answer within 5 s"},
		{static("10.8.0.5/24", 0), "server:80", silent, "no answer within 5 s"},
	} {
		if got := network.Advise(test.config, test.server, test.err); got.Error() != test.want || !errors.Is(got, silent) {
			t.Errorf("%v and %s: %v, want %s", test.config, test.server, got, test.want)
		}
	}
	if err := network.Advise(static("10.8.0.5/24", 0), "10.9.0.1:80", nil); err != nil {
		t.Error(err)
	}
}

func TestNextRenewal(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, test := range []struct {
		left, wait time.Duration
		ok         bool
	}{
		{time.Hour, 30 * time.Minute, true},
		{3 * time.Second, 1500 * time.Millisecond, true},
		{1500 * time.Millisecond, time.Second, true},
		{time.Second / 2, time.Second / 2, true},
		{0, 0, false},
		{-time.Minute, 0, false},
	} {
		wait, ok := network.NextRenewal(now, now.Add(test.left))
		if wait != test.wait || ok != test.ok {
			t.Errorf("%v left: wait %v %v, want %v %v", test.left, wait, ok, test.wait, test.ok)
		}
	}
}

func TestRoutes(t *testing.T) {
	_, lan, _ := net.ParseCIDR("192.168.7.0/24")
	for _, test := range []struct {
		name    string
		address string
		option  dhcpv4.Modifier
		want    []string
	}{
		{"none", "10.9.0.5/24", dhcpv4.WithOption(dhcpv4.OptDomainName("x")), nil},
		{"router", "10.9.0.5/24", dhcpv4.WithRouter(net.IPv4(10, 9, 0, 1), net.IPv4(10, 9, 0, 2)), []string{"0.0.0.0/0 via 10.9.0.1 metric 103"}},
		{"router outside", "10.9.0.5/32", dhcpv4.WithRouter(net.IPv4(10, 9, 0, 1)), []string{"0.0.0.0/0 via 10.9.0.1 metric 103 onlink"}},
		{"classless", "10.9.0.5/24", func(d *dhcpv4.DHCPv4) {
			d.UpdateOption(dhcpv4.OptRouter(net.IPv4(10, 9, 0, 1)))
			d.UpdateOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: lan, Router: net.IPv4(10, 9, 0, 9)}))
		}, []string{"192.168.7.0/24 via 10.9.0.9 metric 103"}},
		{"classless on link", "10.9.0.5/24", dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: lan, Router: net.IPv4zero})),
			[]string{"192.168.7.0/24 via  metric 103"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ack, err := dhcpv4.New(test.option)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range network.Routes(ack, netip.MustParsePrefix(test.address), 3, 103) {
				text := r.Dst.String() + " via " + strings.Trim(r.Gw.String(), "<nil>") + " metric 103"
				if r.Priority != 103 {
					t.Errorf("metric %d, want 103", r.Priority)
				}
				if r.Flags&int(netlink.FLAG_ONLINK) != 0 {
					text += " onlink"
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResolvConf(t *testing.T) {
	ip := netip.MustParseAddr
	got := network.ResolvConf(
		map[string][]netip.Addr{"eth1": {ip("10.0.1.1"), ip("10.0.0.1")}, "eth0": {ip("10.0.0.1"), ip("10.0.0.2")}, "eth2": {ip("10.2.0.1")}},
		map[string]string{"eth0": "rack.example", "eth1": "rack.example", "eth2": "x\nnameserver 6.6.6.6"})
	want := "search rack.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.1.1\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resolv.conf (-want +got):\n%s", diff)
	}
}
