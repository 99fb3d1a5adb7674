package configure_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestRAID1: scripts in each language run the same command.
func TestRAID1(t *testing.T) {
	want := []string{
		"wipefs -q -a /dev/sda1 /dev/sdb1", "mdadm --create /dev/md0 --run --quiet --homehost=any --level=1 --raid-devices=2 /dev/sda1 /dev/sdb1", "wipefs -q -a /dev/md0",
	}
	for name, script := range map[string]string{
		"dialect": "raid1('/dev/md0', ['/dev/%s1' % disk for disk in ('sda', 'sdb')])\nset_role('a', '1', 'sda')",
		"python3": "#!/usr/bin/env python3\nraid1('/dev/md0', ('/dev/%s1' % disk for disk in ('sda', 'sdb')))\nset_role('a', '1', 'sda')",
		"sh":      "#!/usr/bin/env sh\nraid1 /dev/md0 /dev/sda1 /dev/sdb1\nset_role a 1 sda",
	} {
		t.Run(name, func(t *testing.T) {
			if name != "dialect" {
				needs.Program(t, name)
			}
			m := &machine{root: t.TempDir()}
			h := m.host(wire.BootArgs{})
			if name != "dialect" {
				h.Run = command.On(&m.log)
				// The programs say how they are called.
				script = strings.Replace(script, "\n", "\n"+map[string]string{"python3": "os.environ['PATH'] = var['bin'] + ':' + os.environ['PATH']", "sh": "PATH=$bin:$PATH"}[name]+"\n", 1)
			}
			bin := t.TempDir()
			for _, program := range []string{"wipefs", "mdadm"} {
				writeProgram(t, bin, program)
			}
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Var: "{'bin': '" + bin + "'}", Script: script})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if name == "dialect" {
				got = strings.Split(strings.Join(m.ran, "\n"), " && ")
			}
			for line := range strings.Lines(m.log.String()) {
				if called, ok := strings.CutPrefix(strings.TrimSpace(line), "called: "); ok {
					got = append(got, called)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadRAID1(t *testing.T) {
	for _, test := range []struct{ script, want string }{
		{"raid1('/dev/md0', ['/dev/sda1'])", "vm.configure:1: raid1: 1 members: want two or more"},
		{"raid1('/dev/md0', ['/dev/sda1', '/dev/sda1'])", "vm.configure:1: raid1: the member /dev/sda1 is named twice"},
		{"raid1('md0', ['/dev/sda1', '/dev/sdb1'])", `raid1: the array "md0": want a name such as /dev/md0`},
		{"raid1('/dev/md0', ['/dev/sda1', 'sdb1'])", `raid1: "sdb1" is not the name of a block device`},
		{"raid1('/dev/md0', ['/dev/sda1', '/dev/sdb1; reboot'])", `raid1: "/dev/sdb1; reboot" is not`},
		{"raid1('/dev/md0', ['/dev/sda1', 2])", "raid1: the member 2 is not a string"},
		{"raid1('/dev/md0', 2)", "raid1: for parameter members: got int, want iterable"},
		{"#!/usr/bin/env sh\nraid1 /dev/md0 /dev/sda1", "raid1: want array member member ..."},
		{"#!/usr/bin/env python3\n\nraid1('/dev/md0', ['a', 'a'])", "line 3: raid1: members ['a', 'a']: want two or more, each once"},
	} {
		m := &machine{root: t.TempDir()}
		h := m.host(wire.BootArgs{})
		if strings.HasPrefix(test.script, "#!") {
			h.Run = command.On(&m.log)
		}
		_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: test.script})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.script, err, test.want)
		}
		if len(m.ran) > 0 {
			t.Errorf("%s ran %v", test.script, m.ran)
		}
	}
}

// writeProgram makes a program that says how it was called.
func writeProgram(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho called: "+name+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}
