package configuration_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/configuration"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"

	"github.com/google/go-cmp/cmp"
)

// site is a deployment with files, and one machine that holds the first entry
// of vm.cmdb.
type site struct {
	*allocation.Deployment
	documents *store.Memory
	holder    machine.Record
}

func newSite(t *testing.T, files map[string]string) site {
	t.Helper()
	s := site{Deployment: &allocation.Deployment{Name: "SERVER", ConfigDir: "/config", Collection: allocation.Collection("SERVER")}, documents: store.NewMemory(store.Limits{})}
	for name, text := range files {
		if err := s.documents.Commit(store.Change{Name: s.Collection + "/" + name, Text: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	s.Dir = profile.Open(s.ConfigDir, store.In(s.documents, s.Collection))
	s.holder = machine.Record{ID: "m1", State: machine.Installed, Boot: machine.Auto, Allocation: &machine.Allocation{Section: "SERVER", Var: "{}",
		Holding: assign.Holding{Profile: "vm", Before: "{'ip': '10.0.0.1'}", After: "{'ip': '10.0.0.1', 'used': 1}"}}}
	return s
}

// decide makes the change, and answers what would be in the directory.
func (s site) decide(q configuration.Replacement) (configuration.Result, allocation.Changes, map[string]string, error) {
	snapshot := allocation.NewSnapshot(&allocation.Site{Deployments: map[string]*allocation.Deployment{"SERVER": s.Deployment}, Default: "SERVER"},
		time.Now(), machine.NewIndex(s.holder), s.documents)
	result, c, err := q.Decide(snapshot)
	if err == nil {
		err = s.documents.Commit(c.Documents...)
	}
	files := map[string]string{}
	names, _ := s.documents.List(s.Collection)
	for _, name := range names {
		doc, _ := s.documents.Get(name)
		files[strings.TrimPrefix(name, s.Collection+"/")] = string(doc.Text)
	}
	return result, c, files, err
}

func files() map[string]string {
	return map[string]string{"state": "[('vm', 2), ('db', 1)]\n", "vm.specs": "[('disk', '$d', 'size', '4')]\n", "vm.configure": "set_role('a', '1', 'x')\n",
		"vm.cmdb": "[{'ip': '10.0.0.1', 'used': 1}, {'ip': '10.0.0.2'}]\n", "vm.cmdb.orig": "generate({'ip': '10.0.0.1-2'})\n", "db.specs": "[]\n", "r7.bill": "{'facts': [('a', 'b', 'c', 'd')]}\n", "notes.txt": "mine", "authorized_keys": "# nobody\n"}
}

// TestNew: what a set may have, by its names and sizes.
func TestNew(t *testing.T) {
	large := strings.Repeat(" ", fileset.MaxFileBytes)
	many := map[string]string{}
	for _, name := range strings.Split("a.specs b.specs c.specs d.specs e.specs f.specs g.specs h.specs i.specs", " ") {
		many[name] = large
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		err   error
	}{
		{"all kinds", map[string]string{"state": "", "a.specs": "", "a.configure": "", "a.cmdb": "", "a.bill": ""}, nil},
		{"none", nil, refusal.Input},
		{"another name", map[string]string{"notes.txt": ""}, refusal.Input},
		{"outside", map[string]string{"../a.specs": ""}, refusal.Input},
		{"steers a terminal", map[string]string{"\x1b[2J.specs": ""}, refusal.Input},
		{"the server's own", map[string]string{"a.cmdb.orig": ""}, refusal.Input},
		{"as large as may be", map[string]string{"a.specs": large}, nil},
		{"too large", map[string]string{"a.specs": large + " "}, refusal.TooLarge},
		{"too large together", many, refusal.TooLarge},
	} {
		if _, err := configuration.New(newSite(t, nil).Deployment, api.ConfigSet{Files: tt.files}); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
		}
	}
}

// TestCheck: mistakes refuse the whole, with all their places, unless it is
// forced: then they are warnings.
func TestCheck(t *testing.T) {
	set := api.ConfigSet{Files: map[string]string{"a.specs": "[\n('a',)]", "b.cmdb": "[", "c.configure": "nosuch()\nset_role('a', '1', 'x')\n", "d.bill": "{}", "state": "[('a', 1)]"}}
	q, err := configuration.New(newSite(t, nil).Deployment, set)
	if err != nil {
		t.Fatal(err)
	}
	_, err = q.Check()
	broken, ok := errors.AsType[*configuration.BrokenFiles](err)
	if !ok || !errors.Is(err, refusal.Unusable) {
		t.Fatalf("%v", err)
	}
	var at []string
	for _, p := range broken.Problems {
		if at = append(at, p.File); p.Line == 0 || p.Section != "SERVER" {
			t.Errorf("%+v has no place", p)
		}
	}
	slices.Sort(at)
	if diff := cmp.Diff([]string{"a.specs", "b.cmdb", "c.configure", "d.bill"}, slices.Compact(at)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	q.Force = true
	if warnings, err := q.Check(); err != nil || len(warnings) != len(broken.Problems) {
		t.Errorf("forced: %v, %v", warnings, err)
	}
	if _, err := (configuration.Replacement{Deployment: q.Deployment, Remove: []fileset.Name{{Kind: fileset.State}}}).Check(); !errors.Is(err, refusal.Unusable) {
		t.Errorf("the state is removed: %v", err)
	}
}

// TestReplace: what is told of each file; what is not given stays.
func TestReplace(t *testing.T) {
	s := newSite(t, files())
	q, err := configuration.New(s.Deployment, api.ConfigSet{Files: map[string]string{"state": "[('vm', 5), ('web', '*')]\n", "vm.specs": files()["vm.specs"], "web.specs": "[]\n"}})
	if err != nil {
		t.Fatal(err)
	}
	got, _, after, err := s.decide(q)
	want := api.Replaced{Added: []string{"web.specs"}, Changed: []string{"state"}, Unchanged: []string{"vm.specs"}, Counts: []string{"vm: 2 -> 5", "db: 1 -> none", "web: none -> *"}}
	if diff := cmp.Diff(want, got.Replaced); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	expected := files()
	expected["state"], expected["web.specs"] = "[('vm', 5), ('web', '*')]\n", "[]\n"
	if diff := cmp.Diff(expected, after); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	for name, version := range got.Versions {
		if version != store.VersionOf([]byte(after[name])) {
			t.Errorf("the version of %s is another one", name)
		}
	}
}

// TestPrune: what is not given goes, but for the state and what is no file of a
// profile; a CMDB takes its call along, and who holds an entry is named.
func TestPrune(t *testing.T) {
	s := newSite(t, files())
	q, err := configuration.New(s.Deployment, api.ConfigSet{Files: map[string]string{"vm.specs": "[]\n"}, Prune: true})
	if err != nil {
		t.Fatal(err)
	}
	got, _, after, err := s.decide(q)
	if names := slices.Sorted(maps.Keys(after)); err != nil || !slices.Equal(names, []string{"authorized_keys", "notes.txt", "state", "vm.specs"}) {
		t.Errorf("%v: left %v", err, names)
	}
	slices.Sort(got.Removed)
	if diff := cmp.Diff([]string{"db.specs", "r7.bill", "vm.cmdb", "vm.cmdb.orig", "vm.configure"}, got.Removed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0].Text, "machine m1 holds an entry of vm.cmdb, which is gone") {
		t.Errorf("%v", got.Warnings)
	}
}

// TestHeldEntries: an entry that a machine holds stays taken in whatever comes,
// and its record follows it; one that is gone is a warning.
func TestHeldEntries(t *testing.T) {
	for _, tt := range []struct {
		name, text, want, after string
		lost                    bool
	}{
		{"the call that it was", "generate({'ip': '10.0.0.1-2'})\n", "10.0.0.1", "", false},
		{"with more in it", "[{'ip': '10.0.0.9', 'gw': 'g'}, {'ip': '10.0.0.1', 'gw': 'g'}]\n", "10.0.0.1", "'gw': 'g'", false},
		{"without it", "[{'ip': '10.0.0.8'}, {'ip': '10.0.0.9'}]\n", "", "", true},
		{"broken, by force", "[", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, files())
			q, err := configuration.New(s.Deployment, api.ConfigSet{Files: map[string]string{"vm.cmdb": tt.text}})
			if err != nil {
				t.Fatal(err)
			}
			got, c, after, err := s.decide(q)
			if err != nil || tt.lost != (len(got.Warnings) == 1) {
				t.Fatalf("%v, warnings %v", err, got.Warnings)
			}
			used := strings.Count(after["vm.cmdb"], "'used': 1")
			if tt.want != "" && (used != 1 || !strings.Contains(after["vm.cmdb"], tt.want)) || tt.want == "" && used != 0 {
				t.Errorf("%d entries are used:\n%s", used, after["vm.cmdb"])
			}
			if tt.after != "" && (len(c.Records) != 1 || !strings.Contains(c.Records[0].Allocation.After, tt.after)) {
				t.Errorf("the record: %+v", c.Records)
			}
		})
	}
}

