package network_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"edeploy/agent/internal/network"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

// An address is no success: a quick DHCP server answers on the wrong card, and there
// is a web server with the address and the port of the right one, which is late, as
// behind a switch with spanning tree.
func TestServerDecides(t *testing.T) {
	for _, test := range []struct {
		name, wrong, pool string
	}{
		{"another network", "10.5.0.2/24", "--dhcp-range=10.5.0.50,10.5.0.60,255.255.255.0,1h"},
		{"the same network", "10.9.0.2/24", "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,1h"},
	} {
		t.Run(test.name, func(t *testing.T) {
			needs.Programs(t, "dnsmasq", "ip")
			if !alone(t) {
				return
			}
			wrong, right := cable(t, "eth0", "far0"), cable(t, "eth1", "far1")
			// The wrong network's router answers for all addresses.
			pid, out := otherEnd(t, wrong, test.wrong, append([]string{"sh", "-c", `ip addr add 10.9.0.1/32 dev lo; exec "$@"`, "sh"},
				dnsmasq(t, "far0", test.pool, "--dhcp-option=option:router,"+strings.TrimSuffix(test.wrong, "/24"))...)...)
			until(t, out, "DHCP, IP range")
			serve(t, pid, "text/html")
			late := dnsmasq(t, "far1", "--dhcp-range=10.9.0.70,10.9.0.80,255.255.255.0,1h")
			pid, _ = otherEnd(t, right, "10.9.0.1/24", append([]string{"sh", "-c", `sleep 13; exec "$@"`, "sh"}, late...)...)
			serve(t, pid, wire.ScriptType)

			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			begin := time.Now()
			if err := network.Up(ctx, args("all:dhcp", 3), slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took < 13*time.Second {
				t.Errorf("up after %s, before there was a server", took)
			}
			if got := addresses(t, "eth0"); len(got) != 1 {
				t.Errorf("eth0 has %v, want one address", got)
			}
			if got := addresses(t, "eth1"); len(got) != 1 || !strings.HasPrefix(got[0], "10.9.0.7") && !strings.HasPrefix(got[0], "10.9.0.80") {
				t.Errorf("eth1 has %v, want one of 10.9.0.70 to .80", got)
			}
			answer, err := http.Get("http://10.9.0.1:5353/")
			if err != nil {
				t.Fatalf("as every step does it, the server is not reached: %v", err)
			}
			answer.Body.Close()
			if kind := answer.Header.Get("Content-Type"); kind != wire.ScriptType {
				t.Errorf("as every step does it, another server is reached, which sends %q", kind)
			}
		})
	}
}

// far is the other end of a cable with a server on it, once script says so: "$@"
// is dnsmasq with a pool of addresses.
func far(t *testing.T, near, far, script, pool string, options ...string) (pid int) {
	t.Helper()
	server := dnsmasq(t, far, append(options, "--dhcp-range="+pool+",255.255.255.0,1h")...)
	pid, _ = otherEnd(t, cable(t, near, far), "10.9.0.1/24", append([]string{"sh", "-c", script, "sh"}, server...)...)
	serve(t, pid, wire.ScriptType)
	return pid
}

const first = "10.9.0.50,10.9.0.50"

// up has one machine look for its network in a hurry.
func up(t *testing.T, a wire.BootArgs, times int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	t.Cleanup(cancel) // leases are renewed until then
	return network.UpInAHurry(ctx, a, slog.New(slog.NewTextHandler(t.Output(), nil)), times)
}

// TestLateServer: a DHCP server may take two minutes, here two minutes of a 20th.
func TestLateServer(t *testing.T) {
	needs.Programs(t, "dnsmasq", "ip")
	if !alone(t) {
		return
	}
	far(t, "eth0", "far0", `sleep 6; exec "$@"`, first)
	if err := up(t, args("all:dhcp", 10), 20); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.9.0.50/24"}, addresses(t, "eth0")); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

// TestFlappingLink: a carrier that comes and goes delays the address and no more.
func TestFlappingLink(t *testing.T) {
	needs.Programs(t, "dnsmasq", "ip")
	if !alone(t) {
		return
	}
	far(t, "eth0", "far0", `for i in 1 2 3 4 5 6; do ip link set far0 down; sleep 0.3; ip link set far0 up; sleep 0.3; done; exec "$@"`, first)
	if err := up(t, args("all:dhcp", 10), 4); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"10.9.0.50/24"}, addresses(t, "eth0")); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

// TestMTU: what the lease says is set, an absurd one is not.
func TestMTU(t *testing.T) {
	for option, want := range map[string]int{"9000": 9000, "65535": 1500, "68": 1500} {
		t.Run(option, func(t *testing.T) {
			needs.Programs(t, "dnsmasq", "ip")
			if !alone(t) {
				return
			}
			far(t, "eth0", "far0", `exec "$@"`, first, "--dhcp-option-force=option:mtu,"+option)
			if err := up(t, args("all:dhcp", 10), 1); err != nil {
				t.Fatal(err)
			}
			if link, err := netlink.LinkByName("eth0"); err != nil || link.Attrs().MTU != want {
				t.Errorf("MTU %d %v, want %d", link.Attrs().MTU, err, want)
			}
		})
	}
}

// TestBootCard: what is for the server goes by the card that the machine booted from
// when several lead there, though it is the slowest.
func TestBootCard(t *testing.T) {
	needs.Programs(t, "dnsmasq", "ip")
	if !alone(t) {
		return
	}
	far(t, "eth0", "far0", `exec "$@"`, first)
	far(t, "eth1", "far1", `sleep 5; exec "$@"`, "10.9.0.60,10.9.0.60")
	far(t, "eth2", "far2", `exec "$@"`, "10.9.0.70,10.9.0.70")
	boot, err := netlink.LinkByName("eth1")
	if err != nil {
		t.Fatal(err)
	}
	a := args("all:dhcp", 3)
	a.BootIF = "01-" + strings.ToUpper(strings.ReplaceAll(boot.Attrs().HardwareAddr.String(), ":", "-"))
	if err := up(t, a, 1); err != nil {
		t.Fatal(err)
	}
	if way, err := netlink.RouteGet(net.IPv4(10, 9, 0, 1)); err != nil || len(way) != 1 || way[0].LinkIndex != boot.Attrs().Index {
		t.Errorf("the way to the server: %v %v, want by eth1", way, err)
	}
	for card, want := range map[string]string{"eth0": "10.9.0.50/24", "eth2": "10.9.0.70/24"} {
		if diff := cmp.Diff([]string{want}, addresses(t, card)); diff != "" {
			t.Errorf("addresses of %s (-want +got):\n%s", card, diff)
		}
	}
}

// TestGateway: a static address reaches a server in another network by the gateway
// of the plan; without one a sentence says what to write.
func TestGateway(t *testing.T) {
	for _, test := range []struct{ name, plan, err string }{
		{"with", "eth0:10.8.0.5/24+10.8.0.1,other:none", ""},
		{"without", "eth0:10.8.0.5/24,other:none", "; 10.9.0.1 is in another network: IP= takes a gateway behind a +, such as 10.8.0.5/24+10.8.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			needs.Programs(t, "dnsmasq", "ip")
			if !alone(t) {
				return
			}
			// It answers ARP for the card's own address only, as routers do.
			router := append([]string{"sh", "-c", `echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore; ip addr add 10.9.0.1/32 dev lo; exec "$@"`, "sh"},
				dnsmasq(t, "far0", "--interface=lo")...)
			pid, out := otherEnd(t, cable(t, "eth0", "far0"), "10.8.0.1/24", router...)
			until(t, out, "started")
			serve(t, pid, wire.ScriptType)
			err := up(t, args(test.plan, 3600), 300) // an hour for the server is 12 s, as for the link
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.HasSuffix(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
		})
	}
}
