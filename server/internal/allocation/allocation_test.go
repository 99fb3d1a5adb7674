package allocation_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// site has one deployment with these files.
func site(t *testing.T, files map[string]string) *allocation.Site {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := &allocation.Deployment{Name: "SERVER", ConfigDir: dir, Collection: allocation.Collection("SERVER"), Dir: profile.Open(dir, store.OpenFiles(dir))}
	return &allocation.Site{Deployments: map[string]*allocation.Deployment{"SERVER": d}, Default: "SERVER", MaxMachines: 3}
}

func snapshot(s *allocation.Site, known ...machine.Record) *allocation.Snapshot {
	return allocation.NewSnapshot(s, now, machine.NewIndex(known...), store.NewMemory(store.Limits{}))
}

func mac(n int) string { return fmt.Sprintf("52:54:00:00:00:%02x", n) }
func id(n int) string  { return strings.ReplaceAll(mac(n), ":", "-") }

func vm(s *allocation.Site, n int) allocation.Request {
	h := wire.Hardware{{Category: "system", ID: "product", Field: "name", Value: "vm"}, {Category: "network", ID: "eth0", Field: "serial", Value: mac(n)}}
	return allocation.Request{Deployment: s.Deployments["SERVER"], Facts: assign.NewFacts(h), Identity: h.Identity(), Came: now}
}

var files = map[string]string{
	"state": "[('vm', 1), ('spare', '*')]\n", "vm.specs": "[('system', 'product', 'name', 'vm'), ('network', '$eth', 'serial', '$mac')]\n", "vm.configure": "run('vm')\n",
	"vm.cmdb": "[{'ip': '10.0.0.1'}]\n", "spare.specs": "[('system', 'product', 'name', 'other')]\n", "spare.configure": "run('spare')\n",
}

func known(n int, change func(*machine.Record)) machine.Record {
	r := machine.Record{ID: id(n), Identity: wire.Identity{MACs: []string{mac(n)}}, State: machine.Unknown, Boot: machine.Auto}
	if change != nil {
		change(&r)
	}
	return r
}

func holds(profile string) func(*machine.Record) {
	return func(r *machine.Record) {
		r.State = machine.Installing
		r.Allocation = &machine.Allocation{Holding: assign.Holding{Profile: profile, Counted: true}, Section: "SERVER", Var: "{}", Asked: 1}
	}
}

func installed(r *machine.Record) { r.State = machine.Installed }

