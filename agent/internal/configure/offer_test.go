package configure_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/configure"
	"edeploy/server/wire"
)

// TestRoleIsChecked: the server has "db D12-1" only, and on the host "other"
// also "web D12-1".
func TestRoleIsChecked(t *testing.T) {
	const format = "\nrun('mkfs.ext4 /dev/sda')\n"
	const missing = "role web D12-1 is not there"
	tests := []struct {
		name, script string
		args         wire.BootArgs
		ran          int
		want, log    string
	}{
		{name: "unknown role, named at the end", script: format + "set_role('web', 'D12-1', 'sda')", want: "vm.configure: " + missing},
		{name: "unknown role in a name", script: "r = 'web'" + format + "set_role(r, 'D12-1', 'sda')", want: missing},
		{name: "in Python", script: "#!/usr/bin/env python3" + format + "set_role('web', 'D12-1', 'sda')", want: missing},
		{name: "in shell", script: "#!/bin/sh\nmkfs.ext4 /dev/sda\nset_role web D12-1 sda\n", want: missing},
		{name: "OS replaces the role", script: format + "set_role('db', 'D12-1', 'sda')", args: wire.BootArgs{OS: "web"}, want: missing},
		{name: "OS replaces it by one that is there", script: format + "set_role('web', 'D12-1', 'sda')", args: wire.BootArgs{OS: "db"}, ran: 1},
		{name: "OS and OS_VER, whatever the script says", script: format + "set_role(var['r'], '1', 'sda')",
			args: wire.BootArgs{OS: "web", OSVer: "D12-1"}, want: missing},
		{name: "known role", script: format + "set_role('db', 'D12-1', 'sda')", ran: 1},
		{name: "one of two is there", script: format + "if False: set_role('web', 'D12-1', 'sda')\nset_role('db', 'D12-1', 'sda')",
			ran: 1, log: "warning: " + missing},
		{name: "the last set_role counts", script: "set_role('web', 'D12-1', 'sda')\nset_role('db', 'D12-1', 'sda')" + format, ran: 1},
		{name: "made of variables, before the commands", script: "set_role(var['r'], 'D12-1', 'sda')" + format, want: "vm.configure:2: " + missing},
		{name: "made of variables, behind the commands", script: format + "set_role(var['r'], 'D12-1', 'sda')", ran: 1},
		{name: "from another server", script: "open('/vars', 'a').write('HSERV=other\\n')" + format + "set_role('web', 'D12-1', 'sda')", ran: 1},
		{name: "from another server, named behind the commands", script: "open('/vars', 'a').write('HSERV=elsewhere\\n')\n" + format + "set_role('web', 'D12-1', 'sda')",
			want: "vm.configure: " + missing},
		{name: "from another server, said behind the commands", script: format + "if True: open('/vars', 'a').write('HSERV=elsewhere\\n')\nset_role('web', 'D12-1', 'sda')", ran: 1},
		{name: "from another server, said plainly at the end", script: format + "set_role('web', 'D12-1', 'sda')\nopen('/vars', 'a').write('HSERV=other\\n')\n", ran: 1},
		{name: "from another server, said plainly at the end, unknown there", script: format + "set_role('web', 'D12-1', 'sda')\nopen('/vars', 'a').write('HSERV=elsewhere\\n')\n",
			want: "vm.configure: " + missing},
		{name: "from another server, unknown there", script: "f = open('/vars', 'a')\nf.write('HSERV=elsewhere\\n')\nf.close()\nset_role('web', 'D12-1', 'sda')" + format,
			want: "vm.configure:5: " + missing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{root: t.TempDir()}
			h := m.host(tt.args)
			h.Offered = func(_ context.Context, args wire.BootArgs, image wire.ImageRef) error {
				if image.Role == "db" || args.HServ == "other" {
					return nil
				}
				return fmt.Errorf("role %s is not there", image)
			}
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Var: "{'r': 'web'}", Script: tt.script})
			if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if diff := cmp.Diff(tt.ran, len(m.ran)); diff != "" {
				t.Errorf("commands that ran (-want +got):\n%s%q", diff, m.ran)
			}
			if !strings.Contains(m.log.String(), tt.log) {
				t.Errorf("log %q, want %q", m.log.String(), tt.log)
			}
		})
	}
}
