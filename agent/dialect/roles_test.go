package dialect_test

import (
	"strings"
	"testing"

	"edeploy/agent/dialect"

	"github.com/google/go-cmp/cmp"
)

func TestRoles(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		want         string // "ROLE VERSION", joined by commas; "..." when there may be others
	}{
		{"the original's form", "set_role('vm', 'D7-F.1.0.0', disk1)\n", "vm D7-F.1.0.0"},
		{"double quotes, several lines", "set_role(\"vm\", # role\n   \"1\",\n   '/dev/' + var['disk'])", "vm 1"},
		{"keywords", "set_role(disk=d, version='1', role='vm')", "vm 1"},
		{"named texts", "role = 'vm'\nversion = u'1'\nset_role(role, version, d)", "vm 1"},
		{"either", "if var['x']:\n    v = '1'\nelse:\n    v = '2'\nset_role('vm', v, d)", "vm 1,vm 2"},
		{"two calls", "if x: set_role('b', '1', d)\nelse: set_role('a', '1', d)\nset_role('a', '1', d)", "a 1,b 1"},
		{"made of variables", "set_role('vm', 'D%s' % var['v'], d)\nset_role(var['r'], '1', d)\nx = '1' + y\nset_role('vm', x, d)", "..."},
		{"comments and texts", "# set_role('a', '1', d)\nrun('set_role(1, 2, 3)')\n'''\nset_role('b', '1', d)'''", ""},
		{"a definition", "def set_role(a='b', b='c', c='d'):\n    pass", ""},
		{"no name of an image", "set_role('../x', '1', d)", "..."},
		{"a broken script", "x = (\nset_role('vm', '1', d)", "vm 1"},
		{"too short", "set_role('vm'", "..."},
		{"a text and something else", "v = '1'\nif x: v = var['v']\nset_role('vm', v, d)", "vm 1,..."},
		{"a text that grows", "v = '1'\nv += '2'\nset_role('vm', v, d)", "vm 1,..."},
		{"a text and a loop", "v = '1'\nfor v in list: set_role('vm', v, d)", "vm 1,..."},
		{"compared with a text", "v = '1'\nif v == '2': pass\nset_role('vm', v, d)", "vm 1"},
		{"another name for it", "f = set_role\nf('vm', '1', d)", "..."},
		{"nothing", "", ""},
		{"python", "#!/usr/bin/env python3\nimport os\nset_role('vm', '1', 'sda')\n", "vm 1"},
		{"shell", "#!/bin/sh\n# set_role no 1 d\nif x; then set_role vm '1' $disk; fi\nset_role \"$r\" 1 $d\n  set_role vm 2 $d # set_role no 2 d\n", "vm 1,vm 2,..."},
		{"many", strings.Repeat("v = 'a'\nv = 'b'\n", 200) + "set_role(v, v, d)", "a a,a b,b a,b b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			images, all := dialect.Roles(tt.script)
			for _, ref := range images {
				got = append(got, ref.String())
			}
			if !all {
				got = append(got, "...")
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, ",")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
