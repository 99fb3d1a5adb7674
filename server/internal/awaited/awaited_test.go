package awaited_test

import (
	"strings"
	"testing"

	"edeploy/server/internal/awaited"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	one := awaited.Machine{Line: 1, MAC: "52:54:00:12:34:56", Name: "node1", Section: "LAB", Rack: "R1", Unit: "12"}
	for _, tt := range []struct {
		name, text string
		want       []awaited.Machine
	}{
		{"by address", "52:54:00:12:34:56,node1,LAB,R1,12\n", []awaited.Machine{one}},
		{"of another form, with a mark of the byte order", "\ufeff52-54-00-12-34-56, node1 ,LAB,R1,12\r\n", []awaited.Machine{one}},
		{"by serial", "CZ2D1X0F3K\n\n# a comment\nAB12-CD34-EF56-0001,node2\n", []awaited.Machine{{Line: 1, Serial: "CZ2D1X0F3K"}, {Line: 4, Serial: "AB12-CD34-EF56-0001", Name: "node2"}}},
		{"a heading", "Name,Unit,MAC,Serial\nnode1,12,52:54:00:12:34:56,CZ1\nnode2,,,A1B2C3D4E5F6\n", []awaited.Machine{
			{Line: 2, MAC: "52:54:00:12:34:56", Serial: "CZ1", Name: "node1", Unit: "12"}, {Line: 3, Serial: "A1B2C3D4E5F6", Name: "node2"}}},
		{"a heading of the usual order", "MAC or serial,name\nCZ1,node1\n", []awaited.Machine{{Line: 2, Serial: "CZ1", Name: "node1"}}},
		{"quoted", "\"CZ1\",node1,,\"row 3, rack 1\"\n", []awaited.Machine{{Line: 1, Serial: "CZ1", Name: "node1", Rack: "row 3, rack 1"}}},
	} {
		got, err := awaited.Parse(tt.text)
		if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ text, err string }{
		{"", "line 1: the list has no machines"},
		{"mac,name\n", "line 1: the list has no machines"},
		{"CZ1\n\n52:54:00:12:34:5,node1\n", "line 3: \"52:54:00:12:34:5\" is no MAC address"},
		{"52:54:00:12:34:5O\n", "line 1: \"52:54:00:12:34:5O\" is no MAC address"},
		{"ff:ff:ff:ff:ff:ff\n", "line 1: \"ff:ff:ff:ff:ff:ff\" is no MAC address"},
		{"To be filled by O.E.M.,node1\n", "line 1: the serial \"To be filled by O.E.M.\" tells no machine"},
		{"CZ1,node1\nCZ2,Node1\n", "line 2: the name Node1 is in line 1 already"},
		{"CZ1\ncz1\n", "line 2: the serial cz1 is in line 1 already"},
		{"52:54:00:12:34:56\n52-54-00-12-34-56\n", "line 2: the MAC address 52:54:00:12:34:56 is in line 1 already"},
		{"CZ1,a b\n", "line 1: name \"a b\""},
		{"CZ1,52:54:00:12:34:56\n", "line 1: name "},
		{",node1\n", "line 1: a MAC address or a serial is missing"},
		{"CZ1,a,b,c,d,e\n", "line 1: it has 6 fields, want 5"},
		{"mac,height\n", "line 1: \"height\" is no column"},
		{"mac,mac\n", "line 1: the column mac is there twice"},
		{"CZ1\nCZ2,\"a\n", "line 2: "},
		{"CZ1\n\xff\n", "line 2: it is no UTF-8 text"},
		{"CZ1,n,s,\x1b[2J\n", "line 1: rack"},
		{strings.Repeat("x", 65) + "\n", "line 1: mac or serial"},
	} {
		all, err := awaited.Parse(tt.text)
		if err == nil || !strings.HasPrefix(err.Error(), tt.err) || all != nil {
			t.Errorf("%q: %v %v, want %q", tt.text, all, err, tt.err)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than one line: %v", tt.text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("mac,serial,name,section,rack,unit\n52:54:00:12:34:56,CZ1,node1,LAB,R1,12\n")
	f.Add("CZ1,node1\n\"a\nb\",c\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := awaited.Parse(text)
		if err != nil && (all != nil || !strings.HasPrefix(err.Error(), "line ")) {
			t.Errorf("%v with %d machines", err, len(all))
		}
		line := 0
		for _, m := range all {
			if m.Line <= line || m.MAC == "" && m.Serial == "" || wire.NormalMAC(m.MAC) != m.MAC {
				t.Errorf("%+v after line %d", m, line)
			}
			line = m.Line
		}
	})
}
