package configure_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/agent/internal/drive"
	"edeploy/server/wire"
)

// rack is a machine with three disks: sda is empty, sdb holds somebody's data,
// sdc is an earlier installation of this machine.
type rack struct {
	machine
	writeable map[string]bool
	tables    map[string]string // PTUUID by disk
	notes     []string
	kernel    string
	opened    []string // which disks each command could have written to
	output    string   // of a command that fails
}

func newRack(t *testing.T) *rack {
	return &rack{machine: machine{root: t.TempDir()}, writeable: map[string]bool{"sda": true, "sdb": true, "sdc": true},
		tables: map[string]string{"sdb": "bbbb", "sdc": "cccc"}}
}

func (r *rack) disks() *drive.Machine {
	sys := fstest.MapFS{}
	for name, gigabytes := range map[string]int{"sda": 100, "sdb": 200, "sdc": 200} {
		sys["block/"+name+"/size"] = &fstest.MapFile{Data: fmt.Appendln(nil, gigabytes*1e9/512)}
		sys["block/"+name+"/device/model"] = &fstest.MapFile{Data: []byte("M")}
		sys["block/"+name+"/device/serial"] = &fstest.MapFile{Data: []byte(strings.ToUpper(name))}
		sys["block/"+name+"/ro"] = &fstest.MapFile{Data: []byte("0\n")}
	}
	return &drive.Machine{Sys: sys, Head: func(string) error { return nil },
		SetReadOnly: func(device string, on bool) error { r.writeable[filepath.Base(device)] = !on; return nil },
		KernelLog:   func() (string, error) { return r.kernel, nil },
		Run: func(_ context.Context, c command.Command) ([]byte, error) {
			id := r.tables[filepath.Base(c.Argv[len(c.Argv)-1])]
			if id == "" {
				return command.On(nil)(context.Background(), command.Shell("exit 2"))
			}
			return []byte("PTTYPE=gpt\nPTUUID=" + id + "\n"), nil
		}}
}

func (r *rack) host() configure.Host {
	h := r.machine.host(wire.BootArgs{})
	run := h.Run
	h.Run = func(ctx context.Context, c command.Command) ([]byte, error) {
		r.opened = append(r.opened, r.open())
		if strings.Contains(c.String(), "mklabel") {
			for _, name := range []string{"sda", "sdb", "sdc"} {
				if r.writeable[name] && strings.Contains(c.String(), name) {
					r.tables[name] = "new-" + name
				}
			}
		}
		out, err := run(ctx, c)
		if failure, ok := err.(*command.Failure); ok {
			failure.Output = []byte(r.output)
		}
		return out, err
	}
	h.Disks, h.Ours, h.Note = r.disks(), []wire.DiskID{"cccc"}, func(text string) { r.notes = append(r.notes, text) }
	return h
}

