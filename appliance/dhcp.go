package appliance

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"edeploy/pxe"
	"edeploy/server/wire"
)

// subnetPrefix begins the name of the section of a further network: [SUBNET
// 10.1.0.0/24].
const subnetPrefix = "SUBNET "

// subnetKeys are the keys of such a section; [DHCP] has them for the network of
// [NETWORK] ADDRESS.
var subnetKeys = []string{"RANGE", "LEASE", "ROUTER", "DNS", "NTP", "DOMAIN", "MTU", "UNKNOWN", "LOADER"}

type dhcpConfig struct {
	Enabled bool
	Mode    pxe.Mode
	Own     pxe.Subnet // of [NETWORK] ADDRESS
	Subnets []pxe.Subnet
	Hosts   map[string]pxe.Host
	Look    time.Duration // for other DHCP servers; negative: not at all
}

// what is what DHCP does here, for the console.
func (c dhcpConfig) what() string {
	switch c.Mode {
	case pxe.ModeProxy:
		return "ProxyDHCP beside the network's own DHCP server"
	case pxe.ModeOff:
		return "no DHCP, TFTP"
	}
	return fmt.Sprintf("DHCP %s-%s", c.Own.First, c.Own.Last)
}

// dhcp reads [DHCP] and the sections of further networks.
func (r raw) dhcp(abs func(string) string, of func(string) fields, own netip.Prefix) dhcpConfig {
	f := of("DHCP")
	c := dhcpConfig{Enabled: f.yes("ENABLED", true), Mode: pxe.Mode(f.word("MODE", "dhcp", "proxy", "off"))}
	unknown := []string{"install", "hold", "ignore"}
	if c.Mode != pxe.ModeDHCP {
		unknown = []string{"hold", "install", "ignore"}
	}
	c.Own = f.subnet(own.Masked(), unknown, pxe.DefaultLeaseTime, pxe.LoaderIPXE)
	if c.Mode == pxe.ModeDHCP {
		f.addresses(&c.Own, own.Addr(), defaultRange(own))
	}
	for section := range r {
		text, ok := strings.CutPrefix(section, subnetPrefix)
		if !ok {
			continue
		}
		f := of(section)
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked() {
			*f.errs = append(*f.errs, fmt.Errorf("[%s]: want a network, such as [SUBNET 10.1.0.0/24]", section))
			continue
		}
		s := f.subnet(prefix, append([]string{string(c.Own.Unknown)}, unknown...), c.Own.LeaseTime, c.Own.Loader)
		f.addresses(&s, own.Addr(), "")
		c.Subnets = append(c.Subnets, s)
	}
	slices.SortFunc(c.Subnets, func(a, b pxe.Subnet) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	c.Look = pxe.DefaultLook
	if !f.yes("LOOK", true) {
		c.Look = -1
	}
	if file := abs(f.text("HOSTS", "")); file != "" {
		c.Hosts = f.hosts(file)
	}
	return c
}

// subnet reads what a network's machines are told; the first of unknown is the
// default.
func (f fields) subnet(prefix netip.Prefix, unknown []string, lease time.Duration, loader pxe.Loader) pxe.Subnet {
	s := pxe.Subnet{Prefix: prefix, LeaseTime: f.duration("LEASE", lease), Unknown: pxe.Unknown(f.word("UNKNOWN", unknown...)),
		Loader: pxe.Loader(f.word("LOADER", string(loader), string(pxe.LoaderGRUB), string(pxe.LoaderIPXE)))}
	s.Settings = pxe.Settings{Router: f.addr("ROUTER", f.text("ROUTER", "")), DNS: f.addrs("DNS"), NTP: f.addrs("NTP"), Domain: f.text("DOMAIN", "")}
	if text := f.text("MTU", ""); text != "" {
		var err error
		if s.MTU, err = strconv.Atoi(text); err != nil || s.MTU < 576 || s.MTU > 65535 {
			f.bad("MTU", "a number of bytes from 576 to 65535")
		}
	}
	return s
}

// addresses reads the range of a network; own is the server's address.
func (f fields) addresses(s *pxe.Subnet, own netip.Addr, def string) {
	text := f.text("RANGE", def)
	if text == "" && def == "" && f.values["RANGE"] == "" {
		return // reservations only
	}
	first, last, ok := strings.Cut(text, "-")
	s.First, s.Last = f.addr("RANGE", first), f.addr("RANGE", last)
	switch {
	case !ok:
		f.bad("RANGE", "FIRST-LAST, such as 10.0.3.100-10.0.3.199")
	case !s.Prefix.Contains(s.First) || !s.Prefix.Contains(s.Last) || s.Last.Less(s.First):
		f.bad("RANGE", "two ascending addresses inside the provisioning network "+s.Prefix.String())
	case !own.Less(s.First) && !s.Last.Less(own):
		f.bad("RANGE", "a range without the server's own address "+own.String())
	}
}

// maxHostsFile is more than pxe.MaxHosts lines take.
const maxHostsFile = 8 << 20

// hosts reads what is said about machines beforehand: a line for each, MAC
// ADDRESS as in ethers(5), and perhaps install, hold or ignore, and ipxe or
// grub; all but MAC may be left out.
func (f fields) hosts(file string) map[string]pxe.Host {
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxHostsFile {
		err = fmt.Errorf("%s is larger than %d bytes", file, maxHostsFile)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		*f.errs = append(*f.errs, fmt.Errorf("[DHCP] HOSTS: %w", err))
		return nil
	}
	hosts, err := parseHosts(string(text))
	if err != nil {
		*f.errs = append(*f.errs, fmt.Errorf("[DHCP] HOSTS: %s %w", file, err))
	}
	return hosts
}

func parseHosts(text string) (map[string]pxe.Host, error) {
	all, line := map[string]pxe.Host{}, 0
	for raw := range strings.Lines(text) {
		line++
		raw, _, _ = strings.Cut(raw, "#")
		words := strings.Fields(raw)
		if len(words) == 0 {
			continue
		}
		mac := wire.NormalMAC(words[0])
		if mac == "" {
			return nil, fmt.Errorf("line %d: %.40q is no MAC address", line, words[0])
		}
		if _, twice := all[mac]; twice {
			return nil, fmt.Errorf("line %d: %s is there twice", line, mac)
		}
		h, err := parseHost(words[1:])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		all[mac] = h
	}
	return all, nil
}

func parseHost(words []string) (h pxe.Host, err error) {
	for _, w := range words {
		switch word := strings.ToLower(w); word {
		case string(pxe.UnknownInstall), string(pxe.UnknownHold), string(pxe.UnknownIgnore):
			h.Unknown = pxe.Unknown(word)
			continue
		case string(pxe.LoaderIPXE), string(pxe.LoaderGRUB):
			h.Loader = pxe.Loader(word)
			continue
		}
		if h.Address.IsValid() {
			return h, fmt.Errorf("%.40q: want MAC ADDRESS, and install, hold or ignore, and ipxe or grub", w)
		}
		if h.Address, err = netip.ParseAddr(w); err != nil || !h.Address.Is4() {
			return h, fmt.Errorf("%.40q is neither an IPv4 address nor install, hold, ignore, ipxe or grub", w)
		}
	}
	return h, nil
}

// defaultRange is the upper half of the network without its broadcast
// address.
func defaultRange(own netip.Prefix) string {
	if !own.IsValid() || own.Bits() > 29 {
		return ""
	}
	base, size := binary.BigEndian.Uint32(own.Masked().Addr().AsSlice()), uint32(1)<<(32-own.Bits())
	ip := func(n uint32) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
	}
	return ip(base+size/2).String() + "-" + ip(base+size-2).String()
}
