// Package lldp reads what a switch says of the port at the other end of a cable,
// and writes what a machine says of itself: LLDPDUs, IEEE 802.1AB-2009 clause 8.
// It opens no sockets.
//
// All that is read comes from whoever is on the wire. What is made of it is
// printable text, and bounded.
package lldp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Protocol is the Ethernet type of frames that hold an LLDPDU.
const Protocol = 0x88cc

// NearestBridge is where LLDPDUs are sent: no bridge passes them on (clause 7.1).
var NearestBridge = net.HardwareAddr{0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e}

// MaxBytes is the longest LLDPDU: it must fit into one Ethernet frame.
const MaxBytes = 1500

// maxTLVs bounds what one neighbour may say; what comes behind is left out.
const maxTLVs = 64

// kind is the type of a TLV (table 8-1).
type kind byte

const (
	end kind = iota
	chassisID
	portID
	timeToLive
	portDescription
	systemName
	systemDescription
	systemCapabilities
	managementAddress

	organization kind = 127
)

// tlv is one piece of an LLDPDU.
type tlv struct {
	kind  kind
	value []byte
}

// PDU is an LLDPDU that has what each must have.
type PDU struct{ tlvs []tlv }

// Parse reads an LLDPDU without the Ethernet header. What is behind its end does
// not count: short frames are filled up. An error says what is wrong with it
// (clause 9.2.7.7.1: then all of it is discarded).
func Parse(data []byte) (PDU, error) {
	var p PDU
	if len(data) > MaxBytes {
		return p, fmt.Errorf("read LLDPDU: %d bytes are more than %d", len(data), MaxBytes)
	}
	for len(p.tlvs) < maxTLVs {
		next, rest, err := cut(data)
		if err != nil {
			return PDU{}, fmt.Errorf("read LLDPDU: TLV %d: %w", len(p.tlvs)+1, err)
		}
		if next.kind == end {
			break
		}
		p.tlvs, data = append(p.tlvs, next), rest
	}
	return p, p.check()
}

// cut takes the first TLV: 7 bits type, 9 bits length, value (clause 8.4). An
// LLDPDU may end without saying so.
func cut(data []byte) (first tlv, rest []byte, err error) {
	if len(data) == 0 {
		return tlv{}, nil, nil
	}
	if len(data) < 2 {
		return tlv{}, nil, errors.New("it is cut off")
	}
	head := binary.BigEndian.Uint16(data)
	length := int(head & 0x1ff)
	if len(data) < 2+length {
		return tlv{}, nil, fmt.Errorf("%d bytes of %d are there", len(data)-2, length)
	}
	return tlv{kind(head >> 9), data[2 : 2+length]}, data[2+length:], nil
}

// check wants the three TLVs that come first, in this order, two bytes each at least.
func (p PDU) check() error {
	for i := range 3 {
		if len(p.tlvs) <= i || p.tlvs[i].kind != chassisID+kind(i) || len(p.tlvs[i].value) < 2 {
			return errors.New("read LLDPDU: it does not begin with chassis, port and time to live")
		}
	}
	return nil
}

// Sender is who says it: the bytes of chassis and port.
func (p PDU) Sender() string {
	return fmt.Sprintf("%x %x", p.tlvs[0].value, p.tlvs[1].value)
}

// TTL is how long it holds; 0: the sender is about to leave.
func (p PDU) TTL() time.Duration {
	return time.Duration(binary.BigEndian.Uint16(p.tlvs[2].value)) * time.Second
}

// Name is what a machine that is being installed calls itself.
const Name = "edeploy-agent"

// Announcement is the LLDPDU of a machine's network device; with a ttl of 0 it
// takes the ones before back.
func Announcement(device string, mac net.HardwareAddr, ttl time.Duration) []byte {
	var data []byte
	add := func(k kind, value ...byte) {
		data = append(binary.BigEndian.AppendUint16(data, uint16(k)<<9|uint16(len(value))), value...)
	}
	add(chassisID, append([]byte{byte(chassisMAC)}, mac...)...)
	add(portID, append([]byte{byte(portIfname)}, device...)...)
	add(timeToLive, binary.BigEndian.AppendUint16(nil, uint16(ttl/time.Second))...)
	if ttl > 0 {
		add(systemName, []byte(Name)...)
	}
	add(end)
	return data
}

// Text is the LLDPDU as "lldptool -t -n" prints it, which the original eDeploy made
// facts of. Values are printable, of texts that have several lines the first. TLVs
// that are malformed are left out.
func (p PDU) Text() string {
	var text strings.Builder
	for _, t := range p.tlvs {
		title, lines := t.print()
		if len(lines) == 0 {
			continue
		}
		text.WriteString(title + " TLV\n")
		for _, line := range lines {
			text.WriteString("\t" + line + "\n")
		}
	}
	return text.String()
}
