package appliance_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		if c.DHCP.Unknown != want {
			t.Errorf("%q: unknown machines: %s, want %s", text, c.DHCP.Unknown, want)
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
		{"mode", "[DHCP]\nMODE=relay\n", "[DHCP] MODE = relay: want dhcp, proxy or off"},
		{"unknown machines", "[DHCP]\nUNKNOWN=wipe\n", "[DHCP] UNKNOWN = wipe: want install, hold or ignore"},
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
