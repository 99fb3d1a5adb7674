package probe_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"edeploy/integration/needs"
	"edeploy/pxe/internal/ether"
	"edeploy/pxe/internal/probe"
)

// TestAsk: an address that somebody has is found on the wire and behind a
// router; one that the machine itself has is not.
func TestAsk(t *testing.T) {
	if !needs.Namespace(t, "busybox") {
		return
	}
	n := needs.NewNeighbour(t)
	needs.IP(t, "link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "address", "52:54:12:34:00:10", "netns", n.PID)
	needs.IP(t, "address", "add", "10.0.0.1/24", "dev", "srv0")
	needs.IP(t, "link", "set", "srv0", "up")
	n.Run(t, "ip", "address", "add", "10.0.0.2/24", "dev", "cli0")
	n.Run(t, "ip", "link", "set", "cli0", "up")
	n.Run(t, "ip", "link", "set", "lo", "up")
	n.Run(t, "ip", "address", "add", "10.1.0.7/32", "dev", "lo")
	needs.IP(t, "route", "add", "10.1.0.0/24", "via", "10.0.0.2")
	n.Run(t, "busybox", "ping", "-c", "1", "-W", "10", "10.0.0.1") // the cable takes a moment
	p, err := probe.Open("srv0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx) }()
	theirs, other := ether.MAC{0x52, 0x54, 0x12, 0x34, 0, 0x10}, ether.MAC{2, 0, 0, 0, 0, 9}
	for _, test := range []struct {
		name string
		mac  ether.MAC
		addr string
		near bool
		want bool
	}{
		{"used", other, "10.0.0.2", true, true},
		{"free", other, "10.0.0.3", true, false},
		{"used by the machine itself", theirs, "10.0.0.2", true, false},
		{"used behind a router", other, "10.1.0.7", false, true},
		{"free behind a router", other, "10.1.0.8", false, false},
	} {
		used := make(chan bool, 1)
		if !p.Ask(test.mac, netip.MustParseAddr(test.addr), test.near, func(u bool) { used <- u }) {
			t.Errorf("%s: cannot ask", test.name)
			continue
		}
		select {
		case got := <-used:
			if got != test.want {
				t.Errorf("%s: used %v, want %v", test.name, got, test.want)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: no answer", test.name)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
