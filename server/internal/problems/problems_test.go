package problems_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/problems"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/records"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// bounded is how many of each kind a List keeps.
const bounded = 100

// finder finds the problems of a site with these files and machines.
func finder(t *testing.T, files map[string]string, machines ...machine.Record) (*problems.Finder, *allocation.Deployment) {
	t.Helper()
	d := &allocation.Deployment{Name: "SERVER", ConfigDir: "/config", Collection: allocation.Collection("SERVER")}
	var changes []store.Change
	for name, text := range files {
		changes = append(changes, store.Change{Name: d.Collection + "/" + name, Text: []byte(text)})
	}
	for _, r := range machines {
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, store.Change{Name: "machines/" + r.ID + ".json", Text: text})
	}
	documents := store.NewMemory(store.Limits{})
	if err := documents.Commit(changes...); err != nil {
		t.Fatal(err)
	}
	d.Dir = profile.Open(d.ConfigDir, store.In(documents, d.Collection))
	known, err := records.Open(documents, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &problems.Finder{StateDir: t.TempDir(), Site: &allocation.Site{Deployments: map[string]*allocation.Deployment{"SERVER": d}, Default: "SERVER"},
		Records: known, Documents: documents, Late: problems.NewList(slog.New(slog.DiscardHandler), time.Now)}, d
}

func record(n int, change func(*machine.Record)) machine.Record {
	r := machine.Record{ID: fmt.Sprintf("02-00-00-00-%02x-%02x", n>>8, n&255), State: machine.Unknown, Boot: machine.Auto, Section: "SERVER"}
	change(&r)
	return r
}

// good is a configuration without problems.
func good() map[string]string {
	return map[string]string{"state": "[('vm', '*')]\n", "vm.specs": "[('disk', '$disk', 'size', '4')]\n", "vm.configure": "set_role('web', 'V1', '/dev/sda')\n"}
}

// TestConfiguration: each mistake is one problem, which names the file and the
// place, or what to do; a warning is what does not keep machines from anything.
func TestConfiguration(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  map[string]string // "-": without the file
		file    string
		line    int
		text    string // "": there is none
		warning bool
	}{
		{name: "nothing"},
		{name: "no state", change: map[string]string{"state": "-"}, file: "/config/state", text: "edeployctl config push DIR"},
		{name: "broken state", change: map[string]string{"state": "[\n('vm',"}, file: "/config/state", line: 2, text: "state:2:"},
		{name: "no specs", change: map[string]string{"vm.specs": "-"}, text: "has no vm.specs"},
		{name: "broken specs", change: map[string]string{"vm.specs": "[\n('a',)]"}, file: "/config/vm.specs", line: 2, text: "vm.specs:2:1"},
		{name: "no script", change: map[string]string{"vm.configure": "-"}, text: "vm.configure"},
		{name: "broken script", change: map[string]string{"vm.configure": "set_role('web', 'V1', '/dev/sda')\nnosuch()\n"}, file: "/config/vm.configure", line: 2, text: "mend the script"},
		{name: "broken CMDB", change: map[string]string{"vm.cmdb": "["}, file: "/config/vm.cmdb", line: 1, text: "vm.cmdb:1:"},
		{name: "used CMDB", change: map[string]string{"vm.cmdb": "[{'ip': '10.0.0.1', 'used': 1}]"}, text: "all 1 entries of vm.cmdb are used", warning: true},
		{name: "no count", change: map[string]string{"state": "[('vm', 0)]"}, text: "edeployctl state set vm N", warning: true},
		{name: "no bill", change: map[string]string{"vm.specs": "# edeploy: expect r7\n[]\n"}, text: "edeployctl expect r7 ID"},
		{name: "broken bill", change: map[string]string{"vm.specs": "# edeploy: expect r7\n[]\n", "r7.bill": "{'facts': 1}"}, file: "/config/r7.bill", line: 1, text: "r7.bill:1:11"},
		{name: "an image that is not there", change: map[string]string{"vm.configure": "set_role('db', 'V1', '/dev/sda')\n"}, text: "edeployctl push db V1"},
		{name: "put aside", change: map[string]string{"state.broken2": "["}, file: "/config/state.broken2", text: "broken edit of state"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := good()
			for name, text := range tt.change {
				if files[name] = text; text == "-" {
					delete(files, name)
				}
			}
			f, _ := finder(t, files)
			f.Images = func() ([]wire.ImageRef, error) { return []wire.ImageRef{{Role: "web", Version: "V1"}}, nil }
			all := f.All()
			if tt.text == "" {
				if len(all) > 0 {
					t.Errorf("%+v", all)
				}
				return
			}
			if len(all) != 1 || all[0].File != tt.file || all[0].Line != tt.line || !strings.Contains(all[0].Text, tt.text) || all[0].Warning != tt.warning || all[0].Section != "SERVER" {
				t.Errorf("want %+v, got %+v", tt, all)
			}
		})
	}
}