func (r *rack) open() string {
	var names []string
	for _, name := range []string{"sda", "sdb", "sdc"} {
		if r.writeable[name] {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// Which disks each command of a script can write to.
func TestWatch(t *testing.T) {
	const role = "\nset_role('db', '1', 'sda')\n"
	for _, tt := range []struct {
		name, vars, script string
		want               []string
	}{
		{"a variable", `{'disk': 'sdb', 'other': 'sdc'}`, "run('mkfs /dev/%s' % var['disk'])\nset_role('db', '1', var['disk'])", []string{"sdb"}},
		{"a format", `{'disk': 'sdb', 'other': 'sdc'}`, "run('mkfs /dev/%(disk)s' % var)\nset_role('db', '1', 'sdb')", []string{"sdb"}},
		{"a device name in a text", `{}`, "run('mkfs /dev/sda1')" + role, []string{"sda"}},
		{"a comment", `{}`, "# not sdb\nrun('mkfs /dev/sda1') # nor /dev/sdc" + role, []string{"sda"}},
		{"a name that is named later", `{}`, "run('true')\nrun('mkfs /dev/sdb')" + role, []string{"sda sdb", "sda sdb"}},
		{"a name that is made up", `{}`, "for c in 'bc'.elems():\n    run('mkfs /dev/sd' + c)\nrun('true')" + role, []string{"sda sdb", "sda sdb sdc", "sda sdb sdc"}},
		{"a variable whose name is made up", `{'disk1': 'sdb', 'disk2': 'sdc'}`, "for i in range(1, 3):\n    run('mkfs /dev/' + var['disk%d' % i])\nset_role('a', '1', var['disk1'])", []string{"sdb", "sdb sdc"}},
		{"a list of variables", `{'disks': ['sdb', 'sdc']}`, "for d in var['disks']: run('mkfs /dev/' + d)\nset_role('a', '1', 'sdb')", []string{"sdb sdc", "sdb sdc"}},
		{"disks()", `{}`, "d = disks(count=1, order='size')[0]\nrun('mkfs ' + d)\nset_role('db', '1', d)", []string{"sda"}},
		{"disks() by serial number, later", `{}`, "run('true')\nd = disks(serial=['SDB', 'SDC'])\nrun('mkfs ' + d[1])" + role, []string{"sda", "sda sdb sdc"}},
		{"a pattern of the shell", `{}`, "run('wipefs -a /dev/sd[ac]')" + role, []string{"sda sdc"}},
		{"a command that lists disks", `{}`, "run('true')\nrun('for d in $(lsblk -dno NAME); do wipefs -a /dev/$d; done')" + role, []string{"sda", "sda sdb sdc"}},
		{"a file of the script's own", `{}`, "open('/dev/sdb', 'a').close()\nrun('true')" + role, []string{"sda sdb"}},
		{"Python", `{'disk1': 'sdb', 'x': 1}`, "#!/usr/bin/env python3\n# sdc\nrun('mkfs /dev/' + var['disk%d' % 1])", []string{"sdb"}},
		{"Python that lists disks", `{'disk1': 'sdb'}`, "#!/usr/bin/env python3\nfor d in os.listdir('/sys/block'): run('mkfs /dev/' + d)", []string{"sda sdb sdc"}},
		{"a shell", `{'disk': 'sdb'}`, "#!/bin/sh\nmkfs /dev/$disk; mkfs /dev/sda # sdc", []string{"sda sdb"}},
		{"a shell that lists disks", `{}`, "#!/bin/sh\nfor d in /sys/block/sd*; do mkfs /dev/${d##*/}; done", []string{"sda sdb sdc"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRack(t)
			if tt.name == "a file of the script's own" {
				if err := os.MkdirAll(filepath.Join(r.root, "dev"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			_, err := configure.Run(t.Context(), r.host(), wire.Configuration{Profile: "vm", Var: tt.vars, Script: tt.script})
			if err != nil && !strings.HasPrefix(tt.script, "#!") { // whose interpreter does not really run here
				t.Error(err)
			}
			if diff := cmp.Diff(tt.want, r.opened); diff != "" {
				t.Errorf("disks that the commands can write to (-want +got):\n%s", diff)
			}
			if r.open() != "sda sdb sdc" {
				t.Errorf("after the script only %s can be written to", r.open())
			}
		})
	}
}

// The plan is told once, before the first command; later names are told when they come.
func TestDiskPlan(t *testing.T) {
	r := newRack(t)
	res, err := configure.Run(t.Context(), r.host(), wire.Configuration{Profile: "vm", Var: `{'disk': 'sda'}`,
		Script: "run('parted /dev/%s mklabel gpt' % var['disk'])\nrun('parted /dev/sd%s mklabel gpt' % 'bc'[0])\nset_role('db', '1', 'sda')"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"disk /dev/sda (M, serial SDA, 100.0 GB, unknown transport): empty; the script may write to it",
		"disk /dev/sdb (M, serial SDB, 200.0 GB, unknown transport): sdb gpt; read-only: no line of the script names it",
		"disk /dev/sdc (M, serial SDC, 200.0 GB, unknown transport): sdc gpt; read-only: no line of the script names it",
		"disk /dev/sdb (M, serial SDB, 200.0 GB, unknown transport): sdb gpt; the script may write to it from now on: parted /dev/sdb mklabel gpt",
	}
	if diff := cmp.Diff(want, r.notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]wire.DiskID{"new-sda", "new-sdb"}, res.Written); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	if len(res.Closed) != 1 || res.Closed[0].Name != "sdc" {
		t.Errorf("closed at the end: %v", res.Closed)
	}
}

// What stops a script because of the disks.
func TestDisksRefuse(t *testing.T) {
	const sdb = "/dev/sdb (M, serial SDB, 200.0 GB, unknown transport)"
	const sdc = "/dev/sdc (M, serial SDC, 200.0 GB, unknown transport)"
	for _, tt := range []struct {
		name, script, output, kernel, fail, want string
		ran                                      int
	}{
		{name: "foreign data", script: "wipe('refuse')\nrun('mkfs /dev/sda')\nrun('mkfs /dev/sdb')",
			want: "vm.configure:2: wipe('refuse'): the script may write to the disk " + sdb + ", and what is on it is not of an installation of this machine, nothing was changed: sdb gpt"},
		{name: "foreign data on a disk that comes late", script: "wipe('refuse')\nrun('mkfs /dev/sda')\nrun('mkfs /dev/sd' + 'b')", ran: 1,
			want: "vm.configure:3: wipe('refuse'): the script may write to the disk " + sdb + ", and what is on it is not of an installation of this machine: sdb gpt"},
		{name: "its own data", script: "wipe('refuse')\nrun('mkfs /dev/sda /dev/sdc')", ran: 1},
		{name: "foreign data in Python", script: "#!/usr/bin/env python3\nwipe('refuse')\nrun('mkfs /dev/sdb')",
			want: "vm.configure: wipe('refuse'): the script may write to the disk " + sdb + ", and what is on it is not of an installation of this machine, nothing was changed: sdb gpt"},
		{name: "foreign data in a shell", script: "#!/bin/sh\nwipe refuse\nmkfs /dev/sdb",
			want: "vm.configure: wipe('refuse'): the script may write to the disk " + sdb + ", and what is on it is not of an installation of this machine, nothing was changed: sdb gpt"},
		{name: "a policy that Python computes", script: "#!/usr/bin/env python3\nwipe(x)\nrun('mkfs /dev/sdb')",
			want: "vm.configure: wipe: a script with an interpreter must spell the policy out, 'yes', 'ask' or 'refuse'"},
		{name: "yes", script: "wipe('yes')\nrun('mkfs /dev/sdb')", ran: 1},
		{name: "ask", script: "wipe('ask')\nrun('mkfs /dev/sdb')",
			want: "vm.configure:2: wipe('ask'): the script may write to the disk " + sdb + ", and what is on it is not of an installation of this machine, nothing was changed: sdb gpt"},
		{name: "no such policy", script: "wipe('maybe')", want: "vm.configure:1: wipe: policy \"maybe\": want 'yes', 'ask' or 'refuse'"},
		{name: "no policy", script: "wipe('')", want: "vm.configure:1: wipe: policy \"\": want 'yes', 'ask' or 'refuse'"},
		{name: "wipe too late", script: "run('true')\nwipe('refuse')", ran: 1, want: "vm.configure:2: wipe: call it before the script's first command"},
		{name: "ambiguous", script: "d = disks(count=1, order='-size')", want: "vm.configure:1: disks: 1 disks are wanted by order=\"-size\", and nothing says which of these 2 is one of them: " + sdb + ", " + sdc},
		{name: "a wrong argument", script: "disks(size_min='much')", want: "vm.configure:1: disks: for parameter \"size_min\": size \"much\": want a number of bytes, or one with K, M, G, T (powers of 1000) or KiB, MiB, GiB, TiB behind it"},
		{name: "a disk that no line names", script: "run('vgremove old')", output: "/dev/sdb: Operation not permitted", fail: "vgremove", ran: 1,
			want: "vm.configure:1: vgremove old: exit status 1: /dev/sdb: Operation not permitted; no line of the script names these disks, so they are read-only while it runs: " + sdb + ", " + sdc},
		{name: "a disk that fails", script: "run('mkfs /dev/sda')", output: "Input/output error", kernel: "\nI/O error, dev sda, sector 2048 op 0x1:(WRITE)\n", fail: "mkfs", ran: 1,
			want: "vm.configure:1: mkfs /dev/sda: exit status 1: Input/output error; the disk /dev/sda (M, serial SDA, 100.0 GB, unknown transport) fails: I/O error, dev sda, sector 2048 op 0x1:(WRITE)"},
		{name: "a disk that fails and nobody says so", script: "run('mkfs /dev/sda')", kernel: "\nBuffer I/O error on dev sda1, logical block 0, lost async page write\n", ran: 1,
			want: "vm.configure: the disk /dev/sda (M, serial SDA, 100.0 GB, unknown transport) fails: Buffer I/O error on dev sda1, logical block 0, lost async page write"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRack(t)
			r.fail, r.output = tt.fail, tt.output
			h := r.host()
			run := h.Run
			h.Run = func(ctx context.Context, c command.Command) ([]byte, error) {
				r.kernel += tt.kernel
				return run(ctx, c)
			}
			script := tt.script
			if !strings.HasPrefix(script, "#!") {
				script += "\nset_role('db', '1', 'sda')"
			}
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: script})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(r.opened) != tt.ran {
				t.Errorf("%d commands ran, want %d", len(r.opened), tt.ran)
			}
			if r.open() != "sda sdb sdc" {
				t.Errorf("after the script only %s can be written to", r.open())
			}
		})
	}
}

// The profile's policy counts when it is stricter than the script's; all disks
// are asked about together, and what the operator lets pass is passed.
func TestPolicyOfProfile(t *testing.T) {
	const both = "run('mkfs /dev/sdb /dev/sdc')\nset_role('db', '1', 'sda')"
	for _, tt := range []struct {
		name, script string
		profile      wire.WipePolicy
		pass         []wire.DiskID
		policy       wire.WipePolicy // of the error; "": there is none
		disks        int
	}{
		{"yes", both, "", nil, "", 0},
		{"the profile asks", both, wire.WipeAsk, nil, wire.WipeAsk, 2},
		{"the script says yes", "wipe('yes')\n" + both, wire.WipeAsk, nil, wire.WipeAsk, 2},
		{"the script is stricter", "wipe('refuse')\n" + both, wire.WipeAsk, nil, wire.WipeRefuse, 2},
		{"the profile is stricter", "wipe('ask')\n" + both, wire.WipeRefuse, nil, wire.WipeRefuse, 2},
		{"one may pass", "wipe('ask')\n" + both, "", []wire.DiskID{"old-sdb"}, wire.WipeAsk, 1},
		{"both may pass", "wipe('ask')\n" + both, "", []wire.DiskID{"old-sdb", "old-sdc"}, "", 0},
		{"a shell's script", "#!/bin/sh\nmkfs /dev/sdb", wire.WipeAsk, nil, wire.WipeAsk, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRack(t)
			r.tables["sdb"], r.tables["sdc"] = "old-sdb", "old-sdc"
			h := r.host()
			h.Wipe, h.Ours = tt.profile, tt.pass
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: tt.script})
			foreign, is := errors.AsType[*configure.Foreign](err)
			if is != (tt.policy != "") || is && (foreign.Policy != tt.policy || len(foreign.Disks) != tt.disks) {
				t.Fatalf("%v", err)
			}
			if is && len(r.opened) > 0 {
				t.Errorf("%d commands ran", len(r.opened))
			}
			if is && wire.CheckForeign(foreign.Disks) != nil {
				t.Errorf("%+v", foreign.Disks)
			}
		})
	}
}

