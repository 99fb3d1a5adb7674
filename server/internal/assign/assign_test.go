package assign_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/store"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// seedSpecs are the seed's own.
const seedSpecs = `[
    ('disk', '$disk', 'size', 'gt(4)'),
    ('network', '$eth', 'ipv4', 'network(192.168.122.0/24)'),
    ('network', '$eth', 'serial', '$mac'),
]
`

const seedCMDB = `generate({'ip': '192.168.122.3-7',
          'hostname': 'host03-07',
          'gateway': '192.168.122.1',
          'netmask': '255.255.255.0'})
`

// site is a configuration directory under test.
type site struct {
	*profile.Dir
	t testing.TB
}

func newSite(t testing.TB, files map[string]string) site {
	t.Helper()
	dir := t.TempDir()
	s := site{profile.Open(dir, store.OpenFiles(dir)), t}
	for name, text := range files {
		s.write(assign.File{Name: name, Text: text})
	}
	return s
}

func (s site) write(files ...assign.File) {
	s.t.Helper()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(s.Path(), f.Name), []byte(f.Content()), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s site) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Path(), name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// find decides and writes.
func (s site) find(h wire.Hardware) assign.Decision {
	s.t.Helper()
	d, err := assign.NewFacts(h).Find(s, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(d.Files...)
	return d
}

func machine(mac string) wire.Hardware {
	return wire.Hardware{
		{Category: "disk", ID: "vda", Field: "size", Value: "8"},
		{Category: "network", ID: "ens3", Field: "serial", Value: mac},
		{Category: "network", ID: "ens3", Field: "ipv4", Value: "192.168.122.40"},
	}
}

func seedSite(t testing.TB) site {
	return newSite(t, map[string]string{"state": "[('hp', 4), ('vm', '*')]\n", "hp.specs": "[('system', 'product', 'vendor', 'HP')]", "vm.specs": seedSpecs, "vm.cmdb": seedCMDB})
}

// TestSeed: the seed's profile runs unmodified.
func TestSeed(t *testing.T) {
	s := seedSite(t)
	d := s.find(machine("02:00:00:00:00:01"))
	const want = "{'disk': 'vda', 'eth': 'ens3', 'gateway': '192.168.122.1', 'hostname': 'host03', 'ip': '192.168.122.3', 'mac': '02:00:00:00:00:01', 'netmask': '255.255.255.0', 'used': 1}"
	if got := literal.Repr(d.Var); got != want || d.Profile != "vm" {
		t.Errorf("profile %s, var %s, want vm, %s", d.Profile, got, want)
	}
	var names []string
	for _, f := range d.Files {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"vm.cmdb.orig", "vm.cmdb"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if s.read("vm.cmdb.orig") != seedCMDB {
		t.Errorf("kept original: %s", s.read("vm.cmdb.orig"))
	}
	second := s.find(machine("02:00:00:00:00:02"))
	if ip, _ := second.Var.Get("ip"); ip != "192.168.122.4" {
		t.Errorf("second machine: %s", literal.Repr(second.Var))
	}
	if len(second.Files) != 1 || second.Files[0].Name != "vm.cmdb" {
		t.Errorf("second machine replaces %v, want the CMDB only", second.Files)
	}
	if diff := cmp.Diff([]assign.Attempt{{Profile: "hp", Reason: "hp.specs line 1 finds nothing: ('system', 'product', 'vendor', 'HP')"}}, second.Tried.Attempts(9)); diff != "" {
		t.Errorf("tried (-want +got):\n%s", diff)
	}
}

// TestAgainAndRelease: a machine keeps what it has, gives it back once, and
// leaves the files as they were.
func TestAgainAndRelease(t *testing.T) {
	s := newSite(t, map[string]string{"state": "[('vm', 2)]\n", "vm.specs": seedSpecs, "vm.cmdb": seedCMDB})
	other := s.find(machine("02:00:00:00:00:02"))
	stateBefore, cmdbBefore := s.read("state"), s.read("vm.cmdb")
	first := s.find(machine("02:00:00:00:00:01"))
	stored, err := json.Marshal(first.Holding)
	if err != nil {
		t.Fatal(err)
	}
	var holding assign.Holding
	if err := json.Unmarshal(stored, &holding); err != nil {
		t.Fatal(err)
	}
	again, err := assign.NewFacts(machine("02:00:00:00:00:01")).Again(s, holding, nil)
	if err != nil || len(again.Files) != 0 || again.Holding != holding || literal.Repr(again.Var) != literal.Repr(first.Var) {
		t.Errorf("again: %v\ngot  %+v\nwant %+v", err, again, first)
	}
	// With another disk, and so other variables, it is still the same machine.
	changed := machine("02:00:00:00:00:01")
	changed[0].ID = "sda"
	again, err = assign.NewFacts(changed).Again(s, holding, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.write(again.Files...)
	if ip, _ := again.Var.Get("ip"); ip != "192.168.122.4" || again.Bindings["disk"] != "sda" || s.read("state") != "[('vm', 0)]\n" {
		t.Errorf("changed machine: %s, state %s", literal.Repr(again.Var), s.read("state"))
	}
	files, err := assign.Release(s, again.Holding)
	if err != nil {
		t.Fatal(err)
	}
	s.write(files...)
	if s.read("state") != stateBefore || s.read("vm.cmdb") != cmdbBefore {
		t.Errorf("after the release:\n%s%s\nwant\n%s%s", s.read("state"), s.read("vm.cmdb"), stateBefore, cmdbBefore)
	}
	if files, err := assign.Release(s, assign.Holding{Profile: "vm", Before: other.Holding.Before, After: other.Holding.Before}); err != nil || len(files) != 0 {
		t.Errorf("release of an entry that nobody holds: %v, %v", files, err)
	}
}

func TestAgainRefused(t *testing.T) {
	s := seedSite(t)
	d := s.find(machine("02:00:00:00:00:01"))
	small := machine("02:00:00:00:00:01")
	small[0].Value = "1"
	_, err := assign.NewFacts(small).Again(s, d.Holding, nil)
	if !errors.Is(err, assign.ErrNoMatch) || err.Error() != "machine no longer fits its profile vm: vm.specs line 2 finds nothing: ('disk', '$disk', 'size', 'gt(4)')" {
		t.Errorf("smaller disk: %v", err)
	}
	s.write(assign.File{Name: "state", Text: "[('hp', 4)]"})
	if _, err := assign.NewFacts(machine("02:00:00:00:00:01")).Again(s, d.Holding, nil); !errors.Is(err, assign.ErrGone) {
		t.Errorf("profile removed: %v", err)
	}
}

// TestOthers: machines that look alike never share an entry.
func TestOthers(t *testing.T) {
	s := newSite(t, map[string]string{"state": "[('vm', '*')]", "vm.specs": "[('disk', '$d', 'size', '8')]", "vm.cmdb": "[{'ip': '1'}, {'ip': '2'}]"})
	first := s.find(machine("02:00:00:00:00:01"))
	second, err := assign.NewFacts(machine("02:00:00:00:00:02")).Find(s, func(profile, entry string) bool {
		return profile == "vm" && entry == first.Holding.After
	})
	if err != nil {
		t.Fatal(err)
	}
	if ip, _ := second.Var.Get("ip"); ip != "2" {
		t.Errorf("second machine got %s", literal.Repr(second.Var))
	}
}

func TestStrictVariablesChooseTheEntry(t *testing.T) {
	s := newSite(t, map[string]string{"state": "[('vm', '*')]", "vm.specs": "[('network', '$eth', 'serial', '$$mac')]",
		"vm.cmdb": "[{'mac': 'm1', 'ip': '1'}, {'mac': 'm2', 'ip': '2'}]"})
	d := s.find(machine("m1"))
	moved, err := assign.NewFacts(machine("m2")).Again(s, d.Holding, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.write(moved.Files...)
	if ip, _ := moved.Var.Get("ip"); ip != "2" || s.read("vm.cmdb") != "[{'ip': '1', 'mac': 'm1'}, {'eth': 'ens3', 'ip': '2', 'mac': 'm2', 'used': 1}]\n" {
		t.Errorf("after its MAC changed: %s, CMDB %s", literal.Repr(moved.Var), s.read("vm.cmdb"))
	}
	_, err = assign.NewFacts(machine("m3")).Find(s, nil)
	if !errors.Is(err, assign.ErrCMDBNoEntry) {
		t.Errorf("unknown MAC: %v", err)
	}
}

func TestErrors(t *testing.T) {
	const fits, fitsNot = "[('disk', '$d', 'size', '8')]", "[('disk', '$d', 'size', '9')]"
	for _, tc := range []struct {
		name  string
		files map[string]string
		kind  error
		want  string
	}{
		{"no state", nil, assign.ErrBadState, "read {DIR}/state: no such file or directory"},
		{"broken state", map[string]string{"state": "[('a' 1)]"}, assign.ErrBadState, `state:1:7: want a comma or ")", got "1"`},
		{"no count left", map[string]string{"state": "[('a', 0)]"}, assign.ErrStateExhausted, "No more role available in {DIR}/state"},
		{"nothing fits", map[string]string{"state": "[('a', 1), ('b', '*')]", "a.specs": fitsNot}, assign.ErrNoMatch, "Unable to match requirements on the following available roles in {DIR}/: a, b"},
		{"CMDB used up", map[string]string{"state": "[('a', 1), ('b', '*')]", "a.specs": fits, "b.specs": fits, "a.cmdb": "[{'used': 1}]"}, assign.ErrCMDBExhausted, "No more entry in the CMDB, aborting."},
		{"broken CMDB", map[string]string{"state": "[('a', 1), ('b', '*')]", "a.specs": fits, "b.specs": fits, "a.cmdb": "["}, assign.ErrBadCMDB, `a.cmdb:1:1: list is never closed: "]" is missing`},
		{"no variable", map[string]string{"state": "[('a', 1)]", "a.specs": "[('disk', 'vda', 'size', '8')]", "a.cmdb": "[{'a': '1'}]"}, assign.ErrBadCMDB, "a.cmdb: a profile with a CMDB needs at least one variable in its specs"},
	} {
		s := newSite(t, tc.files)
		_, err := assign.NewFacts(machine("m")).Find(s, nil)
		if !errors.Is(err, tc.kind) || strings.ReplaceAll(err.Error(), s.Path(), "{DIR}") != tc.want {
			t.Errorf("%s:\ngot  %v\nwant %s", tc.name, err, tc.want)
		}
	}
}

// TestBrokenSpecs fails its own profile only, and is reported.
func TestBrokenSpecs(t *testing.T) {
	s := newSite(t, map[string]string{"state": "[('../a', 1), ('bad', 1), ('gone', 1), ('good', 1)]",
		"bad.specs": "[('disk', '$d', 'size', 'gt(x)')]", "good.specs": "[('disk', '$d', 'size', '8')]"})
	d, err := assign.NewFacts(machine("m")).Find(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, a := range d.Tried.Attempts(9) {
		reasons = append(reasons, strings.ReplaceAll(a.Reason, s.Path(), "{DIR}"))
	}
	want := []string{`profile name "../a" starts with a dot`, `bad.specs:1:25: gt(x): gt wants a number, got "x"`, "read {DIR}/gone.specs: no such file or directory"}
	if diff := cmp.Diff(want, reasons); diff != "" || d.Profile != "good" {
		t.Errorf("profile %s, reasons (-want +got):\n%s", d.Profile, diff)
	}
	if diff := cmp.Diff(want[:2], d.Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	// A broken edit of a good file leaves its last version in use.
	s.write(assign.File{Name: "good.specs", Text: "[('disk'"})
	d, err = assign.NewFacts(machine("m")).Find(s, nil)
	if err != nil || d.Profile != "good" || len(d.Problems) != 3 || !strings.HasPrefix(d.Problems[2], "good.specs:1:2: ") {
		t.Errorf("after a broken edit: %v, %+v", err, d)
	}
}

func FuzzFind(f *testing.F) {
	hw := func(h wire.Hardware) string {
		var b strings.Builder
		if err := wire.EncodeHardware(&b, h); err != nil {
			f.Fatal(err)
		}
		return b.String()
	}
	f.Add("[('vm', 1)]", seedSpecs, seedCMDB, hw(machine("02:00:00:00:00:01")))
	f.Add("# c\n[('vm', '3'), # d\n]", "[('$a', '$b', '$$c', '$d=not(in(1, 2))')]", "# c\n[{'c': 'ipv4'}, # d\n {'c': 'size'}]", `[["disk","vda","size",8],["a","../..","c",null]]`)
	f.Fuzz(func(t *testing.T, state, specs, cmdb, hardware string) {
		h, err := wire.DecodeHardware(strings.NewReader(hardware))
		if err != nil {
			return
		}
		s := newSite(t, map[string]string{"state": state, "vm.specs": specs, "vm.cmdb": cmdb})
		start := time.Now()
		d, err := assign.NewFacts(h).Find(s, nil)
		if err == nil {
			s.write(d.Files...)
			if again, err := assign.NewFacts(h).Again(s, d.Holding, nil); err != nil {
				t.Errorf("again: %v", err)
			} else if len(again.Files) != 0 || literal.Repr(again.Var) != literal.Repr(d.Var) {
				t.Errorf("again: %+v, want %+v", again, d)
			}
			if _, err := assign.Release(s, d.Holding); err != nil {
				t.Errorf("release: %v", err)
			}
		}
		if time.Since(start) > 10*time.Second {
			t.Errorf("took %v", time.Since(start))
		}
	})
}
