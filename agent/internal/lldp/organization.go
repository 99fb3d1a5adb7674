package lldp

import (
	"encoding/binary"
	"fmt"
)

// Organizations, with the subtypes of theirs that are known here: IEEE 802.1
// (802.1Q-2011 annex D) and IEEE 802.3 (802.3-2012 clause 79).
const (
	ieee8021 = 0x0080c2
	ieee8023 = 0x00120f

	portVLAN    = ieee8021<<8 | 1
	vlanName    = ieee8021<<8 | 3
	aggregation = ieee8021<<8 | 7
	macPHY      = ieee8023<<8 | 1
	linkAggr    = ieee8023<<8 | 3
	frameSize   = ieee8023<<8 | 4
)

// ofOrganization is a TLV behind the organization that defines it, and its number
// there. lldptool knows more of them, such as LLDP-MED and DCBX: here those are
// unidentified.
func ofOrganization(value []byte) (title string, lines []string) {
	if len(value) < 4 {
		return "", nil
	}
	info := value[4:]
	switch binary.BigEndian.Uint32(value) {
	case portVLAN:
		return "Port VLAN ID", vlan(info)
	case vlanName:
		return "VLAN Name", named(info)
	case aggregation, linkAggr:
		return "Link Aggregation", aggregated(info)
	case macPHY:
		return "MAC/PHY Configuration Status", negotiated(info)
	case frameSize:
		return "Maximum Frame Size", one(number16(info))
	}
	return "Unidentified Org Specific", []string{fmt.Sprintf("OUI: 0x%x, Subtype: %d, Info: %x", value[:3], value[3], info)}
}

func vlan(info []byte) []string {
	switch {
	case len(info) != 2:
		return nil
	case info[0] == 0 && info[1] == 0:
		return []string{"PVID: unsupported"}
	}
	return []string{"PVID: " + number16(info)}
}

func named(info []byte) []string {
	if len(info) < 4 || len(info) < 3+int(info[2]) {
		return nil
	}
	return []string{fmt.Sprintf("VID %s: Name %s", number16(info), words(info[3:3+int(info[2])]))}
}

func aggregated(info []byte) []string {
	if len(info) != 5 {
		return nil
	}
	return []string{
		"Aggregation " + not(info[0]&1) + "capable",
		"Currently " + not(info[0]&2) + "aggregated",
		fmt.Sprintf("Aggregated Port ID: %d", binary.BigEndian.Uint32(info[1:])),
	}
}

// not is what stands in front of a word when its bit is not set.
func not(bit byte) string {
	if bit != 0 {
		return ""
	}
	return "not "
}

func negotiated(info []byte) []string {
	if len(info) != 5 {
		return nil
	}
	mau := binary.BigEndian.Uint16(info[3:])
	medium := fmt.Sprintf("Unknown [0x%04x]", mau)
	if 0 < mau && int(mau) <= len(media) {
		medium = media[mau-1]
	}
	return []string{
		fmt.Sprintf("Auto-negotiation %ssupported and %senabled", not(info[0]&1), not(info[0]&2)),
		fmt.Sprintf("PMD auto-negotiation capabilities: 0x%04x", binary.BigEndian.Uint16(info[1:])),
		"MAU type: " + medium,
	}
}

// media are lldptool's names for dot3MauType 1 and up (IANA-MAU-MIB), its slips at
// 10 to 13 included: specs were written for what it prints.
var media = []string{"AUI", "10 Base5", "FOIRL", "10 Base2", "10 BaseT", "10 BaseFP", "10 BaseFB", "10 BaseFL", "10 Broad 36", "100 BaseTHD", // 10
	"100 BaseTFD", "100 BaseFLHD", "100 BaseFLFD", "100 BaseT4", "100 BaseTXHD", "100 BaseTXFD", "100 BaseFXHD", "100 BaseFXFD", "100 BaseT2HD", "100 BaseT2FD", // 20
	"1000 BaseXHD", "1000 BaseXFD", "1000 BaseLXHD", "1000 BaseLXFD", "1000 BaseSXHD", "1000 BaseSXFD", "1000 BaseCXHD", "1000 BaseCXFD", "1000 BaseTHD", "1000 BaseTFD", // 30
	"10G BaseX", "10G BaseLX4", "10G BaseR", "10G BaseER", "10G BaseLR", "10G BaseSR", "10G BaseW", "10G BaseEW", "10G BaseLW", "10G BaseSW", // 40
	"10G BaseCX4", "2 BaseTL", "10 PassTS", "100 BaseBX10D", "100 BaseBX10U", "100 BaseLX10", "1000 BaseBX10D", "1000 BaseBX10U", "1000 BaseLX10", "1000 BasePX10D", // 50
	"1000 BasePX10U", "1000 BasePX20D", "1000 BasePX20U", "10G BaseT", "10G BaseLRM", "1000 BaseKX", "10G BaseKX4", "10G BaseKR", "10/1G BasePRXD1", "10/1G BasePRXD2", // 60
	"10/1G BasePRXD3", "10/1G BasePRXU1", "10/1G BasePRXU2", "10/1G BasePRXU3", "10G BasePRD1", "10G BasePRD2", "10G BasePRD3", "10G BasePRU1", "10G BasePRU3", "40G BaseKR4", // 70
	"40G BaseCR4", "40G BaseSR4", "40G BaseFR", "40G BaseLR4", "100G BaseCR10", "100G BaseSR10", "100G BaseLR4", "100G BaseER4"}
