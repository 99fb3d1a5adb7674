package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Method is how a device gets its address.
type Method string

// The methods.
const (
	DHCP   Method = "dhcp"
	Static Method = "static"
	None   Method = "none" // link up, no address
)

// Config is what the plan says about one device.
type Config struct {
	Method  Method
	Address netip.Prefix // of Static
	Gateway netip.Addr   // of Static, for what is not in its network; invalid: none
	VLAN    int          // 802.1Q tag, 1 to 4094; 0: untagged
}

// Plan is the IP= parameter: IP = entry *( "," entry ), entry = iface ":"
// ("dhcp" | "none" | CIDR [ "+" gateway ]) [ "@" vlan ] (reference section 1.3; the
// gateway is ours).
type Plan struct {
	entries []entry
	Ignored []string // entries without a colon: they never match, as in the original
}

type entry struct {
	device string // a name, "all" or "other"
	config Config
}

// ParsePlan reads the parameter's value; empty means DHCP on all devices.
func ParsePlan(text string) (Plan, error) {
	var p Plan
	for word := range strings.SplitSeq(text, ",") {
		device, rest, ok := strings.Cut(word, ":")
		if !ok {
			if word != "" {
				p.Ignored = append(p.Ignored, word)
			}
			continue
		}
		config, err := parseConfig(rest)
		if err != nil {
			return p, fmt.Errorf("kernel parameter IP=%s: entry %q: %w", text, word, err)
		}
		p.entries = append(p.entries, entry{device, config})
	}
	return p, nil
}

func parseConfig(text string) (Config, error) {
	var c Config
	method, tag, tagged := strings.Cut(text, "@")
	if tagged {
		n, err := strconv.Atoi(tag)
		if err != nil || n < 1 || n > 4094 {
			return c, fmt.Errorf("VLAN %q: want a number from 1 to 4094", tag)
		}
		c.VLAN = n
	}
	switch method {
	case "dhcp", "none":
		c.Method = Method(method)
		return c, nil
	}
	address, gateway, routed := strings.Cut(method, "+")
	var err error
	if c.Address, err = netip.ParsePrefix(address); err != nil {
		return c, fmt.Errorf("%q: want dhcp, none or an address with prefix length such as 10.9.0.5/24", address)
	}
	c.Method = Static
	if !routed {
		return c, nil
	}
	if c.Gateway, err = netip.ParseAddr(gateway); err != nil || !c.Address.Contains(c.Gateway) {
		return c, fmt.Errorf("gateway %q: want an address in the network of %s", gateway, address)
	}
	return c, nil
}

// device says where the address is: on the card, or in a VLAN on it.
func (c Config) device(card string) string {
	if c.VLAN == 0 {
		return card
	}
	return fmt.Sprintf("VLAN %d on %s", c.VLAN, card)
}

// For is the configuration of one device: the first entry with its name or
// with "all", else the last "other", else DHCP.
func (p Plan) For(device string) Config {
	other := Config{Method: DHCP}
	for _, e := range p.entries {
		switch e.device {
		case device, "all":
			return e.config
		case "other":
			other = e.config
		}
	}
	return other
}