// TestAddons: an add-on that is an image, and not here, is missing on every machine;
// where nobody knows which images there are, nothing is said.
func TestAddons(t *testing.T) {
	web, tool := wire.ImageRef{Role: "web", Version: "V1"}, wire.ImageRef{Role: "megacli", Version: "8.07"}
	for _, tt := range []struct {
		name string
		have func() ([]wire.ImageRef, error)
		want string
	}{
		{"here", func() ([]wire.ImageRef, error) { return []wire.ImageRef{web, tool}, nil }, ""},
		{"not known", nil, ""},
		{"missing", func() ([]wire.ImageRef, error) { return []wire.ImageRef{web}, nil }, "edeployctl push megacli 8.07"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := finder(t, good())
			f.Images, f.Addons = tt.have, wire.BootArgs{Addons: "python3,megacli/8.07"}.AddonImages()
			all := f.All()
			if tt.want == "" && len(all) == 0 {
				return
			}
			if len(all) != 1 || tt.want == "" || !strings.Contains(all[0].Text, tt.want) || all[0].Warning {
				t.Errorf("want %q, got %+v", tt.want, all)
			}
		})
	}
}

// TestOthers: who has just brought a file is not told its problems again, and
// not what runs out.
func TestOthers(t *testing.T) {
	files := good()
	files["state"], files["vm.specs"], files["vm.cmdb"] = "[('vm', 0), ('db', 1)]\n", "[(", "["
	f, d := finder(t, files)
	var got []string
	for _, p := range f.Others(d, []string{"vm.specs"}) {
		got = append(got, p.Text)
	}
	text := strings.Join(got, "\n")
	if strings.Contains(text, "vm.specs") || strings.Contains(text, "count") || !strings.Contains(text, "vm.cmdb:1:") || !strings.Contains(text, "db.specs") {
		t.Errorf("%s", text)
	}
}

