package raidtool_test

import (
	"strings"
	"testing"

	"edeploy/agent/internal/raidtool"

	"github.com/google/go-cmp/cmp"
)

// The programs' answers of whole machines are in the tests of detect and
// configure; here is what is odd.

func TestControllers(t *testing.T) {
	const text = "\nSmart Array P420 in Slot 2                (sn: PDKRH0ARH4F1R6)\nSmart Array P440ar in Slot 0 (Embedded)   (sn: PACCR9SXZ190D4P )\n" +
		"Smart HBA H240ar in Slot 3\nSmart Array P800 in Slot 99999999999999999999 (sn: X)\n"
	want := []raidtool.Controller{{2, "Smart Array P420", "PDKRH0ARH4F1R6"}, {0, "Smart Array P440ar", "PACCR9SXZ190D4P"}, {3, "Smart HBA H240ar", ""}}
	if diff := cmp.Diff(want, raidtool.Controllers(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDrives(t *testing.T) {
	physical := func(id string, facts ...string) raidtool.Drive {
		return raidtool.Drive{ID: id, Facts: [3]string(facts)}
	}
	for name, tt := range map[string]struct {
		text string
		want []raidtool.Group
	}{
		"arrays": {"\nSmart Array P420 in Slot 2\n\n   array A (Failed)\n\n      physicaldrive 1I:1:2 (port 1I:box 1:bay 2, SATA, 1 TB, OK)\n\n   array B\n\n   unassigned\n\n      physicaldrive 2I:1:8 (port 2I:box 1:bay 8, Solid State SATA, 100 GB, OK, spare)\n",
			[]raidtool.Group{{"array A (Failed)", []raidtool.Drive{physical("1I:1:2", "SATA", "1 TB", "OK")}}, {"array B", nil}, {"unassigned", []raidtool.Drive{physical("2I:1:8", "Solid State SATA", "100 GB", "OK")}}}},
		"newer programs": {"\r\n   Array A\r\n\r\n      physicaldrive 1I:1:2 (port 1I:box 1:bay 2, SAS HDD, 1 TB, OK)\r\n   Unassigned\r\n      physicaldrive 1I:1:3 (port 1I:box 1:bay 3, SAS HDD, 1 TB\r\n",
			[]raidtool.Group{{"Array A", []raidtool.Drive{physical("1I:1:2", "SAS HDD", "1 TB", "OK")}}, {"Unassigned", []raidtool.Drive{physical("1I:1:3", "SAS HDD", "1 TB", "")}}}},
		"no arrays": {"Smart Array P840ar in Slot 0 (HBA Mode)\n\n   HBA Drives\n\n      physicaldrive 1I:1:13 (port 1I:box 1:bay 13, SAS, 900 GB, OK)\n",
			[]raidtool.Group{{"HBA Drives", []raidtool.Drive{physical("1I:1:13", "SAS", "900 GB", "OK")}}}},
		"nothing": {"\nError: The specified controller does not have any physical drives on it.\n", nil},
	} {
		if diff := cmp.Diff(tt.want, raidtool.PhysicalDrives(tt.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestLogicalProperties(t *testing.T) {
	const text = "      Logical Drive: 1\n         Caching:  Enabled\n         Disk Name: /dev/sda          Mount Points: None\n         Mirror Group 0:\n" +
		"            physicaldrive 2I:1:7 (port 2I:box 1:bay 7, Solid State SATA, 100 GB, OK)\n         Mirror Group 1:\n            somewhere else\n         PCI: 0000:03\n         a:b:c:d\n         Last:\n"
	want := []raidtool.Property{{"Logical Drive", "1"}, {"Caching", "Enabled"}, {"Disk Name", "/dev/sda"}, {"Mount Points", "None"},
		{"Mirror Group 0", "2I:1:7"}, {"Mirror Group 1", "somewhere else"}, {"PCI", "0000"}}
	if diff := cmp.Diff(want, raidtool.LogicalProperties(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/dev/sda", "/dev/sdb"}, raidtool.Devices(text+"Disk Name: /dev/sdb\n   Disk Name: Unknown\n")); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
}

func TestRefusal(t *testing.T) {
	for text, want := range map[string]struct {
		why     string
		nothing bool
	}{
		"\nSmart Array P420 in Slot 2\n":                                               {},
		"\nError: Syntax error at \"force\"\r\n\n":                                     {"Syntax error at \"force\"", false},
		"\nError: The specified device does not have any logical drives.\n":            {"The specified device does not have any logical drives.", true},
		"Error: The specified controller does not have any physical drives on it.\n\n": {"The specified controller does not have any physical drives on it.", true},
	} {
		if why, nothing := raidtool.Refusal(text); why != want.why || nothing != want.nothing {
			t.Errorf("%q: %q, %v", text, why, nothing)
		}
	}
}

func TestEnclosures(t *testing.T) {
	const text = "\n    Number of enclosures on adapter 0 -- 2\n\n    Enclosure 0:\n    Device ID                     : 032.\n    Enclosure type : SES\n    Enclosure 12:\n    Device ID : 8\n\nExit Code: 0x00\n"
	want := []raidtool.Enclosure{{0, []raidtool.Property{{"DeviceId", "32"}, {"EnclosureType", "SES"}}}, {12, []raidtool.Property{{"DeviceId", "8"}, {"ExitCode", "0x00"}}}}
	if diff := cmp.Diff(want, raidtool.Enclosures(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzText: whatever a program says, what is read of it was there.
func FuzzText(f *testing.F) {
	f.Add("\nSmart Array P440ar in Slot 0 (Embedded)   (sn: PDNLH0BRH8R2AB)\n")
	f.Add("   array A\n\n      physicaldrive 1I:1:1 (port 1I:box 1:bay 1, SAS, 600 GB, OK)\n      logicaldrive 1 (93.1 GB, RAID 1, OK)\n")
	f.Add("Disk Name: /dev/sda          Mount Points: None\n         Mirror Group 0:\n")
	f.Add("    Enclosure 0:\n    Device ID                     : 32\nExit Code: 0x01")
	f.Fuzz(func(t *testing.T, text string) {
		in := func(part string) {
			if !strings.Contains(text, part) {
				t.Errorf("%q is not in the text", part)
			}
		}
		for _, c := range raidtool.Controllers(text) {
			in(c.Model)
			in(c.Serial)
		}
		for _, group := range append(raidtool.PhysicalDrives(text), raidtool.LogicalDrives(text)...) {
			in(group.Title)
			for _, d := range group.Drives {
				in(d.ID)
				in(d.Facts[0])
			}
		}
		for _, device := range raidtool.Devices(text) {
			in(device)
		}
		for _, p := range raidtool.LogicalProperties(text) {
			in(p.Key)
			in(p.Value)
		}
		for _, e := range raidtool.Enclosures(text) {
			raidtool.Value(e.Properties, "DeviceId")
		}
		raidtool.ControllerProperties(text)
		raidtool.DriveProperties(text)
		raidtool.Properties(text)
		why, _ := raidtool.Refusal(text)
		in(why)
	})
}
