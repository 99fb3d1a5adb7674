package appliance_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edeploy/appliance"
	"edeploy/pxe"
)

func readText(t *testing.T, text string) (appliance.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edeploy.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return appliance.ReadConfig(file)
}

// The reference file says that it shows the defaults: reading it gives what
// an empty file gives.
func TestReferenceFileShowsTheDefaults(t *testing.T) {
	want, err := readText(t, "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := appliance.ReadConfig("edeploy.conf.example")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(), cmpopts.IgnoreFields(appliance.Config{}, "Notes")); diff != "" {
		t.Errorf("edeploy.conf.example differs from the defaults (-default +example):\n%s", diff)
	}
}

func TestSeedFile(t *testing.T) {
	c, err := readText(t, "[SERVER]\n\nHEALTHDIR   = /var/lib/edeploy/health/\nCONFIGDIR   = /srv/config/\nLOCKFILE: /tmp/edeploy.lock\nUSEPXEMNGR  = True\nPXEMNGRURL  = http://192.168.122.1:8000/\nMetadataURL = http://192.168.122.1/%%x\n\n[LAB]\nCONFIGDIR = lab\n")
	if err != nil {
		t.Fatal(err)
	}
	s := c.Deployments["SERVER"]
	if s.ConfigDir != "/srv/config/" || s.LockFile != "/tmp/edeploy.lock" || !s.UsePXEMngr || s.MetadataURL != "http://192.168.122.1/%x" {
		t.Errorf("SERVER = %+v", s)
	}
	if lab := c.Deployments["LAB"]; !filepath.IsAbs(lab.ConfigDir) || filepath.Base(lab.ConfigDir) != "lab" {
		t.Errorf("LAB = %+v, want CONFIGDIR below the file's directory", lab)
	}
}

func TestPortsReachTheBootParameters(t *testing.T) {
	c, err := readText(t, "[NETWORK]\nADDRESS=192.168.7.1/24\n[HTTP]\nPORT=9000\n[RSYNC]\nPORT=1515\n[BOOT]\nARGS=RSERV_PORT=2020 ONFAILURE=console | console=ttyS0 |\n")
	if err != nil {
		t.Fatal(err)
	}
	want := "SERV=192.168.7.1 HTTP_PORT=9000 RSERV_PORT=2020 ONFAILURE=console | console=ttyS0 |"
	if got := c.Boot.Args.String(); got != want {
		t.Errorf("boot parameters:\n got %s\nwant %s", got, want)
	}
}

// TestAddons: their names reach the agent, behind those of ARGS.
func TestAddons(t *testing.T) {
	for text, want := range map[string]string{
		"ADDONS = megacli/8.07.14 python3\n":         "megacli/8.07.14,python3",
		"ARGS = ADDONS=python3\nADDONS = a/1, b/2\n": "python3,a/1,b/2",
		"ADDONS =\n":           "",
		"ADDONS = ../x\n":      `[BOOT] ADDONS: add-on "../x": role name ".." starts with "."`,
		"ADDONS = a/../../b\n": `version name "../../b" starts with`,
		"ADDONS = " + strings.Repeat("a", 65) + "\n": "want ROLE/VERSION, or a name of a-z, 0-9 and dashes",
		"ARGS = ADDONS=Python\nADDONS = python3\n":   `[BOOT] ARGS = ADDONS=Python: want kernel parameter ADDONS=Python: add-on "Python"`,
	} {
		c, err := readText(t, "[BOOT]\n"+text)
		if err != nil && !strings.Contains(err.Error(), want) || err == nil && c.Boot.Args.Addons != want {
			t.Errorf("%q: %q, %v, want %q", text, c.Boot.Args.Addons, err, want)
		}
	}
}

