package dhcp

import (
	"bytes"
	"fmt"
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Positions in a packet, RFC 2131 section 2.
const (
	hardwareAt  = 28 // chaddr, 16 bytes of which an Ethernet address takes 6
	cookieAt    = 236
	optionsAt   = 240
	optionPad   = 0
	optionEnd   = 255
	ethernetLen = 6
)

// parse reads a packet. As in ISC's server and dnsmasq the end of the packet
// ends the options, too, and an option that runs over it is left out with
// what follows: boot ROMs with such packets are in use.
func parse(packet []byte) (*dhcpv4.DHCPv4, error) {
	if len(packet) < optionsAt {
		return nil, fmt.Errorf("%d bytes are shorter than a DHCP header", len(packet))
	}
	if !bytes.Equal(packet[cookieAt:optionsAt], []byte{99, 130, 83, 99}) {
		return nil, fmt.Errorf("BOOTP without DHCP's magic cookie")
	}
	whole := append(packet[:optionsAt:optionsAt], wholeOptions(packet[optionsAt:])...)
	return dhcpv4.FromBytes(append(whole, optionEnd))
}

// wholeOptions are the options up to their end, the packet's end, or the first
// one that is longer than what is left.
func wholeOptions(options []byte) []byte {
	rest := options
	for len(rest) > 0 && rest[0] != optionEnd {
		if rest[0] == optionPad {
			rest = rest[1:]
			continue
		}
		if len(rest) < 2 || len(rest) < 2+int(rest[1]) {
			break
		}
		rest = rest[2+int(rest[1]):]
	}
	return options[:len(options)-len(rest)]
}

// hardware is whom a packet that cannot be read says it is from.
func hardware(packet []byte) string {
	if len(packet) < hardwareAt+ethernetLen {
		return "unknown"
	}
	return net.HardwareAddr(packet[hardwareAt : hardwareAt+ethernetLen]).String()
}
