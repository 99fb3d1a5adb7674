package lab

import (
	"context"
	"encoding/binary"
	"fmt"
)

// tagged is the Ethernet type of frames of a VLAN (IEEE 802.1Q).
const tagged = 0x8100

// Access joins two hubs as a switch joins a trunk and an access port of a VLAN:
// what has the VLAN's tag on trunk has none on access, and the other way round. All
// other frames stay on their hub. It ends with the hubs.
func Access(trunk *Hub, vlan uint16, access *Hub) {
	name := fmt.Sprintf("vlan%d", vlan)
	inside, outside := trunk.Port(name), access.Port(name)
	go carry(inside, outside, func(frame []byte) []byte {
		if len(frame) < minFrameBytes+4 || binary.BigEndian.Uint16(frame[12:]) != tagged || binary.BigEndian.Uint16(frame[14:])&0xfff != vlan {
			return nil
		}
		return append(frame[:12:12], frame[16:]...)
	})
	go carry(outside, inside, func(frame []byte) []byte {
		if binary.BigEndian.Uint16(frame[12:]) == tagged {
			return nil
		}
		tag := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(frame[:12:12], tagged), vlan)
		return append(tag, frame[12:]...)
	})
}

// carry brings frames from a port to another as change makes them; nil: not.
func carry(from, to *Port, change func([]byte) []byte) {
	for {
		frame, err := from.Receive(context.Background())
		if err != nil {
			return // the hub is closed
		}
		if frame = change(frame); frame != nil {
			to.put(frame)
		}
	}
}
