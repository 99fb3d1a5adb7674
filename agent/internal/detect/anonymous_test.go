package detect_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"edeploy/agent/internal/detect"
	"edeploy/server/wire"
)

// secrets of the recorded machines, as a person would look for them. Those of
// hexadecimal digits are also looked for as bytes, and as text of bytes.
var secrets = map[string][]string{
	"dell-r730": {"7QX3Z52", "CN7475163S00AB", "RACK-0417", "0051-5810-8033-b7c04f5a3532", "S0K3A1C0", "40A2C0", "CVFT7342001B1P6DGN",
		"11:22:31", "11-22-31", "10.20.0", "10.20.8.117", "172.16.9.40", "oobmonitor7", "74F01AB", "a1b2c3",
		"81:ad:95", "AC3K-51D4-05", "10.100.5.24", "2001:db8:41"},
	"hp-dl380":      {"CZJ5120ABC", "PDNLH0BRH8R2AB", "KWK11XYZ0018", "BTYS7431004N1P9DGN", "0a:0b:1", "10.30.4.21", "008e:1a0", "1c4a5b6c7d8e", "5a43-4a35", "H12A0912"},
	"nvme-uefi":     {"S411795X1603512", "UM213S004711", "S5XANE0R7016", "4a:5b:6c", "3cecef4a5b6c", "10.40.1.9", "2001:db9:40", "H0KE00031A"},
	"broken-smbios": {"WD-WCC2EX123456", "WCC2EX123456", "2b3c4d5e6", "12:34:56", "10.0.3.77", "9A3D1C77"},
	"disks24":       {"S298734X8A12345", "AC1F6B112233", "11:22:33", "ZM18AS012345", "ZA1B07XY", "c1d2e", "4C530001230519105403", "10.50.0", "WD-WXC0CA9A1234", "Y106CABRAR200408", "192.168.1.100"},
}

// fallacious are fields that an anonymous recording may describe otherwise: who
// the machine is.
var otherwise = regexp.MustCompile(`(?i)serial|uuid|guid|wwn|asset|^id$|-id$|ipv4|address|community|gateway|mac|cmdline|inquiry|sn$|^system name$`)

func TestAnonymous(t *testing.T) {
	for name, list := range secrets {
		t.Run(name, func(t *testing.T) {
			rec := load(t, name)
			anonymous := rec.Anonymous([]byte("key"))
			text := everything(t, anonymous)
			for _, secret := range list {
				if !strings.Contains(everything(t, rec), strings.ToLower(secret)) {
					t.Errorf("%s is not in the recording: what does the test look for?", secret)
				}
				for _, form := range []string{secret, hex.EncodeToString([]byte(secret))} {
					if i := strings.Index(text, strings.ToLower(form)); i >= 0 {
						t.Errorf("%s is still there: ...%q...", secret, text[max(0, i-60):min(len(text), i+60)])
					}
				}
			}
			sameMachine(t, describe(t, rec.Source()), describe(t, anonymous.Source()))
		})
	}
}

// everything is a recording as text in lower case: as it is sent, and binary
// files in hexadecimal and as they are.
func everything(t *testing.T, rec detect.Recording) string {
	t.Helper()
	text, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	all := string(text)
	for _, data := range rec.Binary {
		all += "\n" + hex.EncodeToString(data) + "\n" + string(data)
		all = strings.ReplaceAll(all, base64.StdEncoding.EncodeToString(data), "")
	}
	for _, answers := range rec.NVMe {
		all += "\n" + hex.EncodeToString(answers.Identify) + "\n" + string(answers.Identify)
	}
	return strings.ToLower(all)
}

// sameMachine holds the two descriptions against each other: the same facts in
// the same order, and what says who the machine is is otherwise.
func sameMachine(t *testing.T, was, is wire.Hardware) {
	t.Helper()
	names := func(h wire.Hardware) (list []string) {
		for _, f := range h {
			list = append(list, f.Category+" "+f.ID+" "+f.Field)
		}
		slices.Sort(list) // links of a disk are in the order of their names
		return list
	}
	if a, b := names(was), names(is); !slices.Equal(a, b) {
		t.Fatalf("%d facts became %d", len(a), len(b))
	}
	changed := 0
	for i, f := range was {
		switch {
		case f.Text() == is[i].Text():
		case otherwise.MatchString(f.Field):
			changed++
		default:
			t.Errorf("%v became %v", f, is[i])
		}
	}
	if changed < 5 {
		t.Errorf("only %d facts are otherwise", changed)
	}
	if a, b := was.Identity(), is.Identity(); a.UUID != "" && a.UUID == b.UUID || a.Serial == b.Serial || slices.Equal(a.MACs, b.MACs) {
		t.Errorf("the identity %v became %v", a, b)
	}
}

