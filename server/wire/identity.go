package wire

import (
	"net"
	"strings"
)

// Identity is what a machine says it is. None of the values is trusted alone:
// the server decides which machine it is (MAC addresses first; UUIDs and
// serials are duplicated or placeholders on much real hardware).
type Identity struct {
	MACs   []string `json:"macs"`             // all Ethernet addresses, as NormalMAC writes them
	UUID   string   `json:"uuid,omitempty"`   // SMBIOS system UUID, lower case
	Serial string   `json:"serial,omitempty"` // SMBIOS system serial
}

// NormalMAC writes an Ethernet address as "02:00:00:00:00:01"; it answers ""
// for anything that is not a 6-byte address.
func NormalMAC(s string) string {
	mac, err := net.ParseMAC(strings.TrimSpace(s))
	if err != nil || len(mac) != 6 {
		return ""
	}
	return mac.String()
}

// BootAction is the answer to the one question the boot services ask: what
// should this machine boot?
type BootAction string

// The boot actions.
const (
	BootInstall BootAction = "install" // the agent, which installs the machine
	BootLocal   BootAction = "local"   // the machine's own disk
	BootRescue  BootAction = "rescue"  // the agent with a console, nothing is changed
	BootHold    BootAction = "hold"    // nothing: wait and ask again
	BootWipe    BootAction = "wipe"    // the agent, which erases the machine's disks
)

// Mode is the kernel parameter that has the agent do something else than
// install; "" when it installs, and for actions that do not boot it.
func (a BootAction) Mode() string {
	switch a {
	case BootRescue:
		return "RESCUE=1"
	case BootWipe:
		return "WIPE=1"
	}
	return ""
}

// Agent tells whether the machine boots the agent.
func (a BootAction) Agent() bool { return a == BootInstall || a.Mode() != "" }
