package pxe

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"edeploy/pxe/internal/ipxe"
	"edeploy/server/wire"
)

// Unknown is what happens to a machine that would be installed and that nobody
// has said anything about.
type Unknown string

// What happens to unknown machines.
const (
	UnknownInstall Unknown = "install" // they are installed
	UnknownHold    Unknown = "hold"    // they wait in their boot script
	UnknownIgnore  Unknown = "ignore"  // DHCP does not answer them
)

func (u Unknown) check() error {
	switch u {
	case UnknownInstall, UnknownHold, UnknownIgnore:
		return nil
	}
	return fmt.Errorf("unknown machines %q: want %s, %s or %s", u, UnknownInstall, UnknownHold, UnknownIgnore)
}

// action is what a machine boots now, and why it waits when it is not known.
func (c Config) action(mac, uuid string, client netip.Addr) (action wire.BootAction, why string) {
	action = c.Policy.BootAction(mac, uuid)
	if action != wire.BootInstall || c.Known(mac, uuid) {
		return action, ""
	}
	switch c.unknown(mac, client) {
	case UnknownHold:
		return wire.BootHold, "it is not known here; edeployctl add " + mac + " lets it be installed"
	case UnknownIgnore:
		return wire.BootLocal, "it is not known here, and left alone"
	}
	return action, ""
}

// alone tells whether DHCP leaves a machine alone.
func (c Config) alone(mac, uuid string, link netip.Addr) bool {
	return c.unknown(mac, link) == UnknownIgnore && !c.Known(mac, uuid) && c.Policy.BootAction(mac, uuid) == wire.BootInstall
}

// kernelLine is the agent's kernel command line for a deployment, "" is the one
// of Args, and for the card that a machine boots from.
func (c Config) kernelLine(section, mac string) string {
	args := c.Args
	if section != "" {
		args.Section = section
	}
	if mac != "" {
		args.BootIF = "01-" + strings.ReplaceAll(mac, ":", "-") // as iPXE's ${mac:hexhyp}; 01 is Ethernet
	}
	return strings.TrimSpace(c.KernelArgs + " " + args.String())
}

// machineLine is the kernel command line of one machine. The name of a section
// may be one that cannot stand there: then the machine boots with the default
// and the server, which knows where it belongs, decides.
func (c Config) machineLine(mac, uuid string) string {
	if c.Section == nil {
		return c.kernelLine("", mac)
	}
	section := c.Section(mac, uuid)
	line := c.kernelLine(section, mac)
	err := ipxe.CheckArgs(line)
	if err == nil && strings.ContainsFunc(section, unicode.IsSpace) {
		err = errors.New("kernel arguments cannot hold blanks")
	}
	if err != nil {
		c.Log.Error("section", "mac", mac, "section", section, "err", err)
		return c.kernelLine("", mac)
	}
	return line
}
