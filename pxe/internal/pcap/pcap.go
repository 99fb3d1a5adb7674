// Package pcap reads the UDP payloads out of small capture files, for the
// tests that replay what real boot ROMs sent.
package pcap

import (
	"encoding/binary"
	"fmt"
	"os"
)

// Payloads are the UDP payloads in a capture of Ethernet frames (libpcap file
// format, little-endian, as QEMU's filter-dump and tcpdump write it); frames
// that are not IPv4 UDP are left out.
func Payloads(path string) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	const fileHeader, recordHeader = 24, 16
	if len(data) < fileHeader || binary.LittleEndian.Uint32(data) != 0xa1b2c3d4 {
		return nil, fmt.Errorf("read %s: not a little-endian pcap file", path)
	}
	var found [][]byte
	for rest := data[fileHeader:]; len(rest) > 0; {
		if len(rest) < recordHeader {
			return nil, fmt.Errorf("read %s: truncated record header", path)
		}
		n := int(binary.LittleEndian.Uint32(rest[8:]))
		rest = rest[recordHeader:]
		if n > len(rest) {
			return nil, fmt.Errorf("read %s: truncated record", path)
		}
		if payload := udp(rest[:n]); payload != nil {
			found = append(found, payload)
		}
		rest = rest[n:]
	}
	return found, nil
}

// udp is the payload of an Ethernet frame that holds an unfragmented IPv4 UDP
// datagram, else nil.
func udp(frame []byte) []byte {
	const ethernet, udpHeader = 14, 8
	if len(frame) < ethernet+20 || binary.BigEndian.Uint16(frame[12:]) != 0x0800 {
		return nil
	}
	ip := frame[ethernet:]
	headerLen, totalLen := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[9] != 17 || totalLen > len(ip) || headerLen+udpHeader > totalLen {
		return nil
	}
	return ip[headerLen+udpHeader : totalLen]
}