// TestMachines: which machines an operator has to look at, and the command.
func TestMachines(t *testing.T) {
	differs := &api.Differing{Profile: "vm", Bill: "r7"}
	for i := range 8 {
		differs.Differences = append(differs.Differences, api.Difference{Category: "disk", ID: fmt.Sprint("sd", i), Field: "size", Want: "1", Has: "2"})
	}
	passed := *differs
	passed.Anyway = true
	for _, tt := range []struct {
		name   string
		change func(*machine.Record)
		want   []string // of the text; none: it is no problem
	}{
		{"unknown", func(*machine.Record) {}, nil},
		{"failed", func(r *machine.Record) { r.State, r.LastError = machine.Failed, "no disk\nmore" }, []string{"FAILED no disk.", "edeployctl logs 02-", "edeployctl hold 02-"}},
		{"failed, and on hold", func(r *machine.Record) { r.State, r.Boot = machine.Failed, machine.Hold }, nil},
		{"installed", func(r *machine.Record) {
			r.State, r.Allocation = machine.Installed, &machine.Allocation{Holding: assign.Holding{Profile: "vm"}, Section: "SERVER", Var: "{}"}
		}, nil},
		{"failed since", func(r *machine.Record) { r.State, r.LastError = machine.Installed, "upgrade: no room" }, []string{"since then failed: upgrade: no room"}},
		{"installed with nothing", func(r *machine.Record) { r.State = machine.Installed }, []string{"edeployctl reinstall 02-"}},
		{"held", func(r *machine.Record) { r.State, r.Differs = machine.Failed, differs },
			[]string{"fits profile vm", "differs from r7.bill in 8 properties", "disk sd0 size: 2 instead of 1;", "and 3 more", "edeployctl expect r7 02-00-00-00-00-01;", "edeployctl install-anyway 02-"}},
		{"held, of another deployment", func(r *machine.Record) { r.State, r.Differs, r.Section = machine.Failed, differs, "LAB" }, []string{"edeployctl expect r7 02-00-00-00-00-01 --section LAB;"}},
		{"let pass", func(r *machine.Record) { r.Differs = &passed }, nil},
		{"held because of data", func(r *machine.Record) {
			r.State, r.Foreign = machine.Failed, &api.Foreign{Disks: []wire.ForeignDisk{{Disk: "/dev/sdb", Holds: "ntfs"}, {Disk: "/dev/sdc", Holds: "gpt"}}}
		}, []string{"the disk /dev/sdb holds ntfs; the disk /dev/sdc holds gpt", "edeployctl wipe-anyway 02-"}},
		{"not all of it wiped", func(r *machine.Record) {
			r.State, r.Boot, r.LastError = machine.WipeFailed, machine.Hold, "1 of 2 disks are not erased: sda: it is broken"
		}, []string{"its disks are not all erased: 1 of 2 disks", "edeployctl wipe 02-"}},
		{"wiped", func(r *machine.Record) { r.State, r.Boot = machine.Wiped, machine.Hold }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, _ := finder(t, good(), record(1, tt.change))
			all := f.All()
			if len(all) != min(1, len(tt.want)) {
				t.Fatalf("%+v", all)
			}
			for _, want := range tt.want {
				if !strings.Contains(all[0].Text, want) {
					t.Errorf("lacks %q: %s", want, all[0].Text)
				}
			}
		})
	}
}

// TestManyMachines: a rack that fails at once does not make the list endless.
func TestManyMachines(t *testing.T) {
	var all []machine.Record
	for n := range 300 {
		all = append(all, record(n, func(r *machine.Record) { r.State = machine.Failed }))
	}
	f, _ := finder(t, good(), all...)
	got := f.All()
	if len(got) != 201 || !strings.HasPrefix(got[200].Text, "100 more machines") {
		t.Errorf("%d problems, the last is %+v", len(got), got[len(got)-1])
	}
}

// TestList: each text is there once, with its last time; what machines cause
// never pushes out what else went wrong. Many may add at once.
func TestList(t *testing.T) {
	f, _ := finder(t, good())
	f.Late.Add("SERVER", "disk %s is full", "sda")
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			for n := range 50 {
				f.Late.Refused("SERVER", "machine %d", i*50+n)
				f.Late.Note([]allocation.Note{{Kind: allocation.Doubt, Text: "one that comes again"}, {Kind: allocation.Mistake, Text: "is told as long as it is there"}})
			}
		})
	}
	all.Wait()
	f.Late.Refused("SERVER", "the last machine")
	f.Late.BoundReached("too many")
	f.Late.Note([]allocation.Note{{Kind: allocation.Loss, Section: "SERVER", Text: "a count is lost"}})
	got := f.All()
	texts := make([]string, len(got))
	for i, p := range got {
		if texts[i] = p.Text; p.Time == nil {
			t.Errorf("%q has no time", p.Text)
		}
	}
	if len(got) != bounded+2 || texts[bounded-2] != "the last machine" || texts[bounded-1] != "too many" || !got[bounded-1].Warning {
		t.Errorf("%d: %q", len(got), texts[max(0, len(texts)-5):])
	}
	if !slices.Equal(texts[bounded:], []string{"disk sda is full", "a count is lost"}) {
		t.Errorf("failures: %q", texts[bounded:])
	}
	if slices.Contains(texts, "is told as long as it is there") {
		t.Error("a mistake in a file is kept though it may be mended")
	}
	slices.Sort(texts)
	if len(slices.Compact(texts)) != len(got) {
		t.Error("a text is there twice")
	}
}
