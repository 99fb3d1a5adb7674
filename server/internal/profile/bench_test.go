package profile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// manyProfiles writes a configuration directory of profiles with 20 specs
// each, of which only the last fits the machine.
func manyProfiles(t testing.TB, profiles int) (dir string, machine wire.Hardware) {
	t.Helper()
	dir = t.TempDir()
	var pairs []string
	for n := range profiles {
		name := fmt.Sprintf("p%03d", n)
		pairs = append(pairs, fmt.Sprintf("('%s', 4)", name))
		var specs strings.Builder
		specs.WriteString("[('system', 'product', 'name', 'Rack Node (R7)'),\n")
		for disk := range 8 {
			fmt.Fprintf(&specs, " ('disk', '$disk%d', 'size', 'gt(%d)'),\n ('disk', '$disk%d', 'rotational', '%d'),\n", disk, 100+n%7, disk, disk%2)
		}
		fmt.Fprintf(&specs, " ('network', '$eth', 'ipv4', 'network(10.%d.0.0/16)'),\n ('network', '$eth', 'serial', '$$mac'),\n", profiles-1-n)
		specs.WriteString(" ('cpu', 'logical', 'number', 'ge(8)')]\n")
		if err := os.WriteFile(filepath.Join(dir, name+".specs"), []byte(specs.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	state := "[" + strings.Join(pairs, ",\n ") + "]\n"
	if err := os.WriteFile(filepath.Join(dir, "state"), []byte(state), 0o644); err != nil {
		t.Fatal(err)
	}
	add := func(category, id, field, value string) {
		machine = append(machine, wire.Fact{Category: category, ID: id, Field: field, Value: value})
	}
	for disk := range 24 {
		id := fmt.Sprintf("sd%c", 'a'+disk)
		for _, field := range []string{"vendor", "model", "rev", "id", "wwn-id", "nr_requests", "scheduler"} {
			add("disk", id, field, id+field)
		}
		add("disk", id, "size", fmt.Sprint(100+disk*40))
		add("disk", id, "rotational", fmt.Sprint(disk%2))
	}
	add("system", "product", "name", "Rack Node (R7)")
	for port := range 4 {
		id := fmt.Sprintf("ens%d", port)
		add("network", id, "ipv4", fmt.Sprintf("10.%d.0.7", port*250))
		add("network", id, "serial", fmt.Sprintf("02:00:00:00:00:%02d", port))
	}
	add("cpu", "logical", "number", "16")
	return dir, machine
}

func TestManyProfiles(t *testing.T) {
	dir, machine := manyProfiles(t, 200)
	d, err := assign.NewFacts(machine).Find(profile.Open(dir, store.OpenFiles(dir)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.Profile != "p199" || d.Bindings["eth"] != "ens0" || len(d.Tried) != 199 {
		t.Errorf("got %s with %v after %d others, want p199 with eth=ens0 after 199", d.Profile, d.Bindings, len(d.Tried))
	}
	if tried := d.Tried[0].Attempt(); !strings.Contains(tried.Reason, " line 18 ") || !strings.Contains(tried.Reason, "disk7=") {
		t.Errorf("first attempt: %+v, want line 18 with disk7 bound", tried)
	}
}

// BenchmarkMatch200Profiles is one upload against 200 profiles of 20 lines,
// none but the last fitting.
func BenchmarkMatch200Profiles(b *testing.B) {
	dir, machine := manyProfiles(b, 200)
	d := profile.Open(dir, store.OpenFiles(dir))
	for b.Loop() {
		if got, err := assign.NewFacts(machine).Find(d, nil); err != nil || got.Profile != "p199" {
			b.Fatalf("got %s, %v", got.Profile, err)
		}
	}
}
