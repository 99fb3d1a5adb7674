package detect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"edeploy/agent/internal/detect"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

// update writes the golden files anew.
var update = os.Getenv("EDEPLOY_GOLDEN") != ""

// The recordings say in their comment where they come from; make new ones with
// agent detect -record, and testdata/README says how some were derived.
func TestHardware(t *testing.T) {
	for _, name := range machines(t) {
		t.Run(name, func(t *testing.T) {
			hardware := describe(t, load(t, name).Source())
			t.Logf("%d facts", len(hardware))
			var got bytes.Buffer
			if err := wire.EncodeHardware(&got, hardware); err != nil {
				t.Fatal(err)
			}
			golden := "testdata/" + name + ".golden.json"
			if update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("description (-want +got):\n%s", diff)
			}
			for _, fact := range hardware {
				if _, ok := fact.Value.(string); !ok {
					t.Errorf("%v is not text", fact)
				}
			}
		})
	}
}

// machines are the recorded ones.
func machines(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.golden.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".golden.json"))
	}
	return names
}

func load(t testing.TB, name string) detect.Recording {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := detect.DecodeRecording(text)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func describe(t *testing.T, source detect.Source) wire.Hardware {
	t.Helper()
	hardware, err := source.Hardware(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return hardware
}

// What spec lines ask first: the rows follow the tables of reference sections
// 3.2 to 3.6, on the invented server.
func TestFacts(t *testing.T) {
	server := describe(t, load(t, "server").Source())
	for _, test := range []struct{ category, id, field, want string }{
		{"disk", "logical", "count", "6"},
		{"disk", "sdb", "size", "1000"}, // 1953525168 sectors, the reference's example
		{"disk", "sda", "model", "PERC H730 Mini"},
		{"disk", "sda", "wwn-id", "wwn-0x600508b1001c0001"},
		{"disk", "sda", "scsi-id", "scsi-3600508b1001c0001"},
		{"disk", "sdb", "id", "ata-ST1000NX0423_W470XXXX"},
		{"disk", "sda", "Write Cache Enable", "1"},
		{"disk", "sda", "Read Cache Disable", "0"},
		{"disk", "sdb", "Write Cache Enable", "0"},
		{"disk", "sdaa", "Read Cache Disable", "1"},
		{"disk", "nvme0n1", "scheduler", "none"},
		{"disk", "nvme0n1", "Write Cache Enable", ""},
		{"disk", "sdz", "size", ""}, // no medium
		{"disk", "md0", "size", ""},
		{"system", "product", "name", "Rack Node (R7) édition"},
		{"system", "product", "serial", "4c4c4544-0033-3510-8052-b4c04f313233"}, // instead of 0123456789
		{"system", "board", "serial", ".ABC1234.CN7016."},
		{"system", "cpu", "number", "8"},
		{"memory", "total", "size", "34359738368"},
		{"memory", "banks", "count", "4"},
		{"memory", "bank:0", "clock", "2400000000"},
		{"memory", "bank:0", "description", "DIMM DDR4 Synchronous 2400 MHz (0.4 ns)"},
		{"memory", "bank:0", "product", "HMA82GR7AFR8N-UH"},
		{"memory", "bank:1", "description", "[empty]"},
		{"memory", "bank:1", "size", ""},
		{"network", "eno1", "serial", "b4:c0:4f:00:00:01"},
		{"network", "eno1", "businfo", "pci@0000:01:00.0"},
		{"network", "eno1", "product", "I350 Gigabit Network Connection"},
		{"network", "eno1", "ipv4-netmask", "255.255.255.0"},
		{"network", "eno1", "ipv4-network", "192.168.122.0"},
		{"network", "eno1", "size", "1000000000"},
		{"network", "eno2", "link", "no"},
		{"network", "eno2", "speed", ""},
		{"network", "eno2", "duplex", ""},
		{"network", "ens1f0", "speed", "10Gbit/s"},
		{"network", "ens1f0", "product", "Ethernet Controller X710 for 10GbE SFP+"},
		{"network", "ens1f0", "ipv4", ""},
		{"network", "ens10", "speed", "2500Mbit/s"},
		{"network", "ens10", "vendor", ""},
		{"network", "lo", "serial", ""},
		{"network", "tun0", "link", ""},
		{"cpu", "physical", "number", "2"},
		{"cpu", "logical", "number", "8"},
		{"cpu", "physical_1", "threads", "4"},
		{"cpu", "physical_1", "threads_per_core", "2"},
		{"cpu", "physical_0", "l1d cache", "32K"},
		{"cpu", "physical_0", "max_Mhz", "3000"},
		{"numa", "node_1", "cpu_mask", "0xaa"},
		{"numa", "node_1", "cpu_count", "4"},
	} {
		if got, _ := server.Find(test.category, test.id, test.field); got != test.want {
			t.Errorf("%s/%s/%s is %q, want %q", test.category, test.id, test.field, got, test.want)
		}
	}
	if last := server[len(server)-1]; last.ID != "product" || last.Field != "serial" {
		t.Errorf("the last fact is %v, want the serial that replaces a bad one", last)
	}
}

func TestNatural(t *testing.T) {
	want := []string{"eno1", "ens1f0", "ens1f1", "ens2", "ens10", "eth0", "eth2", "eth10",
		"nvme0n1", "nvme1n1", "nvme10n1", "nvme10n2", "sda", "sdb", "sdz", "sdaa", "sdab", "vda", "x01", "x1"}
	got := slices.Clone(want)
	slices.Sort(got)
	slices.SortFunc(got, detect.Natural)
	// "x1" and "x01" are the same number; the shorter comes first.
	want[len(want)-2], want[len(want)-1] = "x1", "x01"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func FuzzNatural(f *testing.F) {
	f.Add("sda", "sdaa", "sdb")
	f.Add("eth2", "eth10", "eth02")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if detect.Natural(a, b) != -detect.Natural(b, a) {
			t.Errorf("%q and %q: the order depends on the side", a, b)
		}
		if detect.Natural(a, b) <= 0 && detect.Natural(b, c) <= 0 && detect.Natural(a, c) > 0 {
			t.Errorf("%q, %q, %q: no order", a, b, c)
		}
	})
}

// without is the recording less everything at and below some paths.
func without(rec detect.Recording, paths ...string) detect.Recording {
	for _, p := range paths {
		gone := func(name string) bool { return name == p || strings.HasPrefix(name, p+"/") }
		maps.DeleteFunc(rec.Files, func(name, _ string) bool { return gone(name) })
		maps.DeleteFunc(rec.Binary, func(name string, _ []byte) bool { return gone(name) })
		maps.DeleteFunc(rec.Links, func(name, _ string) bool { return gone(name) })
		rec.Names = slices.DeleteFunc(rec.Names, gone)
	}
	return rec
}

// Machines lack one thing or another: that costs the facts that come from it,
// and no others.
func TestMissing(t *testing.T) {
	whole := describe(t, load(t, "server").Source())
	for _, test := range []struct {
		without string // paths, separated by blanks
		may     string // categories that may differ
		total   string // size of the memory
	}{
		{"sys/class/dmi", "system firmware", "34359738368"},
		{"sys/firmware", "memory cpu", "34359738368"},                           // four blocks of 8 GiB
		{"sys/firmware sys/devices/system/memory", "memory cpu", "33484800000"}, // MemTotal
		{"sys/firmware sys/devices/system/memory proc/meminfo", "memory cpu", ""},
		{"proc/meminfo", "", "34359738368"},
		{"proc/cpuinfo", "cpu system", "34359738368"},
		{"proc", "cpu system", "34359738368"},
		{"sys/devices/system/cpu", "cpu system", "34359738368"},
		{"sys/devices/system/node", "numa", "34359738368"},
		{"sys/block", "disk", "34359738368"},
		{"dev", "disk", "34359738368"},
		{"sys/class/net", "network", "34359738368"},
		{"sys/devices/pci0000:00 sys/devices/pci0000:80", "network", "34359738368"},
		{"usr", "network", "34359738368"},
	} {
		got := describe(t, without(load(t, "server"), strings.Fields(test.without)...).Source())
		if total, _ := got.Find("memory", "total", "size"); total != test.total {
			t.Errorf("without %s the memory has %q bytes, want %q", test.without, total, test.total)
		}
		if diff := cmp.Diff(except(whole, test.may), except(got, test.may)); diff != "" {
			t.Errorf("without %s (-whole +got):\n%s", test.without, diff)
		}
		if test.may != "" && len(got) >= len(whole) {
			t.Errorf("without %s nothing is missing", test.without)
		}
	}
}

// except leaves out categories.
func except(h wire.Hardware, categories string) wire.Hardware {
	return slices.DeleteFunc(slices.Clone(h), func(f wire.Fact) bool {
		return slices.Contains(strings.Fields(categories), f.Category)
	})
}

// Files of a form that nobody expects cost no more than missing ones.
func TestOddFiles(t *testing.T) {
	for path, text := range map[string]string{
		"usr/share/misc/pci.ids":                        "80\n",
		"sys/devices/system/cpu/cpu0/topology/core_id":  "many\n",
		"sys/class/net/eno1/speed":                      "fast\n",
		"sys/block/sda/size":                            "-1\n",
		"sys/devices/system/memory/block_size_bytes":    "all\n",
		"sys/devices/system/cpu/cpu0/cache/index0/size": "\xff\n",
		"proc/cpuinfo":                                  "processor\nprocessor : 0 : 1\n\n:\n",
		"sys/class/dmi/id/product_serial":               "\x00\x01unknown\n",
		"sys/block/sda/device/vpd_pg80":                 "\x00\x80\xff\xff",
		"sys/block/sda/device/vpd_pg83":                 "\x00\x83\x00\x08\x01\x03\x00\xff",
	} {
		rec := load(t, "server")
		rec.Files[path] = text
		if got := describe(t, rec.Source()); len(got) < 150 {
			t.Errorf("with an odd %s there are %d facts", path, len(got))
		}
	}
}

func TestNoSysfs(t *testing.T) {
	_, err := detect.Recording{}.Source().Hardware(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "describe hardware: ") {
		t.Errorf("error %v, want that there is nothing to look at", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := load(t, "qemu").Source().Hardware(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// What is played and recorded again describes the same machine, and holds
// nothing that was not there.
func TestRecordAgain(t *testing.T) {
	for _, name := range machines(t) {
		played := load(t, name)
		again, described, err := played.Source().Record(t.Context(), played.Comment)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(described, describe(t, again.Source())); diff != "" {
			t.Errorf("%s: description (-played +recorded):\n%s", name, diff)
		}
		for file, text := range again.Files {
			if file != "usr/share/misc/pci.ids" && played.Files[file] != text {
				t.Errorf("%s: %s is recorded as %q, was %q", name, file, text, played.Files[file])
			}
		}
		twice, _, err := again.Source().Record(t.Context(), played.Comment)
		if diff := cmp.Diff(again, twice, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%s: recorded a second time: %v (-once +twice):\n%s", name, err, diff)
		}
	}
}

// A recording of this machine describes it as it is.
func TestRecord(t *testing.T) {
	rec, live, err := detect.ThisMachine().Record(t.Context(), "the machine that runs the test")
	needs.That(t, err == nil, "a machine that can be described: %v", err)
	text, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	again, err := detect.DecodeRecording(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(live, describe(t, again.Source())); diff != "" {
		t.Errorf("description (-live +recorded):\n%s", diff)
	}
}

// TestBrokenRecordings: a recording may come from anybody.
func TestBrokenRecordings(t *testing.T) {
	for text, want := range map[string]string{
		`{"links": {"a/b": "../c", "c": "a/b"}}`: "circle",
		`{"links": {"a": "a/b"}}`:                "circle",
		`{"files": {"../../etc/passwd": ""}}`:    "no path",
		`{"files": {"/etc/passwd": ""}}`:         "no path",
		`{"files": 1}`:                           "read recording",
	} {
		if _, err := detect.DecodeRecording([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// TestBootMode: how the firmware started the machine shows in sysfs.
func TestBootMode(t *testing.T) {
	for name, tt := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"BIOS":             {nil, []string{"mode bios"}},
		"UEFI":             {map[string]string{"efi/fw_platform_size": "64\n"}, []string{"mode uefi"}},
		"Secure Boot":      {map[string]string{"efi/fw_platform_size": "64\n", secureBoot: "\x16\x00\x00\x00\x01"}, []string{"mode uefi", "secure on"}},
		"Secure Boot: off": {map[string]string{"efi/fw_platform_size": "64\n", secureBoot: "\x16\x00\x00\x00\x00"}, []string{"mode uefi", "secure off"}},
	} {
		t.Run(name, func(t *testing.T) {
			rec := detect.Recording{Names: []string{"sys/class"}, Files: map[string]string{}}
			for file, text := range tt.files {
				rec.Files["sys/firmware/"+file] = text
			}
			var got []string
			for _, f := range describe(t, rec.Source()) {
				if f.Category == "firmware" && f.ID == "boot" {
					got = append(got, fmt.Sprint(f.Field, " ", f.Value))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

const secureBoot = "efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
