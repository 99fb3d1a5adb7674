package detect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
// cmd/hardware-detect -record.
func TestHardware(t *testing.T) {
	for _, name := range []string{"qemu", "server"} {
		t.Run(name, func(t *testing.T) {
			hardware := describe(t, play(t, load(t, name)))
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

func load(t *testing.T, name string) detect.Recording {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var rec detect.Recording
	if err := json.Unmarshal(text, &rec); err != nil {
		t.Fatal(err)
	}
	return rec
}

// play lays a recording out.
func play(t *testing.T, rec detect.Recording) detect.Source {
	t.Helper()
	source, err := rec.Source(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return source
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
	server := describe(t, play(t, load(t, "server")))
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

// Machines lack one thing or another: that costs the facts that come from it,
// and no others.
func TestMissing(t *testing.T) {
	rec := load(t, "server")
	whole := describe(t, play(t, rec))
	for _, test := range []struct {
		without string // paths, separated by blanks
		may     string // categories that may differ
		total   string // size of the memory
	}{
		{"sys/class/dmi", "system firmware", "34359738368"},
		{"sys/firmware", "memory", "34359738368"},                           // four blocks of 8 GiB
		{"sys/firmware sys/devices/system/memory", "memory", "33484800000"}, // MemTotal
		{"sys/firmware sys/devices/system/memory proc/meminfo", "memory", ""},
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
		source := play(t, rec)
		for path := range strings.FieldsSeq(test.without) {
			if err := os.RemoveAll(filepath.Join(source.Root, path)); err != nil {
				t.Fatal(err)
			}
		}
		got := describe(t, source)
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

// Files of a form that nobody expects cost no more than missing ones. ghw
// panics over the first two.
func TestOddFiles(t *testing.T) {
	for path, text := range map[string]string{
		"sys/kernel/mm/hugepages/odd/nr_hugepages":      "1\n",
		"usr/share/misc/pci.ids":                        "80\n",
		"sys/devices/system/cpu/cpu0/topology/core_id":  "many\n",
		"sys/class/net/eno1/speed":                      "fast\n",
		"sys/block/sda/size":                            "-1\n",
		"sys/devices/system/memory/block_size_bytes":    "all\n",
		"sys/devices/system/cpu/cpu0/cache/index0/size": "\xff\n",
		"proc/cpuinfo":                                  "processor\nprocessor : 0 : 1\n\n:\n",
		"sys/class/dmi/id/product_serial":               "\x00\x01unknown\n",
	} {
		source := play(t, load(t, "server"))
		file := filepath.Join(source.Root, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := describe(t, source); len(got) < 150 {
			t.Errorf("with an odd %s there are %d facts", path, len(got))
		}
	}
}

func TestNoSysfs(t *testing.T) {
	_, err := detect.Source{Root: t.TempDir()}.Hardware(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "describe hardware: ") {
		t.Errorf("error %v, want that there is nothing to look at", err)
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := play(t, load(t, "qemu")).Hardware(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

// What is played can be recorded again, all of it.
func TestRecordAgain(t *testing.T) {
	for _, name := range []string{"qemu", "server"} {
		want := load(t, name)
		got, err := play(t, want).Record(want.Comment)
		if err != nil {
			t.Fatal(err)
		}
		delete(want.Files, "usr/share/misc/pci.ids")
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-played +recorded):\n%s", name, diff)
		}
	}
}

// A recording of this machine describes it as it is.
func TestRecord(t *testing.T) {
	rec, err := detect.ThisMachine().Record("the machine that runs the test")
	needs.That(t, err == nil, "a machine that can be described: %v", err)
	text, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	var again detect.Recording
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	live, err := detect.Hardware(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(steady(live), steady(describe(t, play(t, again)))); diff != "" {
		t.Errorf("description (-live +recorded):\n%s", diff)
	}
}

// steady leaves out what changes from second to second, and names that a
// recording leaves out.
func steady(h wire.Hardware) wire.Hardware {
	return slices.DeleteFunc(slices.Clone(h), func(f wire.Fact) bool {
		name := f.Category == "network" && (f.Field == "vendor" || f.Field == "product")
		return f.Field == "frequency" || name || f.Category == "network" && f.ID != "eth0"
	})
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
			root := t.TempDir()
			if err := os.MkdirAll(filepath.Join(root, "sys/class"), 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range tt.files {
				p := filepath.Join(root, "sys/firmware", file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			hw, err := detect.Source{Root: root}.Hardware(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range hw {
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
