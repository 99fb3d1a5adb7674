package pxe

import (
	"net/netip"
	"testing"
)

// TestLoaderOf: what is said of a machine counts before what is said of its
// network, and that before the default.
func TestLoaderOf(t *testing.T) {
	const host, other = "52:54:00:00:00:01", "52:54:00:00:00:02"
	c := Config{Address: netip.MustParsePrefix("192.168.122.1/24"), Loader: LoaderGRUB,
		Subnets: []Subnet{{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Loader: LoaderIPXE}, {Prefix: netip.MustParsePrefix("10.2.0.0/24")}},
		Hosts:   map[string]Host{host: {Loader: LoaderIPXE}, other: {Unknown: UnknownHold}}}
	for _, test := range []struct {
		mac, at string
		want    Loader
	}{
		{host, "192.168.122.1", LoaderIPXE},
		{other, "192.168.122.1", LoaderGRUB},
		{other, "10.1.0.254", LoaderIPXE},
		{other, "10.2.0.254", LoaderGRUB},
		{other, "172.16.0.1", LoaderGRUB},
	} {
		if got := c.loader(test.mac, "", netip.MustParseAddr(test.at)); got != test.want {
			t.Errorf("%s at %s: %s, want %s", test.mac, test.at, got, test.want)
		}
	}
}
