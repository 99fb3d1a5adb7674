package pxe

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"edeploy/pxe/internal/ipxe"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// Config is what the boot services need to know.
type Config struct {
	// Mode is how DHCP is answered; "": ModeDHCP.
	Mode Mode
	// Interface is the network device of the provisioning network. DHCP and
	// TFTP are bound to it. Only with a loopback DHCPListen may it be empty.
	Interface string
	// Address is the own address on the provisioning network and the network's
	// length. Machines get everything from it, also when the device has others.
	Address netip.Prefix
	// RangeFirst to RangeLast, both included, are the addresses to give away:
	// inside Address's network, at most 65536. They, LeaseTime, LeaseFile,
	// Settings and Subnets only count in ModeDHCP.
	RangeFirst, RangeLast netip.Addr
	LeaseTime             time.Duration // 0: DefaultLeaseTime; at least 10 seconds
	// LeaseFile is a text file in an existing directory; those of Subnets have
	// the network at the end of their names: LeaseFile-10.1.0.0-24.
	LeaseFile string
	// BootDir holds vmlinuz, initrd.pxe and the loaders undionly.kpxe (BIOS),
	// snponly.efi (UEFI), shimx64.efi and grubx64.efi (UEFI with Secure Boot).
	BootDir string

	Settings // of Address's network
	// Subnets are further networks, whose machines are heard through relays. The
	// same machine may have a lease in each.
	Subnets []Subnet
	// Hosts are machines of which something is said beforehand, by MAC address as
	// wire.NormalMAC writes it.
	Hosts map[string]Host

	// Look is how long a start listens for other DHCP servers on the network, in
	// ModeDHCP; while one answers, DHCP stays quiet. 0: DefaultLook, negative: not
	// at all.
	Look time.Duration

	HTTPPort   int            // where Handler is served on Address; 0: 80
	DHCPListen netip.AddrPort // zero: 0.0.0.0:67
	TFTPListen netip.AddrPort // zero: Address, port 69

	// Args is what the agent reads from its kernel command line; start from
	// wire.DefaultBootArgs. An empty Serv stands for Address and HTTPPort.
	Args wire.BootArgs
	// KernelArgs goes in front of Args: "console=ttyS0".
	KernelArgs string

	Policy Policy
	// Section is asked for every script that starts the agent: the deployment
	// (SECTION) that the machine belongs to. "" stands for Args.Section, nil
	// for always "".
	Section func(mac, uuid string) string
	// Unknown is what happens to machines that would be installed and are not
	// Known; "": UnknownInstall in ModeDHCP, else UnknownHold.
	Unknown Unknown
	// Known tells whether the machine is one of ours; nil: none is.
	Known func(mac, uuid string) bool

	// Loader is what firmware is made to start first; "": LoaderIPXE. When it does
	// not bring a machine to the agent, the others follow.
	Loader Loader
	// Pinned is the only loader that a machine is given, as the operator wants it:
	// one of api.Loaders. "" is any; nil for always "".
	Pinned func(mac, uuid string) string
	// Model is vendor and product of a machine; "" is not known, nil for always "".
	Model func(mac, uuid string) string
	// LoaderFile keeps which loader works for which machine, a text file in an
	// existing directory; "": it is forgotten with a restart.
	LoaderFile string

	// BootDisks is asked for every script that boots a machine's own disk: the
	// disks that it was installed on, first the one to start. None: not known; nil
	// for always none.
	BootDisks func(mac, uuid string) []wire.DiskID
	// OnEvent is called for what belongs into a machine's history, and for what
	// happens to the services themselves (without a MAC), from many goroutines.
	// It must not block; nil: nobody wants to know.
	OnEvent func(api.Event)
	Log     *slog.Logger // nil: silence

	now func() time.Time // of the ladder, for tests; nil: time.Now
}

// Mode is how DHCP is answered.
type Mode string

// The modes.
const (
	// ModeDHCP gives every machine its address. There must be no other DHCP
	// server on the network.
	ModeDHCP Mode = "dhcp"
	// ModeProxy leaves addresses to the network's own DHCP server and tells boot
	// ROMs, beside it, what to boot.
	ModeProxy Mode = "proxy"
	// ModeOff answers no DHCP: the network's own server names loader and script.
	ModeOff Mode = "off"
)

// DefaultLeaseTime is how long a machine may keep its address unasked.
const DefaultLeaseTime = time.Hour

const (
	minLeaseTime    = 10 * time.Second
	defaultHTTPPort = 80
)

// checked is the configuration with its defaults, or what is wrong with it.
func (c Config) checked() (Config, error) {
	c = c.withDefaults()
	if c.Policy == nil {
		return c, errors.New("no policy is given")
	}
	switch c.Mode {
	case ModeDHCP, ModeProxy, ModeOff:
	default:
		return c, fmt.Errorf("DHCP mode %q: want %s, %s or %s", c.Mode, ModeDHCP, ModeProxy, ModeOff)
	}
	if err := errors.Join(c.Unknown.check(), c.Loader.Check()); err != nil {
		return c, err
	}
	if c.Mode == ModeDHCP && c.LeaseFile == "" {
		return c, errors.New("no lease file is named")
	}
	if c.LeaseTime < minLeaseTime {
		return c, fmt.Errorf("lease time %s is shorter than %s", c.LeaseTime, minLeaseTime)
	}
	if c.HTTPPort < 1 || c.HTTPPort > 65535 {
		return c, fmt.Errorf("HTTP port %d: want a number from 1 to 65535", c.HTTPPort)
	}
	if err := c.checkNetworks(); err != nil {
		return c, err
	}
	return c, ipxe.CheckArgs(c.kernelLine("", ""))
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Mode == "" {
		c.Mode = ModeDHCP
	}
	if c.Unknown == "" {
		c.Unknown = UnknownInstall
		if c.Mode != ModeDHCP {
			c.Unknown = UnknownHold
		}
	}
	if c.Look == 0 {
		c.Look = DefaultLook
	}
	if c.Known == nil {
		c.Known = func(string, string) bool { return false }
	}
	if c.OnEvent == nil {
		c.OnEvent = func(api.Event) {}
	}
	if c.Pinned == nil {
		c.Pinned = func(string, string) string { return "" }
	}
	if c.BootDisks == nil {
		c.BootDisks = func(string, string) []wire.DiskID { return nil }
	}
	if c.LeaseTime == 0 {
		c.LeaseTime = DefaultLeaseTime
	}
	if c.HTTPPort == 0 {
		c.HTTPPort = defaultHTTPPort
	}
	if c.Args.Serv == "" {
		c.Args.Serv, c.Args.HTTPPort = c.Address.Addr().String(), c.HTTPPort
	}
	if !c.DHCPListen.IsValid() {
		c.DHCPListen = netip.AddrPortFrom(netip.IPv4Unspecified(), 67)
	}
	if !c.TFTPListen.IsValid() {
		c.TFTPListen = netip.AddrPortFrom(c.Address.Addr(), 69)
	}
	return c
}

// baseURL is the HTTP server as machines reach it.
func (c Config) baseURL() string {
	host := c.Address.Addr().String()
	if c.HTTPPort != defaultHTTPPort {
		host = net.JoinHostPort(host, strconv.Itoa(c.HTTPPort))
	}
	return "http://" + host
}
