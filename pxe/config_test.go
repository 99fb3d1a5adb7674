package pxe_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"edeploy/pxe"
)

// subnet adds a network with a range of one address, or none.
func subnet(prefix, only string) func(*pxe.Config) {
	return func(c *pxe.Config) {
		s := pxe.Subnet{Prefix: netip.MustParsePrefix(prefix)}
		if only != "" {
			s.First, s.Last = netip.MustParseAddr(only), netip.MustParseAddr(only)
		}
		c.Subnets = append(c.Subnets, s)
	}
}

// host reserves an address.
func host(mac, address string) func(*pxe.Config) {
	return func(c *pxe.Config) { c.Hosts = map[string]pxe.Host{mac: {Address: netip.MustParseAddr(address)}} }
}

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*pxe.Config)
		want   string
	}{
		{"good", func(c *pxe.Config) {}, ""},
		{"no policy", func(c *pxe.Config) { c.Policy = nil }, "no policy"},
		{"no lease file", func(c *pxe.Config) { c.LeaseFile = "" }, "no lease file"},
		{"no boot directory", func(c *pxe.Config) { c.BootDir = "/no/such/dir" }, "boot directory: open /no/such/dir"},
		{"short leases", func(c *pxe.Config) { c.LeaseTime = time.Second }, "lease time 1s is shorter than 10s"},
		{"HTTP port", func(c *pxe.Config) { c.HTTPPort = 65536 }, "HTTP port 65536"},
		{"no address", func(c *pxe.Config) { c.Address = netip.Prefix{} }, "want an IPv4 address with a network"},
		{"IPv6", func(c *pxe.Config) { c.Address = netip.MustParsePrefix("fe80::1/64") }, "address fe80::1/64: want an IPv4"},
		{"no range", func(c *pxe.Config) { c.RangeFirst, c.RangeLast = netip.Addr{}, netip.Addr{} }, "is not inside the network"},
		{"range elsewhere", func(c *pxe.Config) { c.RangeLast = netip.MustParseAddr("10.0.0.9") }, "address range 127.1.0.10 to 10.0.0.9 is not inside the network of 127.0.0.0/8"},
		{"range backwards", func(c *pxe.Config) { c.RangeFirst, c.RangeLast = c.RangeLast, c.RangeFirst }, "holds 0 addresses"},
		{"range too large", func(c *pxe.Config) { c.RangeLast = netip.MustParseAddr("127.200.0.1") }, "want 1 to 65536"},
		{"range with the own address", func(c *pxe.Config) {
			c.Address = netip.MustParsePrefix("127.1.0.12/16")
		}, "holds the own address, 127.1.0.12"},
		{"range with the router", func(c *pxe.Config) { c.Router = netip.MustParseAddr("127.1.0.20") }, "holds the router, 127.1.0.20"},
		{"range with the broadcast address", func(c *pxe.Config) {
			c.Address, c.RangeLast = netip.MustParsePrefix("127.1.0.1/27"), netip.MustParseAddr("127.1.0.31")
		}, "holds the broadcast address, 127.1.0.31"},
		{"range with the network's address", func(c *pxe.Config) {
			c.Address, c.RangeFirst = netip.MustParsePrefix("127.1.0.1/27"), netip.MustParseAddr("127.1.0.0")
		}, "127.1.0.0"},
		{"router elsewhere", func(c *pxe.Config) { c.Router = netip.MustParseAddr("10.0.0.1") }, "router 10.0.0.1 is not inside"},
		{"IPv6 name server", func(c *pxe.Config) { c.DNS = []netip.Addr{netip.MustParseAddr("::1")} }, "name server ::1"},
		{"IPv6 time server", func(c *pxe.Config) { c.NTP = []netip.Addr{netip.MustParseAddr("::1")} }, "time server ::1"},
		{"MTU", func(c *pxe.Config) { c.MTU = 100 }, "MTU 100: want 576 to 65535"},
		{"domain", func(c *pxe.Config) { c.Domain = "my lab" }, `"my lab" is no domain`},
		{"mode", func(c *pxe.Config) { c.Mode = "relay" }, `DHCP mode "relay": want dhcp, proxy or off`},
		{"unknown machines", func(c *pxe.Config) { c.Unknown = "wipe" }, `unknown machines "wipe": want install, hold or ignore`},
		{"loader", func(c *pxe.Config) { c.Loader = "lilo" }, `loader "lilo": want ipxe, ipxe-native or grub`},
		{"loader of a host", func(c *pxe.Config) { c.Hosts = map[string]pxe.Host{"02:00:00:00:00:01": {Loader: "lilo"}} }, `host 02:00:00:00:00:01: loader "lilo"`},
		{"overlapping networks", subnet("127.2.0.0/16", ""), "networks 127.0.0.0/8 and 127.2.0.0/16 overlap"},
		{"network with bits of a host", subnet("10.1.0.1/24", ""), "network 10.1.0.1/24: want one like"},
		{"range of another network", subnet("10.1.0.0/24", "10.2.0.5"), "is not inside the network of 10.1.0.0/24"},
		{"reservations only", subnet("10.1.0.0/24", ""), ""},
		{"reserved elsewhere", host("02:00:00:00:00:01", "10.1.0.1"), "address 10.1.0.1 of host 02:00:00:00:00:01 is in no network that is served"},
		{"reserved own address", host("02:00:00:00:00:01", "127.0.0.1"), "address 127.0.0.1 of host 02:00:00:00:00:01 is the own address"},
		{"reserved twice", func(c *pxe.Config) {
			host("02:00:00:00:00:01", "127.0.0.9")(c)
			c.Hosts["02:00:00:00:00:02"] = c.Hosts["02:00:00:00:00:01"]
		}, "address 127.0.0.9 is reserved for 02:00:00:00:00:01 and 02:00:00:00:00:02"},
		{"host without a MAC", host("printer", "127.0.0.9"), `host "printer" is no MAC address`},
		{"kernel arguments", func(c *pxe.Config) { c.KernelArgs = "a\nb" }, "control character"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conf := loopback(t)
			test.change(&conf)
			_, err := pxe.New(conf)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// TestDeviceNeeded: on a real address, a device must be named.
func TestDeviceNeeded(t *testing.T) {
	conf := loopback(t)
	conf.DHCPListen = netip.AddrPort{}
	s, err := pxe.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no network device is named") {
		t.Errorf("error %v", err)
	}
}
