package lldp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unicode"
)

// Titles and names are lldptool's: lldp_mand_clif.c, lldp_basman_clif.c,
// lldp_orgspec_clif.c and lldp_8023_clif.c of openlldp.

// print is what lldptool prints of a TLV; no lines when it is malformed.
func (t tlv) print() (title string, lines []string) {
	switch t.kind {
	case chassisID:
		return "Chassis ID", one(identity(chassisKinds, t.value))
	case portID:
		return "Port ID", one(identity(portKinds, t.value))
	case timeToLive:
		return "Time to Live", one(number16(t.value))
	case portDescription:
		return "Port Description", one(words(t.value))
	case systemName:
		return "System Name", one(words(t.value))
	case systemDescription:
		return "System Description", one(words(t.value))
	case systemCapabilities:
		return "System Capabilities", capabilities(t.value)
	case managementAddress:
		return "Management Address", management(t.value)
	case organization:
		return ofOrganization(t.value)
	}
	return "Unidentified", []string{fmt.Sprintf("type:%d %x", t.kind, t.value)}
}

// one is a line, none when it is empty.
func one(line string) []string {
	if line == "" {
		return nil
	}
	return []string{line}
}

// words is the first line of a text without what cannot be printed.
func words(value []byte) string {
	text, _, _ := strings.Cut(strings.ReplaceAll(strings.ToValidUTF8(string(value), ""), "\r", "\n"), "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text))
}

func number16(value []byte) string {
	if len(value) < 2 {
		return ""
	}
	return fmt.Sprint(binary.BigEndian.Uint16(value))
}

// Kinds of chassis and port identifiers (tables 8-2 and 8-3) that the agent uses
// itself.
const (
	chassisMAC = 4
	portIfname = 5
)

// Forms of identifiers that are no text.
const (
	macAddress     = "MAC"
	networkAddress = "Network Address"
	circuit        = "Agent Circuit ID"
)

var (
	chassisKinds = map[byte]string{1: "Chassis Component", 2: "IfAlias", 3: "Port Component", chassisMAC: macAddress,
		5: networkAddress, 6: "Ifname", 7: "Local"}
	portKinds = map[byte]string{1: "Interface Alias", 2: "Port Component", 3: macAddress, 4: networkAddress,
		portIfname: "Ifname", 6: circuit, 7: "Local"}
)

// identity is a chassis or a port: a kind, then the identifier.
func identity(kinds map[byte]string, value []byte) string {
	if len(value) < 2 {
		return ""
	}
	is, id := kinds[value[0]], value[1:]
	switch is {
	case "":
		return ""
	case macAddress:
		if len(id) != 6 {
			return ""
		}
		return "MAC: " + net.HardwareAddr(id).String()
	case networkAddress:
		return address(id)
	case circuit:
		return fmt.Sprintf("%s: %x", is, id)
	}
	return is + ": " + words(id)
}

// Address families (IANA address family numbers).
const (
	familyIPv4 = 1
	familyIPv6 = 2
	family802  = 6
)

// address is a network address: its family, then its bytes.
func address(value []byte) string {
	if len(value) < 2 {
		return ""
	}
	family, bytes := value[0], value[1:]
	ip, _ := netip.AddrFromSlice(bytes)
	switch {
	case family == familyIPv4 && ip.Is4():
		return "IPv4: " + ip.String()
	case family == familyIPv6 && ip.Is6():
		return "IPv6: " + ip.String()
	case family == family802 && len(bytes) == 6:
		return "MAC: " + net.HardwareAddr(bytes).String()
	}
	return fmt.Sprintf("Network Address Type %d: %x", family, bytes)
}

// abilities are the bits of system capabilities (table 8-4).
var abilities = []string{"Other", "Repeater", "Bridge", "WLAN Access Point", "Router", "Telephone", "DOCSIS cable device", "Station Only"}

func capabilities(value []byte) []string {
	if len(value) != 4 {
		return nil
	}
	list := func(bits uint16) string {
		var names []string
		for i, name := range abilities {
			if bits&(1<<i) != 0 {
				names = append(names, name)
			}
		}
		return strings.Join(names, ", ")
	}
	return []string{
		"System capabilities:  " + list(binary.BigEndian.Uint16(value)),
		"Enabled capabilities: " + list(binary.BigEndian.Uint16(value[2:])),
	}
}

// numberings are what the number of an interface is (clause 8.5.9.5).
var numberings = map[byte]string{1: "Unknown interface subtype", 2: "Ifindex", 3: "System port number"}

// management is an address behind its length, and an interface: what its number is,
// and the number.
func management(value []byte) []string {
	if len(value) < 9 || len(value) < int(value[0])+6 {
		return nil
	}
	length := 1 + int(value[0])
	where, of := value[1:length], value[length:]
	lines := one(address(where))
	if is := numberings[of[0]]; is != "" && lines != nil {
		lines = append(lines, fmt.Sprintf("%s: %d", is, binary.BigEndian.Uint32(of[1:])))
	}
	return lines
}
