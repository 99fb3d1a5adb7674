package lldp_test

import (
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/lldp"
)

// tlv is one in the form of the wire.
func tlv(kind byte, value string) string {
	return string([]byte{kind<<1 | byte(len(value)>>8), byte(len(value))}) + value
}

// begin is what every LLDPDU begins with.
var begin = tlv(1, "\x04\x02\x00\x00\x00\x00\x01") + tlv(2, "\x05gi1/1") + tlv(3, "\x00\x78")

const beginText = "Chassis ID TLV\n\tMAC: 02:00:00:00:00:01\nPort ID TLV\n\tIfname: gi1/1\nTime to Live TLV\n\t120\n"

func text(t *testing.T, data string) string {
	t.Helper()
	pdu, err := lldp.Parse([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return pdu.Text()
}

// TestText: the forms are those of lldptool's output.
func TestText(t *testing.T) {
	long := strings.Repeat("x", 255)
	for name, test := range map[string]struct{ tlvs, want string }{
		"port description":        {tlv(4, "gigabitethernet1/1"), "Port Description TLV\n\tgigabitethernet1/1\n"},
		"system name":             {tlv(5, "Switch POD"), "System Name TLV\n\tSwitch POD\n"},
		"several lines":           {tlv(6, "Cisco NX-OS 6.0(2)\r\nTAC support: http://x\nPort ID TLV\n\tIfname: forged"), "System Description TLV\n\tCisco NX-OS 6.0(2)\n"},
		"control characters":      {tlv(5, "sw\x1b[2J\x00\u202e1\xff"), "System Name TLV\n\tsw[2J1\n"},
		"a long one":              {tlv(5, long), "System Name TLV\n\t" + long + "\n"},
		"an empty one":            {tlv(5, ""), ""},
		"capabilities":            {tlv(7, "\x00\x14\x00\x04"), "System Capabilities TLV\n\tSystem capabilities:  Bridge, Router\n\tEnabled capabilities: Bridge\n"},
		"no capability":           {tlv(7, "\x00\x80\x00\x00"), "System Capabilities TLV\n\tSystem capabilities:  Station Only\n\tEnabled capabilities: \n"},
		"capabilities, malformed": {tlv(7, "\x00\x14\x00"), ""},
		"management IPv4":         {tlv(8, "\x05\x01\x0a\x64\x05\x18\x02\x05\x00\x00\x00\x00"), "Management Address TLV\n\tIPv4: 10.100.5.24\n\tIfindex: 83886080\n"},
		"management IPv6":         {tlv(8, "\x11\x02\xfd\x00"+strings.Repeat("\x00", 13)+"\x01\x03\x00\x00\x00\x07\x00"), "Management Address TLV\n\tIPv6: fd00::1\n\tSystem port number: 7\n"},
		"management MAC":          {tlv(8, "\x07\x06\x02\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00"), "Management Address TLV\n\tMAC: 02:00:00:00:00:01\n\tUnknown interface subtype: 0\n"},
		"management, cut off":     {tlv(8, "\xff\x01\x0a\x64\x05\x18\x02\x05\x00\x00\x00\x00"), ""},
		"management, no address":  {tlv(8, "\x00\x01\x0a\x64\x05\x18\x02\x05\x00\x00\x00\x00"), ""},
		"port VLAN":               {tlv(127, "\x00\x80\xc2\x01\x00\x64"), "Port VLAN ID TLV\n\tPVID: 100\n"},
		"no port VLAN":            {tlv(127, "\x00\x80\xc2\x01\x00\x00"), "Port VLAN ID TLV\n\tPVID: unsupported\n"},
		"VLAN name":               {tlv(127, "\x00\x80\xc2\x03\x00\x64\x07VLAN100"), "VLAN Name TLV\n\tVID 100: Name VLAN100\n"},
		"VLAN name, cut off":      {tlv(127, "\x00\x80\xc2\x03\x00\x64\xffVLAN100"), ""},
		"MAC/PHY":                 {tlv(127, "\x00\x12\x0f\x01\x03\x6c\x01\x00\x1e"), "MAC/PHY Configuration Status TLV\n\tAuto-negotiation supported and enabled\n\tPMD auto-negotiation capabilities: 0x6c01\n\tMAU type: 1000 BaseTFD\n"},
		"MAC/PHY, the last known": {tlv(127, "\x00\x12\x0f\x01\x00\x00\x00\x00\x4e"), "MAC/PHY Configuration Status TLV\n\tAuto-negotiation not supported and not enabled\n\tPMD auto-negotiation capabilities: 0x0000\n\tMAU type: 100G BaseER4\n"},
		"MAC/PHY, unknown":        {tlv(127, "\x00\x12\x0f\x01\x01\x00\x00\x00\x4f"), "MAC/PHY Configuration Status TLV\n\tAuto-negotiation supported and not enabled\n\tPMD auto-negotiation capabilities: 0x0000\n\tMAU type: Unknown [0x004f]\n"},
		"aggregation":             {tlv(127, "\x00\x12\x0f\x03\x01\x00\x00\x00\x0f"), "Link Aggregation TLV\n\tAggregation capable\n\tCurrently not aggregated\n\tAggregated Port ID: 15\n"},
		"frame size":              {tlv(127, "\x00\x12\x0f\x04\x24\x00"), "Maximum Frame Size TLV\n\t9216\n"},
		"another organization":    {tlv(127, "\x00\x01\x42\x02\x23\x28"), "Unidentified Org Specific TLV\n\tOUI: 0x000142, Subtype: 2, Info: 2328\n"},
		"no organization":         {tlv(127, "\x00\x01\x42"), ""},
		"chassis, once more":      {tlv(1, "") + tlv(2, "\x05"), ""},
		"management, the longest": {tlv(8, "\xff\x09"+strings.Repeat("\x01", 254)+"\x02\x00\x00\x00\x01\x00"), "Management Address TLV\n\tNetwork Address Type 9: " + strings.Repeat("01", 254) + "\n\tIfindex: 1\n"},
		"VLAN name, the longest":  {tlv(127, "\x00\x80\xc2\x03\x00\x64\xff"+long), "VLAN Name TLV\n\tVID 100: Name " + long + "\n"},
		"a reserved type":         {tlv(9, "\x01\x02"), "Unidentified TLV\n\ttype:9 0102\n"},
		"behind the end":          {tlv(0, "") + tlv(5, "padding"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(beginText+test.want, text(t, begin+test.tlvs)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	for _, test := range []struct{ chassis, port, want string }{
		{"\x01blade 3", "\x01uplink", "Chassis ID TLV\n\tChassis Component: blade 3\nPort ID TLV\n\tInterface Alias: uplink\n"},
		{"\x05\x01\x0a\x00\x00\x01", "\x04\x02" + strings.Repeat("\x00", 15) + "\x01", "Chassis ID TLV\n\tIPv4: 10.0.0.1\nPort ID TLV\n\tIPv6: ::1\n"},
		{"\x05\x01\x0a", "\x04\x02", "Chassis ID TLV\n\tNetwork Address Type 1: 0a\n"},
		{"\x07sw-1", "\x07510", "Chassis ID TLV\n\tLocal: sw-1\nPort ID TLV\n\tLocal: 510\n"},
		{"\x04\x02\x00", "\x03\x02\x00\x00\x00\x00\x09", "Port ID TLV\n\tMAC: 02:00:00:00:00:09\n"},
		{"\x09x", "\x06\x01\x02", "Port ID TLV\n\tAgent Circuit ID: 0102\n"},
	} {
		if diff := cmp.Diff(test.want+"Time to Live TLV\n\t3\n", text(t, tlv(1, test.chassis)+tlv(2, test.port)+tlv(3, "\x00\x03"))); diff != "" {
			t.Errorf("%q %q (-want +got):\n%s", test.chassis, test.port, diff)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, test := range map[string]struct{ data, want string }{
		"nothing":       {"", "does not begin"},
		"another order": {tlv(2, "\x05x") + tlv(1, "\x04x") + tlv(3, "\x00\x01"), "does not begin"},
		"no port":       {tlv(1, "\x04x") + tlv(2, "\x05") + tlv(3, "\x00\x01"), "does not begin"},
		"no time":       {tlv(1, "\x04x") + tlv(2, "\x05x") + tlv(3, "\x00"), "does not begin"},
		"half a head":   {begin + "\x0a", "TLV 4: it is cut off"},
		"half a TLV":    {begin + "\x0a\x05abc", "TLV 4: 3 bytes of 5 are there"},
		"too long":      {begin + strings.Repeat(tlv(5, "x"), 500), "more than 1500"},
	} {
		if _, err := lldp.Parse([]byte(test.data)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
	if got := strings.Count(text(t, begin+strings.Repeat(tlv(5, "x"), 200)), "System Name"); got != 61 {
		t.Errorf("of 203 TLVs %d are left besides the first three, want 61", got)
	}
}

// TestAnnouncement: what is written is read.
func TestAnnouncement(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 7}
	pdu, err := lldp.Parse(lldp.Announcement("eth0", mac, 30*time.Second))
	if err != nil || pdu.TTL() != 30*time.Second {
		t.Fatalf("%v, %v", pdu.TTL(), err)
	}
	if diff := cmp.Diff("Chassis ID TLV\n\tMAC: 02:00:00:00:00:07\nPort ID TLV\n\tIfname: eth0\nTime to Live TLV\n\t30\nSystem Name TLV\n\tedeploy-agent\n", pdu.Text()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	end, err := lldp.Parse(lldp.Announcement("eth0", mac, 0))
	if err != nil || end.TTL() != 0 || end.Sender() != pdu.Sender() {
		t.Errorf("the end: %v, %v, %q, want that of %q", end.TTL(), err, end.Sender(), pdu.Sender())
	}
}

// TestLikeLLDPTool: testdata/README says where frames and texts come from.
func TestLikeLLDPTool(t *testing.T) {
	frames, err := filepath.Glob("testdata/*.hex")
	if err != nil || len(frames) == 0 {
		t.Fatalf("no frames: %v", err)
	}
	for _, name := range frames {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		frame, err := hex.DecodeString(strings.Join(strings.Fields(string(data)), ""))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.TrimSuffix(name, ".hex") + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.TrimSuffix(string(want), "End of LLDPDU TLV\n"), text(t, string(frame))); diff != "" {
			t.Errorf("%s (-lldptool +got):\n%s", name, diff)
		}
	}
}

// FuzzParse: whatever is on the wire becomes a bounded number of printable lines.
func FuzzParse(f *testing.F) {
	f.Add([]byte(begin + tlv(5, "sw1") + tlv(7, "\x00\x14\x00\x04")))
	f.Add([]byte(begin + tlv(8, "\x05\x01\x0a\x64\x05\x18\x02\x05\x00\x00\x00\x00") + tlv(127, "\x00\x80\xc2\x03\x00\x64\x07VLAN100")))
	f.Add([]byte(begin + tlv(127, "\x00\x12\x0f\x01\x03\x6c\x01\x00\x1e") + tlv(127, "\x00\x12\x0f\x03\x01\x00\x00\x00\x0f")))
	f.Fuzz(func(t *testing.T, data []byte) {
		pdu, err := lldp.Parse(data)
		if err != nil {
			return
		}
		if len(pdu.Sender()) > 2*2*511+1 || pdu.TTL() < 0 {
			t.Errorf("sender %q, %v", pdu.Sender(), pdu.TTL())
		}
		text := pdu.Text()
		if len(text) > 6*lldp.MaxBytes || strings.Count(text, "\n") > 64*4 {
			t.Errorf("%d bytes became %d: %q", len(data), len(text), text)
		}
		for line := range strings.Lines(text) {
			for _, r := range strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "\t") {
				if !unicode.IsPrint(r) {
					t.Errorf("%q is in %q", r, line)
				}
			}
		}
	})
}
