package detect_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/detect"
	"edeploy/agent/internal/lldp"
)

// neighbour is a machine that knows nothing but what a switch says.
func neighbour(text string, err error) detect.Source {
	return detect.Source{FS: fstest.MapFS{"sys/class/net": {Mode: 0o755 | 1<<31}},
		LLDP: func(context.Context) (map[string]string, error) {
			if text == "" {
				return nil, err
			}
			return map[string]string{"eth0": text}, err
		}}
}

func lldpFacts(t *testing.T, source detect.Source) (found []string) {
	t.Helper()
	for _, f := range describe(t, source) {
		if f.Category == "lldp" || f.ID == "detection" {
			found = append(found, f.ID+" "+f.Field+" = "+f.Text())
		}
	}
	return found
}

// TestNeighbours: facts are those that the original makes of lldptool's output
// (tests/test_detect_utils.py there).
func TestNeighbours(t *testing.T) {
	for _, test := range []struct {
		name string
		from detect.Source
		want []string
	}{
		{"a switch", load(t, "server").Source(), []string{
			"eno1 Chassis ID/MAC = f8:b1:56:15:e6:c6",
			"eno1 Port ID/Ifname = gi1_1",
			"eno1 Time to Live = 120",
			"eno1 MAC_PHY Configuration Status = Auto-negotiation supported and enabled",
			"eno1 MAC_PHY Configuration Status/PMD auto-negotiation capabilities = 0x6c01",
			"eno1 MAC_PHY Configuration Status/PMD auto-negotiation capabilities/MAU type = 1000 BaseTFD",
			"eno1 Port Description = gigabitethernet1_1",
			"eno1 System Name = Switch POD",
			"eno1 System Description = R1-2401 VRTX 1Gb Switch Module",
			"eno1 System Capabilities/System capabilities = Bridge",
			"eno1 System Capabilities/System capabilities/Enabled capabilities = Bridge",
		}},
		{"a richer one", load(t, "dell-r730").Source(), []string{
			"eno2 Chassis ID/MAC = 58:f3:9c:81:ad:95",
			"eno2 Port ID/Ifname = Ethernet1_14",
			"eno2 Time to Live = 120",
			"eno2 Port Description = SRV-51D4-14",
			"eno2 System Name = AC3K-51D4-05.local.example",
			"eno2 System Description = Cisco Nexus Operating System (NX-OS) Software 6.0(2)U2(5)",
			"eno2 System Capabilities/System capabilities = Bridge, Router",
			"eno2 System Capabilities/System capabilities/Enabled capabilities = Bridge, Router",
			"eno2 Management Address/IPv4 = 10.100.5.24",
			"eno2 Management Address/IPv4/Ifindex = 83886080",
			"eno2 Management Address/IPv6 = 2001:db8:41::7",
			"eno2 Management Address/IPv6/Ifindex = 83886080",
			"eno2 CEE DCBX/Control TLV/SeqNo = 1, AckNo: 1",
			"eno2 CEE DCBX/Control TLV/SeqNo/Priority Groups TLV = Enabled, Not Willing, No Error",
			"eno2 CEE DCBX/Control TLV/SeqNo/Priority Groups TLV/PGID Priorities = 0:[0,1,2,3,4,5,6,7]",
			"eno2 CEE DCBX/Control TLV/SeqNo/Priority Groups TLV/PGID Priorities/Number of TC's supported = 1",
			"eno2 Unidentified Org Specific/OUI = 0x000142, Subtype: 2, Info: 23282328232823282328232823282328",
			"eno2 Port VLAN ID/PVID = 100",
		}},
		{"nobody", neighbour("", nil), nil},
		{"no right to listen", neighbour("", errors.New("eth0: not permitted")), []string{"detection skipped = lldp: eth0: not permitted"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, lldpFacts(t, test.from)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzNeighbour: whatever is on the wire becomes a bounded number of printable
// facts of its own category.
func FuzzNeighbour(f *testing.F) {
	f.Add("\x02\x07\x04\x02\x00\x00\x00\x00\x01\x04\x06\x05gi1/1\x06\x02\x00\x78\x0a\x07a:b:c/d\x00\x00")
	f.Fuzz(func(t *testing.T, data string) {
		pdu, err := lldp.Parse([]byte(data))
		if err != nil {
			return
		}
		h, err := neighbour(pdu.Text(), nil).Hardware(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		facts := 0
		for _, fact := range h {
			if fact.Category != "lldp" {
				continue
			}
			facts++
			if strings.ContainsFunc(fact.Field+fact.Text(), func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q", fact)
			}
		}
		if facts > 64*3 {
			t.Errorf("%d facts", facts)
		}
	})
}