// The same is replaced by the same, in every form; another key replaces otherwise.
func TestAnonymousConsistent(t *testing.T) {
	rec := detect.Recording{
		Files: map[string]string{
			"sys/class/dmi/id/product_serial": "AB12CD34\n",
			"sys/class/dmi/id/board_serial":   ".AB12CD34.XYZ9876.\n",
			"sys/devices/x/net/eth0/address":  "52:54:00:ab:cd:ef\n",
			"sys/devices/x/net/bond0/address": "52:54:00:AB:CD:EF\n",
			"proc/cmdline":                    "BOOTIF=01-52-54-00-ab-cd-ef SERV=192.168.7.1 IP=192.168.7.9/24 quiet version=1.2.3\n",
			"sys/class/dmi/id/product_name":   "Model AB12\n",
		},
		Programs:  map[string]detect.Program{"x": {Output: detect.Output{Text: "Serial Number: ab12cd34\nFirmware: 4.4.2.1\nhost 192.168.7.9\n"}}},
		Addresses: map[string][]netip.Prefix{"eth0": {netip.MustParsePrefix("192.168.7.9/24")}},
	}
	a, again, other := rec.Anonymous([]byte("1")), rec.Anonymous([]byte("1")), rec.Anonymous([]byte("2"))
	serial := strings.TrimSpace(a.Files["sys/class/dmi/id/product_serial"])
	mac := strings.TrimSpace(a.Files["sys/devices/x/net/eth0/address"])
	if !regexp.MustCompile(`^[A-Z]{2}[0-9]{2}[A-Z]{2}[0-9]{2}$`).MatchString(serial) || serial == "AB12CD34" {
		t.Errorf("the serial number became %q", serial)
	}
	if !strings.HasPrefix(mac, "52:54:00:") || mac == "52:54:00:ab:cd:ef" {
		t.Errorf("the address became %q", mac)
	}
	for file, want := range map[string]string{
		"sys/devices/x/net/bond0/address": strings.ToUpper(mac),
		"sys/class/dmi/id/product_name":   "Model AB12", // a part of it is something else
		"proc/cmdline": "BOOTIF=01-" + strings.ReplaceAll(mac, ":", "-") +
			" SERV=198.18.0.1 IP=198.18.0.9/24 quiet version=1.2.3",
	} {
		if got := strings.TrimSpace(a.Files[file]); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	if got, want := a.Programs["x"].Text, "Serial Number: "+strings.ToLower(serial)+"\nFirmware: 4.4.2.1\nhost 198.18.0.9\n"; got != want {
		t.Errorf("the program says %q, want %q", got, want)
	}
	if got := a.Addresses["eth0"][0].String(); got != "198.18.0.9/24" {
		t.Errorf("the card has %s", got)
	}
	if everything(t, a) != everything(t, again) || everything(t, a) == everything(t, other) {
		t.Error("the key does not decide what it becomes")
	}
}

// A recording may be anything: nothing in it ends the program.
func FuzzAnonymous(f *testing.F) {
	f.Add("sys/firmware/dmi/tables/DMI", []byte("\x01\x1b\x00\x00\x01\x02\x03\x04"), "Serial Number: x1234")
	f.Add("sys/x/device/vpd_pg83", []byte("\x00\x83\x00\x0c\x01\x03\x00\x08\x50\x00\xc5\x00\x01\x02\x03\x04"), "WWN: 5000c50001020304")
	f.Add("sys/class/net/eth0/address", []byte("52:54:00:12:34:56"), "(sn: PDNLH0BRH8R2AB)")
	f.Fuzz(func(t *testing.T, name string, content []byte, output string) {
		rec := detect.Recording{Files: map[string]string{name: string(content)}, Binary: map[string][]byte{name + "2": content},
			Links: map[string]string{"dev/disk/by-id/" + output: "../../sda"}, Programs: map[string]detect.Program{"p": {Output: detect.Output{Text: output}}}}
		anonymous := rec.Anonymous([]byte("key"))
		for _, data := range anonymous.Binary {
			if len(data) != len(content) {
				t.Errorf("%d bytes became %d", len(content), len(data))
			}
		}
	})
}
