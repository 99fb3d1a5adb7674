package probe

import (
	"net/netip"
	"testing"

	"edeploy/pxe/internal/ether"
)

// FuzzSender: no ARP packet makes it fail, and our own requests, which tell no
// address, are nobody's answer.
func FuzzSender(f *testing.F) {
	own := request(ether.MAC{2}, netip.MustParseAddr("10.0.0.1"))
	reply := append([]byte{}, own...)
	copy(reply[14:], []byte{10, 0, 0, 2})
	f.Add(own)
	f.Add(reply)
	f.Add(reply[:27])
	f.Fuzz(func(t *testing.T, packet []byte) {
		if a, _, ok := sender(packet); ok && (!a.Is4() || a.IsUnspecified()) {
			t.Errorf("address %s", a)
		}
	})
	if _, _, ok := sender(own); ok {
		f.Error("a request that tells no address is an answer")
	}
	if a, _, ok := sender(reply); !ok || a.String() != "10.0.0.2" {
		f.Errorf("a reply is of %s, %v", a, ok)
	}
}
