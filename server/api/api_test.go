package api_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

var (
	noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	web  = wire.ImageRef{Role: "web", Version: "D12-F.1.0.0"}
)

// values has every type of the API once, with every field set. A new field
// belongs here and into testdata.
func values() map[string]any {
	entry := map[string]any{"ip": "10.0.0.1", "used": 1.0}
	line := api.HistoryLine{Time: noon, Step: "transfer", Status: "done", Seconds: 34.2, Message: "401 MB"}
	problem := api.Problem{Section: "LAB", File: "vm.specs", Line: 3, Column: 7, Text: "vm.specs:3:7: want a tuple", Warning: true, Time: &noon}
	image := api.Image{ImageRef: web, Complete: true, Entries: 12, Bytes: 401, ArchiveBytes: 99, Published: noon, Broken: "unreadable"}
	return map[string]any{
		"machine": api.Machine{ID: "m1", DisplayName: "node1", MACs: []string{"52:54:00:12:34:56"}, FormerMACs: []string{"52:54:00:12:34:55"},
			UUID: "u", Serial: "s", Name: "product-s", Hardware: "product-s.hw", Section: "LAB", BootSection: "SERVER", State: "installed", Since: noon,
			Boot: "auto", NextBoot: wire.BootLocal, Loader: "auto", Model: "ACME Rack Node",
			Loaders: []api.FirmwareLoader{{MAC: "52:54:00:12:34:56", Firmware: "uefi-x64", Works: "ipxe-native", Failed: []string{"ipxe"}, Next: "ipxe-native"}},
			Image:   &web, LastError: "none", Now: "installed",
			Allocation: &api.Allocation{Profile: "vm", Section: "LAB", Counted: true, Var: "{'ip': '10.0.0.1'}", Variables: entry,
				CMDB: "{'ip': '10.0.0.1', 'used': 1}", Entry: entry, Given: noon, Asked: 2, Installed: noon},
			Expected: &api.Expected{Name: "node1", Rack: "R1", Unit: "12", Came: noon},
			Differs: &api.Differing{Profile: "vm", Bill: "r7", More: 1, Mark: "00", Anyway: true,
				Differences: []api.Difference{{Category: "firmware", ID: "bios", Field: "version", Want: "1.1", Has: "1.0"}}},
			Foreign: &api.Foreign{Disks: []wire.ForeignDisk{{Disk: "/dev/sdb (SSD)", Holds: "sdb1 ntfs", Mark: "12345678"}}, Anyway: true},
			Wipe: &api.Wipe{Begun: noon, Ended: noon, Disks: []wire.WipedDisk{{Name: "sda", Model: "ACME", Serial: "S1", Bytes: 400, Method: "zeros", Seconds: 1.5,
				Samples: 1512, Held: 3, Error: "it is broken"}}},
			Progress: &api.Progress{Step: "transfer", Status: "progress", Message: "half", Bytes: 200, TotalBytes: 400, Percent: 50,
				BytesPerSecond: 10, Started: noon, Updated: noon},
			History: []api.HistoryLine{line}},
		"imported":   api.Imported{Added: 1, Changed: 2, Unchanged: 3},
		"newmachine": api.NewMachine{MAC: "52:54:00:12:34:56", Machine: "m1"},
		"newsection": api.NewSection{Section: "LAB"},
		"newloader":  api.NewLoader{Loader: "ipxe"},
		"newboot":    api.NewBoot{Action: "reinstall"},
		"forgotten": api.Forgotten{ID: "m1", DisplayName: "node1", MACs: []string{"52:54:00:12:34:56"}, State: "installed", Section: "LAB",
			Profile: "vm", Counted: true, CMDB: "{'ip': '10.0.0.1', 'used': 1}", Entry: entry, Time: noon},
		"forgottenstrangers": api.ForgottenStrangers{Forgotten: 3},
		"log":                api.Log{Name: "a.log", Bytes: 5, Modified: noon},
		"event": api.Event{Time: noon, Machine: "m1", Name: "node1", Step: "transfer", Status: "progress", Message: "half", Seconds: 1,
			Percent: 50, BytesPerSecond: 10},
		"explanation": api.Explanation{Time: noon, Section: "LAB", Profile: "vm", Again: true, Refused: "no", Now: "installed", Entry: "{}", More: 1,
			Profiles: []api.ExplainedProfile{{Profile: "db", Fits: true, Reason: "no disk", TooComplex: true,
				Lines:   []api.ExplainedLine{{Line: 1, Spec: "('disk', '$disk', 'size', '4')", Fact: []string{"disk", "vda", "size", "4"}, Bound: map[string]string{"disk": "vda"}, Why: "no disk fits"}},
				Closest: &api.ClosestFact{Fact: []string{"disk", "vda", "size", "3"}, Equal: 3, Why: []string{"'3' is not '4'"}}}}},
		"configfile": api.ConfigFile{Section: "LAB", Name: "vm.specs", Bytes: 5, Modified: noon},
		"configset":  api.ConfigSet{Files: map[string]string{"vm.specs": "[]"}, Prune: true},
		"replaced": api.Replaced{Added: []string{"a"}, Changed: []string{"b"}, Removed: []string{"c"}, Unchanged: []string{"d"},
			Counts: []string{"vm: 1 -> 2"}, Warnings: []api.Problem{problem}},
		"refusal": api.Refusal{Error: "nothing is changed", Problems: []api.Problem{problem}},
		"version": api.Version{Version: "1.0", Protocol: wire.Protocol, Addons: []wire.ImageRef{web},
			DHCP: &api.AddressRange{First: netip.MustParseAddr("10.0.3.100"), Last: netip.MustParseAddr("10.0.3.200")}},
		"image":      image,
		"unfinished": api.Unfinished{ImageRef: web, Part: api.PartArchive, Offset: 1, Length: 2, Peer: "10.0.3.9", Changed: noon, Broken: "b", Aside: "broken/1"},
		"publishing": api.Publishing{Step: "done", Done: 1, Total: 2, Image: &image, Error: "e"},
		"upgrade": api.Upgrade{From: "D12-F.1.0.0", Role: "web", To: "D12-F.1.0.1", Published: noon, Complete: true, Broken: "b", State: api.UpgradeNew,
			Files: []api.UpgradeFile{{Name: "exclude", Bytes: 5, Mode: "0644", SHA256: "00"}}},
	}
}

// TestJSON holds the JSON of every type to the letter: other programs read it.
// EDEPLOY_GOLDEN=1 writes the files anew.
func TestJSON(t *testing.T) {
	for name, value := range values() {
		got, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".json")
		got = append(got, '\n')
		if os.Getenv("EDEPLOY_GOLDEN") != "" {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	files, _ := filepath.Glob("testdata/*.json") // the pattern is good
	if len(files) != len(values()) {
		t.Errorf("testdata has %d types, want %d", len(files), len(values()))
	}
}