// Of two NVMe disks that say they are one the kernel takes either: a script that
// names it is refused before its first command, others do not mind.
func TestRejectedTwin(t *testing.T) {
	const log = "[    5.641178] nvme nvme0: Duplicate cntlid 0 with nvme1, subsys nqn.2014-08.org.x:B, rejecting\n"
	for script, want := range map[string]string{
		"run('mkfs /dev/sda')\nset_role('db', '1', 'sda')": "",
		"run('mkfs /dev/sdb')\nset_role('db', '1', 'sdb')": "the disk /dev/sdb (M, serial SDB, 200.0 GB, unknown transport) may be another one: the kernel rejected a second NVMe disk that says it is the same " +
			"(nvme nvme0: Duplicate cntlid 0 with nvme1, subsys nqn.2014-08.org.x:B, rejecting); remove one, or give it an NQN of its own",
	} {
		r := newRack(t)
		r.kernel = log
		h := r.host()
		sys := h.Disks.Sys.(fstest.MapFS)
		sys["block/sda/device/subsysnqn"] = &fstest.MapFile{Data: []byte("nqn.2014-08.org.x:A\n")}
		sys["block/sdb/device/subsysnqn"] = &fstest.MapFile{Data: []byte("nqn.2014-08.org.x:B\n")}
		_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: script})
		if (want == "") != (err == nil) || want != "" && !strings.Contains(err.Error(), want) || want != "" && len(r.opened) > 0 {
			t.Errorf("%s: %v, and %d commands ran", script, err, len(r.opened))
		}
	}
}
