package ether_test

import (
	"bytes"
	"net/netip"
	"testing"

	"edeploy/pxe/internal/ether"
)

// FuzzParseUDP: no packet makes it fail, and what UDP writes is read.
func FuzzParseUDP(f *testing.F) {
	from, to := netip.MustParseAddrPort("192.168.122.1:67"), netip.MustParseAddrPort("255.255.255.255:68")
	whole := ether.UDP(from, to, []byte("payload"))
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(append(bytes.Clone(whole), 0, 0)) // padding of a short frame
	fragment := bytes.Clone(whole)
	fragment[6] = 0x20
	f.Add(fragment)
	f.Fuzz(func(t *testing.T, packet []byte) {
		_, _, payload, ok := ether.ParseUDP(packet)
		if ok && len(payload) > len(packet)-28 {
			t.Errorf("payload of %d bytes in a packet of %d", len(payload), len(packet))
		}
		again := ether.UDP(from, to, packet)
		if len(again) > 65535 {
			return
		}
		a, b, payload, ok := ether.ParseUDP(again)
		if !ok || a != from || b != to || !bytes.Equal(payload, packet) {
			t.Errorf("own packet is read as %s, %s, %d bytes, %v", a, b, len(payload), ok)
		}
	})
}

// TestParseUDP: what is no whole datagram is refused.
func TestParseUDP(t *testing.T) {
	whole := ether.UDP(netip.MustParseAddrPort("10.0.0.1:67"), netip.MustParseAddrPort("10.0.0.2:68"), []byte("payload"))
	change := func(at int, b byte) []byte {
		p := bytes.Clone(whole)
		p[at] = b
		return p
	}
	for name, test := range map[string]struct {
		packet []byte
		ok     bool
	}{
		"whole": {whole, true}, "padded": {append(bytes.Clone(whole), 0), true}, "cut off": {whole[:len(whole)-1], false}, "empty": {nil, false},
		"TCP": {change(9, 6), false}, "IPv6": {change(0, 0x60), false}, "a fragment": {change(7, 1), false},
		"short header": {change(0, 0x44), false}, "datagram runs over": {change(25, 200), false}, "datagram without header": {change(25, 7), false},
	} {
		if _, _, payload, ok := ether.ParseUDP(test.packet); ok != test.ok || ok && string(payload) != "payload" {
			t.Errorf("%s: %q, %v", name, payload, ok)
		}
	}
}
