package pxe_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"edeploy/integration/needs"
	"edeploy/pxe"
)

// TestRelay: machines behind ISC's relay, which adds option 82, get addresses of
// their own network, renew them without the relay, and keep them over a
// restart; one has a reservation.
func TestRelay(t *testing.T) {
	if !needs.Namespace(t, "busybox", "dhcrelay") {
		return
	}
	far := needs.NewNeighbour(t)
	wire := newWire(t) // cli0 is the relay's
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"ip", "address", "add", "192.168.122.9/24", "dev", "cli0"},
		{"ip", "link", "add", "down0", "type", "veth", "peer", "name", "far0", "address", "52:54:12:34:00:20", "netns", far.PID},
		{"ip", "address", "add", "10.1.0.1/24", "dev", "down0"},
		{"ip", "link", "set", "down0", "up"},
		{"sysctl", "-qw", "net.ipv4.ip_forward=1"},
	} {
		wire.Run(t, args...)
	}
	far.Run(t, "ip", "link", "set", "far0", "up")
	needs.IP(t, "route", "add", "10.1.0.0/24", "via", "192.168.122.9")
	conf := onWire(t)
	conf.Subnets = []pxe.Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/24"), First: netip.MustParseAddr("10.1.0.50"), Last: netip.MustParseAddr("10.1.0.59"),
		LeaseTime: 2 * time.Hour, Settings: pxe.Settings{Router: netip.MustParseAddr("10.1.0.1"), DNS: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}}}
	conf.Hosts = map[string]pxe.Host{"52:54:12:34:00:21": {Address: netip.MustParseAddr("10.1.0.7")}}
	_, stop := run(t, conf)
	relay := wire.start(t, "dhcrelay", "-4", "-d", "-a", "--no-pid", "-iu", "cli0", "-id", "down0", "192.168.122.1")
	relay.expect("Sending on   Socket/fallback")

	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(clientScript), 0o755); err != nil {
		t.Fatal(err)
	}
	udhcpc := func(more ...string) *peer {
		return startIn(t, far, append([]string{"busybox", "udhcpc", "-i", "far0", "-f", "-n", "-t", "8", "-T", "1", "-s", script}, more...)...)
	}
	c := udhcpc()
	c.expect("bound ip=10.1.0.50 mask=24 router=10.1.0.1 dns=10.1.0.2 server=192.168.122.1 lease=7200")
	far.Run(t, "ip", "route", "add", "default", "via", "10.1.0.1")
	c.signal(syscall.SIGUSR1) // RENEWING: to the server itself
	c.expect("renew ip=10.1.0.50")
	far.Run(t, "ip", "route", "add", "default", "via", "10.1.0.1") // the script has flushed it
	c.signal(syscall.SIGUSR2)
	c.expect("deconfig")
	awaitLease(t, conf.LeaseFile+"-10.1.0.0-24", "10.1.0.50 52:54:12:34:00:20", "released")
	c.kill()
	stop()
	run(t, conf)
	udhcpc("-q").expect("bound ip=10.1.0.50")
	far.Run(t, "ip", "link", "set", "far0", "address", "52:54:12:34:00:21")
	udhcpc("-q").expect("bound ip=10.1.0.7")
}
