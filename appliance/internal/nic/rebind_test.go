package nic_test

import (
	"net/netip"
	"testing"

	"edeploy/appliance/internal/nic"
	"edeploy/integration/needs"
)

// A device that is removed and made anew under the same name leaves a socket
// deaf, until it is bound again.
func TestBindAgain(t *testing.T) {
	if !needs.Namespace(t) {
		return
	}
	address := netip.MustParsePrefix("10.0.3.1/24")
	peer := needs.NewNeighbour(t)
	makeDevice := func() {
		t.Helper()
		needs.IP(t, "link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "netns", peer.PID)
		peer.Run(t, "ip", "address", "add", "10.0.3.9/24", "dev", "cli0")
		peer.Run(t, "ip", "link", "set", "cli0", "up")
		if err := nic.Configure(t.Context(), "srv0", address); err != nil {
			t.Fatal(err)
		}
	}
	makeDevice()
	l, err := nic.Listen(t.Context(), "srv0", netip.AddrPortFrom(address.Addr(), 80))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close() })
	answers := func() bool {
		return peer.Command(t.Context(), "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/10.0.3.1/80").Run() == nil
	}
	if !answers() {
		t.Fatal("the listener does not answer on its device")
	}
	before := nic.Index("srv0")
	needs.IP(t, "link", "del", "srv0")
	if nic.Index("srv0") != 0 {
		t.Error("a device that is gone has an index")
	}
	makeDevice()
	if nic.Index("srv0") == before {
		t.Fatal("the kernel gave the same index again: nothing to test")
	}
	if answers() {
		t.Error("the old socket answers on the new device: nothing to test")
	}
	if err := nic.Bind(l, "srv0"); err != nil {
		t.Fatal(err)
	}
	if !answers() {
		t.Error("the listener that was bound again does not answer")
	}
}