// TestCompareAndSwap: one file is replaced or removed only as it was seen.
func TestCompareAndSwap(t *testing.T) {
	is := func(text string) func(store.Version) bool {
		return func(v store.Version) bool { return v == store.VersionOf([]byte(text)) }
	}
	specs, gone := fileset.Name{Kind: fileset.Specs, Profile: "vm"}, fileset.Name{Kind: fileset.Specs, Profile: "gone"}
	for _, tt := range []struct {
		name string
		q    configuration.Replacement
		err  error
	}{
		{"as it was seen", configuration.Replacement{Files: map[fileset.Name]string{specs: "[]"}, Expect: is(files()["vm.specs"])}, nil},
		{"changed since", configuration.Replacement{Files: map[fileset.Name]string{specs: "[]"}, Expect: is("[1]")}, refusal.Precondition},
		{"gone since", configuration.Replacement{Files: map[fileset.Name]string{gone: "[]"}, Expect: is("[1]")}, refusal.Precondition},
		{"removed as it was seen", configuration.Replacement{Remove: []fileset.Name{specs}, Expect: is(files()["vm.specs"])}, nil},
		{"removed, and changed since", configuration.Replacement{Remove: []fileset.Name{specs}, Expect: is("[1]")}, refusal.Precondition},
		{"removed, and never there", configuration.Replacement{Remove: []fileset.Name{gone}}, refusal.NoFile},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, files())
			tt.q.Deployment = s.Deployment
			_, c, after, err := s.decide(tt.q)
			if !errors.Is(err, tt.err) {
				t.Errorf("%v, want %v", err, tt.err)
			}
			if changed := cmp.Diff(files(), after) != ""; changed != (tt.err == nil) || tt.err != nil && len(c.Records) > 0 {
				t.Errorf("changed: %v", changed)
			}
		})
	}
}
