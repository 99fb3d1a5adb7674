package configure_test

import (
	"errors"
	"strings"
	"testing"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

// TestFirmware: scripts of every language learn how the machine starts its disk.
func TestFirmware(t *testing.T) {
	for name, script := range map[string]string{
		"dialect": "run('echo ' + var['firmware'])\nset_role('base', '1', 'vda')\n",
		"Python":  "#!/usr/bin/python3\nrun('echo ' + var['firmware'])\nset_role('base', '1', 'vda')\n",
		"shell":   "#!/bin/sh\nrun echo $firmware\nset_role base 1 vda\n",
	} {
		t.Run(name, func(t *testing.T) {
			for vars, want := range map[string]string{"": "uefi", "{'disk': 'vda'}": "uefi", "{'firmware': '2.7'}": "2.7"} {
				m := &machine{root: t.TempDir()}
				host := m.host(wire.BootArgs{})
				host.Firmware = "uefi"
				if name != "dialect" {
					needs.Programs(t, "python3")
					host.Run = command.On(&m.log)
				}
				conf := wire.Configuration{Profile: "vm", Var: vars, Script: script}
				if _, err := configure.Run(t.Context(), host, conf); err != nil {
					t.Fatal(err)
				}
				if got := m.log.String() + strings.Join(m.ran, "\n"); !strings.Contains(got, "echo "+want) {
					t.Errorf("with variables %q: %q, want %q", vars, got, want)
				}
			}
		})
	}
}

// TestScriptForBIOS: on a UEFI machine a script that makes partitions and no
// EFI system partition is refused before its first command.
func TestScriptForBIOS(t *testing.T) {
	const gpt = "# efi is for later\ndisk = '/dev/vda'\nrun('parted -s %s mklabel gpt' % disk)\nset_role('base', '1', disk)\n"
	for _, tt := range []struct {
		name, firmware, script string
		refused                bool
	}{
		{"the seed's", "uefi", seed(t, "vm.configure"), true},
		{"the seed's, indented", "uefi", "    " + strings.ReplaceAll(seed(t, "vm.configure"), "\n", "\n    "), true},
		{"the seed's on a BIOS machine", "bios", seed(t, "vm.configure"), false},
		{"a GPT alone, EFI in a comment", "uefi", gpt, true},
		{"for both", "uefi", gpt + "run('mount %s2 /chroot/boot/efi' % disk)\n", false},
		{"it asks for the firmware", "uefi", gpt + "if var['firmware'] == 'uefi':\n    run('true')\n", false},
		{"another program makes the partitions", "uefi", "run('/tmp/prepare')\nset_role('base', '1', 'vda')\n", false},
		{"shell", "uefi", "#!/bin/sh\nrun sfdisk /dev/vda\nset_role base 1 vda\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{root: t.TempDir()}
			host := m.host(wire.BootArgs{})
			host.Firmware = tt.firmware
			_, err := configure.Run(t.Context(), host, wire.Configuration{Profile: "vm", Var: seedVar, Script: tt.script})
			if got := errors.Is(err, configure.ErrNoESP); got != tt.refused {
				t.Errorf("got %v, want refused %v", err, tt.refused)
			}
			if tt.refused && len(m.ran) > 0 {
				t.Errorf("it ran %q", m.ran)
			}
		})
	}
}
