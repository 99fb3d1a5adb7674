package ether

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// UDP is an IPv4 packet (RFC 791) that holds a UDP datagram (RFC 768).
func UDP(from, to netip.AddrPort, payload []byte) []byte {
	const ipLen, udpLen = 20, 8
	p := make([]byte, ipLen+udpLen, ipLen+udpLen+len(payload))
	p = append(p, payload...)
	src, dst := from.Addr().As4(), to.Addr().As4()
	p[0] = 0x45 // version 4, header of five words
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	p[8], p[9] = 64, unix.IPPROTO_UDP // time to live, protocol
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[10:], checksum(0, p[:ipLen]))

	udp := p[ipLen:]
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	pseudo := uint32(unix.IPPROTO_UDP) + uint32(len(udp))
	for _, a := range [][4]byte{src, dst} {
		pseudo += uint32(binary.BigEndian.Uint16(a[:])) + uint32(binary.BigEndian.Uint16(a[2:]))
	}
	sum := checksum(pseudo, udp)
	if sum == 0 {
		sum = 0xffff // zero would mean "no checksum"
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return p
}

// Checksum is the Internet checksum (RFC 1071).
func Checksum(data []byte) uint16 { return checksum(0, data) }

// checksum is the same, of what has the sum so far in front.
func checksum(sum uint32, data []byte) uint16 {
	for ; len(data) >= 2; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// ParseUDP reads an IPv4 packet that holds a whole UDP datagram. Checksums are
// not looked at: cards leave them to be filled in later.
func ParseUDP(packet []byte) (from, to netip.AddrPort, payload []byte, ok bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 || packet[9] != unix.IPPROTO_UDP {
		return from, to, nil, false
	}
	header, total := int(packet[0]&15)*4, int(binary.BigEndian.Uint16(packet[2:]))
	const moreFragments, offset = 0x2000, 0x1fff
	if header < 20 || total > len(packet) || total < header+8 || binary.BigEndian.Uint16(packet[6:])&(moreFragments|offset) != 0 {
		return from, to, nil, false
	}
	udp := packet[header:total]
	size := int(binary.BigEndian.Uint16(udp[4:]))
	if size < 8 || size > len(udp) {
		return from, to, nil, false
	}
	from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[12:16])), binary.BigEndian.Uint16(udp))
	to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[16:20])), binary.BigEndian.Uint16(udp[2:]))
	return from, to, udp[8:size], true
}