// What a host's operator did not name is said, with the place that is used;
// and what is set in vain.
func TestNotes(t *testing.T) {
	for text, want := range map[string][]string{
		"[SERVER]\nCONFIGDIR=c\n[STATE]\nDIR=s\n[IMAGES]\nTOP=i\n[BOOT]\nDIR=b\n": nil,
		"[SERVER]\nCONFIGDIR=c\n[IMAGES]\nTOP=i\n[BOOT]\nDIR=b\n": {
			"machine records and leases: in /var/lib/edeploy/server, because edeploy.conf has no [STATE] DIR"},
		"[SERVER]\nCONFIGDIR=c\nHEALTHDIR=\n[LAB]\nHEALTHDIR=/h\n[STATE]\nDIR=s\n[IMAGES]\nTOP=i\n[BOOT]\nDIR=b\n": {
			"[LAB] HEALTHDIR is not supported: health checks are not taken, and nothing is written there; remove it from edeploy.conf"},
		"[STATE]\nDIR=s\n[BOOT]\nDIR=b\n": {
			"configuration: in /var/lib/edeploy/config, because edeploy.conf has no [SERVER] CONFIGDIR",
			"images: in /var/lib/debootstrap, because edeploy.conf has no [IMAGES] TOP"},
	} {
		c, err := readText(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c.Notes, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// On a network that is others' too, unknown machines are not installed unless
// somebody says so.
func TestUnknownMachines(t *testing.T) {
	for text, want := range map[string]pxe.Unknown{
		"":                                      pxe.UnknownInstall,
		"[DHCP]\nMODE=proxy\n":                  pxe.UnknownHold,
		"[DHCP]\nMODE=off\n":                    pxe.UnknownHold,
		"[DHCP]\nMODE=proxy\nUNKNOWN=install\n": pxe.UnknownInstall,
		"[DHCP]\nUNKNOWN=Ignore\n":              pxe.UnknownIgnore,
	} {
		c, err := readText(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if c.DHCP.Own.Unknown != want {
			t.Errorf("%q: unknown machines: %s, want %s", text, c.DHCP.Own.Unknown, want)
		}
	}
}

// TestSubnets reads further networks and what is said about machines.
func TestSubnets(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	text := "# rack 1\n52:54:00:12:34:56 10.1.0.7\n52-54-00-12-34-57 hold # a printer\n52:54:00:12:34:58 10.0.3.9 ignore GRUB\n"
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := readText(t, "[DHCP]\nLEASE=2h\nLOADER=grub\nNTP=10.0.3.2, 10.0.3.3\nHOSTS="+hosts+"\n[SUBNET 10.2.0.0/24]\n"+
		"[SUBNET 10.1.0.0/24]\nRANGE=10.1.0.50-10.1.0.60\nROUTER=10.1.0.1\nDNS=10.1.0.2\nDOMAIN=lab.example\nMTU=9000\nUNKNOWN=ignore\nLOADER=ipxe\nLEASE=1h\n")
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	want := []pxe.Subnet{
		{Prefix: netip.MustParsePrefix("10.1.0.0/24"), First: a("10.1.0.50"), Last: a("10.1.0.60"), LeaseTime: time.Hour, Unknown: pxe.UnknownIgnore, Loader: pxe.LoaderIPXE,
			Settings: pxe.Settings{Router: a("10.1.0.1"), DNS: []netip.Addr{a("10.1.0.2")}, Domain: "lab.example", MTU: 9000}},
		{Prefix: netip.MustParsePrefix("10.2.0.0/24"), LeaseTime: 2 * time.Hour, Unknown: pxe.UnknownInstall, Loader: pxe.LoaderGRUB},
	}
	comparable := cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})
	if diff := cmp.Diff(want, c.DHCP.Subnets, comparable, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("subnets (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]netip.Addr{a("10.0.3.2"), a("10.0.3.3")}, c.DHCP.Own.NTP, comparable); diff != "" {
		t.Errorf("time servers (-want +got):\n%s", diff)
	}
	wantHosts := map[string]pxe.Host{
		"52:54:00:12:34:56": {Address: a("10.1.0.7")},
		"52:54:00:12:34:57": {Unknown: pxe.UnknownHold},
		"52:54:00:12:34:58": {Address: a("10.0.3.9"), Unknown: pxe.UnknownIgnore, Loader: pxe.LoaderGRUB},
	}
	if diff := cmp.Diff(wantHosts, c.DHCP.Hosts, comparable); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	for text, want := range map[string]string{
		"printer 10.0.3.9\n":                                   "line 1: \"printer\" is no MAC address",
		"\n52:54:00:12:34:56 10.0.3\n":                         "line 2: \"10.0.3\" is neither an IPv4 address nor install, hold, ignore, ipxe or grub",
		"52:54:00:12:34:56 10.0.3.9 10.0.3.8\n":                "line 1: \"10.0.3.8\": want MAC ADDRESS",
		"52:54:00:12:34:56 hold\n52:54:00:12:34:56 10.0.3.9\n": "line 2: 52:54:00:12:34:56 is there twice",
	} {
		if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readText(t, "[DHCP]\nHOSTS="+hosts+"\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestBadFiles(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "[HTTP]\nPROT=80\n", "[HTTP] has an unknown key PROT; known are PORT, NAMES"},
		{"unknown key of a deployment", "[SERVER]\nCONFDIR=/x\n", "[SERVER] has an unknown key CONFDIR"},
		{"port", "[HTTP]\nPORT=web\n", "[HTTP] PORT = web: want a port from 1 to 65535"},
		{"address", "[NETWORK]\nADDRESS=10.0.3.1\n", "[NETWORK] ADDRESS = 10.0.3.1: want an IPv4 address with its prefix length"},
		{"range outside", "[DHCP]\nRANGE=10.0.4.1-10.0.4.9\n", "inside the provisioning network 10.0.3.0/24"},
		{"range holds own address", "[DHCP]\nRANGE=10.0.3.1-10.0.3.9\n", "without the server's own address"},
		{"lease", "[DHCP]\nLEASE=5s\n", "at least 1m"},
		{"mode", "[DHCP]\nMODE=relay\n", "[DHCP] MODE = relay: want dhcp, off or proxy"},
		{"unknown machines", "[DHCP]\nUNKNOWN=wipe\n", "[DHCP] UNKNOWN = wipe: want hold, ignore or install"},
		{"loader", "[DHCP]\nLOADER=lilo\n", "[DHCP] LOADER = lilo: want grub or ipxe"},
		{"MTU", "[DHCP]\nMTU=9\n", "[DHCP] MTU = 9: want a number of bytes from 576 to 65535"},
		{"subnet", "[SUBNET lab]\n", "[SUBNET lab]: want a network, such as [SUBNET 10.1.0.0/24]"},
		{"key of a subnet", "[SUBNET 10.1.0.0/24]\nMODE=proxy\n", "[SUBNET 10.1.0.0/24] has an unknown key MODE"},
		{"range of a subnet", "[SUBNET 10.1.0.0/24]\nRANGE=10.0.3.1-10.0.3.9\n", "inside the provisioning network 10.1.0.0/24"},
		{"no hosts", "[DHCP]\nHOSTS=no/such/file\n", "no/such/file"},
		{"boot args", "[BOOT]\nARGS=HTTP_PORT=x\n", "HTTP_PORT=x: want a number"},
		{"flag", "[NETWORK]\nCONFIGURE=perhaps\n", "want yes or no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := readText(t, test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
	if _, err := appliance.ReadConfig("no/such/file"); err == nil || !strings.Contains(err.Error(), "no/such/file") {
		t.Errorf("missing file: %v", err)
	}
}