// TestAllocate: what a machine gets depends on its record and the files.
func TestAllocate(t *testing.T) {
	tests := []struct {
		name    string
		known   []machine.Record
		files   map[string]string // other than those above
		profile string
		state   machine.State // of the record afterwards
		refused error         // noted in the record
		err     error         // nothing is changed
		changed int           // documents of the directory
	}{
		{name: "the first profile that fits", profile: "vm", state: machine.Installing, changed: 2},
		{name: "no count left", files: map[string]string{"state": "[('vm', 0)]"}, state: machine.Failed, refused: refusal.Conflict},
		{name: "nothing fits", files: map[string]string{"state": "[('spare', 1)]"}, state: machine.Failed, refused: refusal.NoMatch},
		{name: "an unreadable state", files: map[string]string{"state": "["}, state: machine.Failed, refused: refusal.Broken},
		{name: "no CMDB entry left", files: map[string]string{"vm.cmdb": "[{'ip': '10.0.0.1', 'used': 1}]"}, state: machine.Failed, refused: refusal.Conflict},
		{name: "the same again", known: []machine.Record{known(1, holds("vm"))}, files: map[string]string{"vm.cmdb": "[]"}, profile: "vm", state: machine.Installing},
		{name: "installed", known: []machine.Record{known(1, installed)}, state: machine.Installed, refused: refusal.Conflict},
		{name: "on hold", known: []machine.Record{known(1, func(r *machine.Record) { r.Boot = machine.Hold })}, state: machine.Unknown, refused: refusal.Conflict},
		{name: "no room", known: []machine.Record{known(7, installed), known(8, installed), known(9, installed)}, err: refusal.Busy},
		{name: "a stranger makes room", known: []machine.Record{known(7, nil), known(8, installed), known(9, installed)}, profile: "vm", state: machine.Installing, changed: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			all := map[string]string{}
			for _, set := range []map[string]string{files, tt.files} {
				for name, text := range set {
					all[name] = text
				}
			}
			where := site(t, all)
			s := snapshot(where, tt.known...)
			before := s.Machines.All()
			out, c, err := allocation.Allocate(s, vm(where, 1))
			if diff := cmp.Diff(before, s.Machines.All()); diff != "" {
				t.Errorf("the decision itself has changed records (-before +after):\n%s", diff)
			}
			if !errors.Is(err, tt.err) || !errors.Is(out.Refused, tt.refused) {
				t.Fatalf("error %v, refused %v", err, out.Refused)
			}
			if err != nil {
				return
			}
			s.Apply(c)
			r, _ := s.Machines.Get(id(1))
			if r.State != tt.state || (tt.refused != nil) != (r.LastError != "") {
				t.Errorf("state %s, last error %q", r.State, r.LastError)
			}
			if (tt.profile != "") != (out.Configuration != nil) || tt.profile != "" && r.Allocation.Profile != tt.profile {
				t.Errorf("configuration %v, allocation %+v, want %q", out.Configuration, r.Allocation, tt.profile)
			}
			if s.Machines.Len() > where.MaxMachines {
				t.Errorf("%d machines are known", s.Machines.Len())
			}
			changes, err := s.ChangedDocuments()
			if err != nil || len(changes) != tt.changed {
				t.Errorf("%d documents change (%v), want %d", len(changes), err, tt.changed)
			}
		})
	}
}

// TestTogether: each decision sees what those before it have taken, and a
// failure gives it back to those after it.
func TestTogether(t *testing.T) {
	where := site(t, files)
	s := snapshot(where)
	steps := []struct {
		fail bool
		n    int
		got  bool
	}{{n: 1, got: true}, {n: 2}, {fail: true, n: 1}, {fail: true, n: 1}, {n: 2, got: true}, {n: 1}}
	for i, step := range steps {
		decide, q := allocation.Allocate, vm(where, step.n)
		if step.fail {
			decide, q.Failure = allocation.Fail, "vm"
		}
		out, c, err := decide(s, q)
		if err != nil || (out.Configuration != nil) != step.got {
			t.Fatalf("step %d: configuration %v, refused %v, error %v", i, out.Configuration, out.Refused, err)
		}
		s.Apply(c)
	}
}

// TestOperator: what an operator says changes the record, or is refused.
func TestOperator(t *testing.T) {
	decide := map[string]func(*allocation.Snapshot) (allocation.Outcome, allocation.Changes, error){
		"hold": func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
			return allocation.SetBoot(s, mac(1), machine.Hold)
		},
		"section": func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
			return allocation.SetSection(s, mac(1), "SERVER")
		},
		"add": func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
			return allocation.Add(s, mac(1), "")
		},
		"join": func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
			return allocation.Add(s, mac(1), id(2))
		},
		"forget": func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
			return allocation.Forget(s, id(1), false)
		},
		"restore": func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
			return allocation.Restore(s, id(1))
		},
	}
	tests := []struct {
		decide string
		known  []machine.Record
		err    error
		ids    []string // that are known afterwards
		boot   machine.Boot
	}{
		{"hold", nil, refusal.UnknownMachine, nil, ""},
		{"hold", []machine.Record{known(1, nil)}, nil, []string{id(1)}, machine.Hold},
		{"section", nil, nil, []string{id(1)}, machine.Auto},
		{"section", []machine.Record{known(7, installed), known(8, installed), known(9, installed)}, refusal.Busy, nil, ""},
		{"add", nil, nil, []string{id(1)}, machine.Reinstall},
		{"add", []machine.Record{known(1, nil)}, nil, []string{id(1)}, machine.Reinstall},
		{"join", nil, refusal.UnknownMachine, nil, ""},
		{"join", []machine.Record{known(1, nil), known(2, nil)}, nil, []string{id(1), id(2)}, machine.Auto},
		{"forget", []machine.Record{known(1, installed)}, refusal.Conflict, nil, ""},
		{"forget", []machine.Record{known(1, holds("vm")), known(2, nil)}, nil, []string{id(2)}, machine.Auto},
		{"restore", []machine.Record{known(1, nil)}, refusal.UnknownMachine, nil, ""},
	}
	for _, tt := range tests {
		s := snapshot(site(t, files), tt.known...)
		out, c, err := decide[tt.decide](s)
		if !errors.Is(err, tt.err) {
			t.Errorf("%s with %d machines: %v, want %v", tt.decide, len(tt.known), err, tt.err)
		}
		if err != nil {
			continue
		}
		s.Apply(c)
		var ids []string
		for _, r := range s.Machines.All() {
			ids = append(ids, r.ID)
		}
		if diff := cmp.Diff(tt.ids, ids); diff != "" || out.Record.Boot != tt.boot || len(out.Lines) != 1 {
			t.Errorf("%s with %d machines: boot %s, lines %v, machines (-want +got):\n%s", tt.decide, len(tt.known), out.Record.Boot, out.Lines, diff)
		}
	}
}

// TestForgetAndRestore: what a forgotten machine held is free for others, and
// is taken back with it.
func TestForgetAndRestore(t *testing.T) {
	where := site(t, files)
	s := snapshot(where)
	apply := func(out allocation.Outcome, c allocation.Changes, err error) allocation.Outcome {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s.Apply(c)
		if err := s.Documents.Commit(c.Documents...); err != nil {
			t.Fatal(err)
		}
		return out
	}
	apply(allocation.Allocate(s, vm(where, 1)))
	held, _ := s.Machines.Get(id(1))
	apply(allocation.Forget(s, id(1), false))
	apply(allocation.Restore(s, id(1)))
	if back, _ := s.Machines.Get(id(1)); cmp.Diff(held, back) != "" {
		t.Errorf("taken back (-held +back):\n%s", cmp.Diff(held, back))
	}
	if out := apply(allocation.Allocate(s, vm(where, 2))); !errors.Is(out.Refused, refusal.NoMatch) {
		t.Errorf("another machine got what was taken back: %v", out.Refused)
	}
	apply(allocation.Forget(s, id(1), false))
	if out := apply(allocation.Allocate(s, vm(where, 2))); out.Configuration == nil {
		t.Errorf("another machine did not get what is free: %v", out.Refused)
	}
	if _, _, err := allocation.Restore(s, id(1)); !errors.Is(err, refusal.Conflict) {
		t.Errorf("what another machine holds was taken back: %v", err)
	}
}

// TestReport: what a report makes of a record; most change nothing.
func TestReport(t *testing.T) {
	good := wire.Report{Step: wire.StepReboot, Status: wire.StatusInstalled}
	tests := []struct {
		name    string
		known   []machine.Record
		report  wire.Report
		state   machine.State
		changed bool
	}{
		{"a machine that nobody knows", nil, wire.Report{Step: wire.StepDetect, Status: wire.StatusStarted}, machine.Installing, true},
		{"one more step", []machine.Record{known(1, holds("vm"))}, wire.Report{Step: wire.StepTransfer, Status: wire.StatusProgress}, machine.Installing, false},
		{"installed", []machine.Record{known(1, holds("vm"))}, good, machine.Installed, true},
		{"failed", []machine.Record{known(1, holds("vm"))}, wire.Report{Step: wire.StepVerify, Status: wire.StatusFailed}, machine.Failed, true},
		{"installed stays so", []machine.Record{known(1, installed)}, wire.Report{Step: wire.StepDetect, Status: wire.StatusStarted}, machine.Installed, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshot(site(t, files), tt.known...)
			tt.report.Machine = wire.Identity{MACs: []string{mac(1)}}
			out, c, err := allocation.Report(s, tt.report)
			if err != nil || out.Record.State != tt.state || (len(c.Records) > 0) != tt.changed {
				t.Errorf("state %s, changes %+v, error %v", out.Record.State, c, err)
			}
		})
	}
}
