package lint_test

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/server/internal/lint"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// clean is a directory with nothing to mend.
var clean = map[string]string{
	"state":        "[('vm', '*')]\n",
	"vm.specs":     "[('disk', '$disk', 'size', 'gt(4)'),\n ('network', '$eth', 'serial', '$$mac')]\n",
	"vm.cmdb":      "generate({'mac': ['02:00:00:00:00:01', '02:00:00:00:00:02'], 'ip': '10.0.0.1-2'})\n",
	"vm.configure": "disk1 = '/dev/' + var['disk']\nrun('x %(ip)s %(used)s' % var)\nset_role('a', var['edeploy-profile'], disk1)\n",
}

// with is clean with other files; an empty text removes one.
func with(pairs ...string) map[string]string {
	files := maps.Clone(clean)
	for i := 0; i < len(pairs); i += 2 {
		files[pairs[i]] = pairs[i+1]
		if pairs[i+1] == "" {
			delete(files, pairs[i])
		}
	}
	return files
}

func look(t *testing.T, files map[string]string) lint.Report {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := lint.Dir(dir, lint.Known{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// script is a file vm.configure that ends as it should.
func script(text string) map[string]string {
	return with("vm.configure", text+"\nset_role('a', '1', 'sda')\n")
}

func TestFindings(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string // starts of the findings, all of them
	}{
		{"clean", clean, nil},
		{"other files", with("notes.txt", "x", "a.hw", "[('disk', 'sda', 'size', '1')]"), nil},
		{"bad hw", with("a.hw", "[(1, 2)]"), []string{"a.hw: error: "}},

		{"no state", with("state", ""), []string{"state: error: there is no state file"}},
		{"torn state", with("state", "[('vm', 1)\n"), []string{"state:1:1: error: list is never closed"}},
		{"bad count", with("state", "[('vm', 'x')]"), []string{"state:1:9: error: count of vm"}},
		{"state without comma", with("state", "[('vm', 1)\n ('vm2', 2)]"), []string{
			"state:2:2: error: a comma is missing", "state:2:2: error: profile vm2 has no vm2.specs", "state:2:2: error: profile vm2 has no vm2.configure"}},
		{"twice", with("state", "[('vm', 1),\n ('vm', 2)]"), []string{"state:2:2: warning: profile vm is listed twice, first in line 1"}},
		{"negative", with("state", "[('vm', -1)]"), []string{"state:1:2: warning: the count of vm is -1"}},
		{"bad name", with("state", "[('vm', 1), ('../x', 2)]"), []string{"state:1:13: error: profile name"}},
		{"not listed", with("x.specs", clean["vm.specs"], "x.configure", clean["vm.configure"], "x.cmdb", clean["vm.cmdb"]), []string{"x.specs: warning: profile x is not in state"}},

		{"two missing commas", with("vm.specs", "[('disk', '$disk', 'size', 'gt(4)')\n ('a', 'b', 'c', 'd') ('network', '$eth', 'serial', '$$mac')]"),
			[]string{"vm.specs:2:2: error: a comma is missing before this \"(\"", "vm.specs:2:23: error: a comma"}},
		{"comma behind a comment", with("vm.specs", "[('network', '$disk', 'serial', '$$mac') # one\n ('a', 'b', 'c', 'gt()')]"), []string{"vm.specs:2:2: error: a comma"}},
		{"all mistakes in helpers", with("vm.specs", "[('disk', '$disk', 'size', 'gt(x)'),\n ('network', '$eth', 'serial', '$$mac'),\n ('a', 'b', 'c', 'range(1)')]"),
			[]string{"vm.specs:1:28: error: gt(x): gt wants a number", "vm.specs:3:18: error: range(1): range takes 2 arguments"}},
		{"unknown helper", with("vm.specs", "[('disk', '$disk', 'size', 'rng(4)'), ('network', '$eth', 'serial', '$$mac')]"), []string{"vm.specs:1:28: warning: rng(4) is taken as text"}},
		{"never", with("vm.specs", "[('disk', '$disk', 'size', '$x=300'), ('network', '$eth', 'serial', '$$mac')]"), []string{"vm.specs:1:28: error: $x=300 can never match"}},
		{"three fields", with("vm.specs", "[('disk', '$disk' 'size', 'gt(4)'), ('network', '$disk', 'serial', '$$mac')]"), []string{"vm.configure:1:18: error: var has no 'disk'", "vm.specs:1:2: error: tuple has 3 fields"}[1:]},

		{"no variables", with("vm.specs", "[('disk', 'sda', 'size', 'gt(4)')]", "vm.configure", "set_role('a','1','sda')"), []string{"vm.cmdb: error: vm.specs binds no variable"}},
		{"no entry has the key", with("vm.specs", "[('disk', '$disk', 'size', '$$gb=gt(4)')]"), []string{"vm.cmdb: error: no entry has the key 'gb'"}},
		{"strict without cmdb", with("vm.cmdb", "", "vm.configure", "set_role('a','1','sda')"), []string{"vm.specs: warning: $$mac chooses a CMDB entry"}},
		{"no entries", with("vm.cmdb", "[]", "vm.configure", "set_role('a','1','sda')"), []string{"vm.cmdb: warning: there is no entry"}},
		{"broken cmdb", with("vm.cmdb", "[{'a': }]"), []string{"vm.cmdb:1:8: error: want a value"}},

		{"date", with("vm.cmdb", "generate({'mac': 'x', 'ip': 'x',\n 'day': '2014-01-31'})"), []string{"vm.cmdb:2:9: warning: '2014-01-31' looks like a date, but is a range: it makes '2014-31', '2013-31', ..."}},
		{"tuple", with("vm.cmdb", "generate({'mac': ('02:00:00:00:00:01', '02:00:00:00:00:02'), 'ip': '10.0.0.1-2'})"),
			[]string{"vm.cmdb:1:18: warning: every entry gets the whole ('02:00:00:00:00:01', '02:00:00:00:00:02'); to give each entry one of them, write ['02:00:00:00:00:01', '02:00:00:00:00:02']"}},
		{"tuple that is not expanded", with("vm.cmdb", "generate({'mac': ('a', 'b'), '=ip': '10.0.0.1-2'}, '=')"), nil},
		{"range of addresses", with("vm.cmdb", "generate({'mac': 'x', 'ip': '10.0.0.1-10.0.0.4'})"),
			[]string{"vm.cmdb:1:29: warning: '10.0.0.1-10.0.0.4' makes '10.0.0.1.0.0.4', '10.0.0.2.0.0.4', ...; write '10.0.0.1-4'"}},
		{"range of addresses in two networks", with("vm.cmdb", "generate({'mac': 'x', 'ip': '10.0.0.9-10.0.1.4/24'})"),
			[]string{"vm.cmdb:1:29: warning: '10.0.0.9-10.0.1.4/24' makes '10.0.0.9.0.1.4/24', '10.0.0.10.0.1.4/24'; only octets have ranges, such as '10.0.0.9-254/24': write a list"}},
		{"uuid", with("vm.cmdb", "generate({'mac': 'x', 'ip': 'x', 'u': '00000000-0000-0000-0000-000000000001'})"), []string{"vm.cmdb:1:39: warning: '00000000-0000-0000-0000-000000000001' looks like a UUID"}},
		{"mac with dashes", with("vm.cmdb", "generate({'ip': 'x', 'mac': '02-00-00-00-00-01'})"), []string{"vm.cmdb:1:29: warning: '02-00-00-00-00-01' looks like a MAC address"}},
		{"version", with("vm.cmdb", "generate({'mac': 'x', 'ip': 'x', 'v': 'RH7.0-1.2.3'})"), []string{"vm.cmdb:1:39: warning: 'RH7.0-1.2.3' looks like a version"}},
		{"second range", with("vm.cmdb", "generate({'mac': 'x', 'ip': 'x', 'v': 'a1-2b3-4'})"), []string{"vm.cmdb:1:39: warning: only the first range of 'a1-2b3-4' is expanded: it makes 'a1b3-4', 'a2b3-4'"}},
		{"joined ranges", with("vm.cmdb", "generate({'mac': 'x', 'ip': 'x', 'v': 'n1-3:7-9-x'})"), nil},
		{"lengths", with("vm.cmdb", "generate({'mac': ['a', 'b'], 'ip': '10.0.0.1-3'})"), []string{"vm.cmdb:1:10: warning: the list ends after 2 entries; values: mac: 2, ip: 3"}},
		{"octet", with("vm.cmdb", "generate({'mac': 'x', 'ip': '10.0.0.255-256'})"), []string{"vm.cmdb:1:10: warning: ip of entry 2 is 10.0.0.256"}},
		{"prefix", with("vm.cmdb", "generate({'mac': 'x', '=ip': '10.0.0.1-2', 'day': '2014-01-31'}, prefix='=')"), nil},

		{"no configure", with("vm.configure", ""), []string{"state:1:2: error: profile vm has no vm.configure"}},
		{"no set_role", with("vm.configure", "x = 1\n"), []string{"vm.configure: error: the script never calls set_role"}},
		{"binary", with("vm.configure", "set_role\xff"), []string{"vm.configure:1:9: error: byte 0xff"}},
		{"unbound", script("a = var['nic']\nrun('''\n%(ip)s\n  %(gw)s %%(no)s''' % var)"), []string{"vm.configure:1:5: error: var has no 'nic': vm.specs binds disk eth mac, vm.cmdb gives ip", "vm.configure:4:3: error: var has no 'gw'"}},
		{"unbound in a named text", script("f = 'a %(gw)s'\nrun(f % var)"), []string{"vm.configure:1:8: error: var has no 'gw'"}},
		{"asked before", script("if 'gw' in var:\n    run(var['gw'])\nrun(var.get('nic') or '')"), nil},
		{"set by the script", script("var['gw'] = 'x'\nrun('%(gw)s' % var)"), nil},
		{"some entries", with("vm.cmdb", "[{'mac': 'a', 'ip': 'x', 'vlan': 1}, {'mac': 'b', 'ip': 'y'}]", "vm.configure", "v = var['vlan']\nset_role('a','1','sda')"), []string{"vm.configure:1:5: warning: only some entries of vm.cmdb have the key 'vlan'"}},
		{"indented as a whole", with("vm.configure", "    disk1 = var['disk']\n    for i in range(3):\n        run(var['eth'])\n    config('/x', fmod=0644)\n    set_role('a', '1', 'sda')\n"), nil},
		{"indented, with a mistake", with("vm.configure", "    disk1 = var['nic']\n    set_role('a', '1', 'sda')\n"), []string{"vm.configure:1:13: error: var has no 'nic'"}},
		{"octal", script("config('/x', fmod=0644); run(var['nic'])"), []string{"vm.configure:1:30: error: var has no 'nic'"}},

		{"import", script("import os\nos.mkdir('/x')\nx = var['nic']"), []string{"vm.configure:1:1: error: import needs real Python: let the script start", "vm.configure:3:5: error: var has no 'nic'"}},
		{"own module", script("from hardware import areca"), []string{"vm.configure:1:1: error: from needs real Python: let the script start with \"#!/usr/bin/python3\"; areca is a module of the original"}},
		{"try", script("try:\n    run('x')\nexcept OSError, e:\n    pass\n"), []string{"vm.configure:1:1: error: try needs real Python", "vm.configure:3:1: error: except needs real Python, and is written as Python 2"}},
		{"try on one line", script("try: x = 1\nfinally: y = 2"), []string{"vm.configure:1:1: error: try", "vm.configure:2:1: error: finally"}},
		{"print statement", script("if 1:\n    print 'a', 'b'\nprint\nprint('x')\nprint ('x') % 1"), []string{"vm.configure:2:5: error: print is a statement", "vm.configure:3:1: error: print", "vm.configure:5:1: error: print"}},
		{"words in texts", script("# import os\nclass_ = 1\nx = 'import os'\ny = '''\nimport os\n'''\nrun('a',\nclass_ if 0 else 'x') if 0 else None"), nil},
		{"module that the original had, with no import", script("info = areca.sys_info()\nrun('x')"), []string{"vm.configure:1:8: error: undefined: areca (areca is a module of the original eDeploy that the initrd has not: call"}},
		{"the module ipmi", script("ipmi.setup_network(1, '10.0.0.9', '255.255.255.0', '10.0.0.1')\nipmi.setup_user(1, 'ops', 'x')\nipmi.restart_bmc()"), nil},
		{"the module ipmi, what it has not", script("ipmi.setup_lan(1)"), []string{"vm.configure:1:6: error: ipmi has no setup_lan: it has setup_user setup_network restart_bmc"}},
		{"the modules of RAID controllers", script("cli = hpacucli.Cli()\nif cli.launch():\n    cli.ctrl_delete('slot=0')\nrun('x %s %d' % (cli.ctrl_create_ld('slot=0', ['1I:1:1'], '0'), megacli.adp_count()))"),
			[]string{"vm.configure:1:7: warning: hpacucli needs HP's ssacli in the initrd: put it there as an add-on, see agent/README.md", "vm.configure:4:65: warning: megacli needs LSI's MegaCli in the initrd"}},
		{"the modules of RAID controllers, what they have not", script("hpacucli.launch()\nhpacucli.Cli().ctrl_wipe()\nmegacli.split()"), []string{"vm.configure:1:1: warning", "vm.configure:1:10: error: hpacucli has no launch: it has Cli",
			"vm.configure:2:16: error: no value of the dialect has a method ctrl_wipe", "vm.configure:3:1: warning", "vm.configure:3:9: error: megacli has no split: it has adp_count"}},
		{"a name of the script's own", script("megacli = 'a b'\nmegacli.split()"), nil},
		{"needs Python, and more than that", script("import re\nhpacucli.Cli()\nopen('/x', 0644)\nre.sub(nosuch, xrange(2))"), []string{"vm.configure:1:1: error: import", "vm.configure:2:1: warning: hpacucli needs HP's ssacli",
			"vm.configure:3:12: error: 0644 is a number of Python 2 only: write 0o644", "vm.configure:4:8: error: undefined: nosuch", "vm.configure:4:16: error: xrange is a name of Python 2 only: write range"}},
		{"module that the original had", script("time.sleep(5)\ntime.sleep(6)"), []string{"vm.configure:1:1: error: undefined: time (a module of Python"}},
		{"unknown name", script("for i in xrange(3):\n    run('x')"), []string{"vm.configure:1:10: error: undefined: xrange (write range)"}},
		{"syntax", script("x = 1 +\n"), []string{"vm.configure:1:8: error: want a value, got the end of the line"}},
		{"unexpected indent", script("x = 1\n    y = 2"), []string{"vm.configure:2:5: error: unexpected indent"}},
		{"no indent", script("if 1:\nx = 1"), []string{"vm.configure:2:2: error: expected an indented block"}},
		{"indent that fits nothing", script("if 1:\n        x = 1\n    y = 2"), []string{"vm.configure:3:5: error: unindent does not match any outer indentation level"}},
		{"no colon", script("if 1\n    x = 1"), []string{"vm.configure:1:5: error: want ':', got the end of the line"}},
		{"set_role in a comment", with("vm.configure", "# set_role('a', '1', 'b')\nx = 'set_role'"), []string{"vm.configure: error: the script never calls set_role"}},
		{"adjacent texts", script("x = ('a' 'b')"), []string{"vm.configure:1:13: error: texts side by side: put + between them"}},
		{"width", script("x = 'a%02d %s %% %(ip)5s' % 1"), []string{"vm.configure:1:7: error: % knows no %02d", "vm.configure:1:18: error: % knows no %(ip)5"}},
		{"method", script("x = {}\nif x.has_key('a'):\n    run('x')\nopen('/x').write('y')"), []string{"vm.configure:2:6: error: no value of the dialect has a method has_key: write KEY in DICT"}},

		{"shell", with("vm.configure", "#!/bin/sh\nset_role a 1 $nosuch\n"), nil},
		{"python", with("vm.configure", "#!/usr/bin/env python3\nimport os\nset_role('a', var['nic'], var[ \"disk\" ]) # var['no']\n"),
			[]string{"vm.configure:3:15: error: var has no 'nic'"}},
		{"python finds what the original imported", with("vm.configure", "#!/usr/bin/python3\nos.mkdir('/x'); time.sleep(1)\nsys.exit(re.sub('a', 'b', c)) if (c := 1) else 0\nset_role('a', '1', [d for d in (1, 2)][0])\n"),
			nil},
		{"python, names", with("vm.configure", "#!/usr/bin/python3\nimport subprocess as s, urllib2, mymodule, hpacucli\nfrom json import dumps as d\ndef f(a, *b, c=nosuch, **k):\n    global g\n    return [a, b, c, k, g, x.y]\n"+
			"for i, (j, k) in f(1, c=2):\n    t: int = i + j\nwith open(p, mode='w') as o, s.x() as (q, r):\n    o.write(f'{q} {absent:>3} {{no}}' % r)\ntry:\n    l = lambda v, w=1: v + w\nexcept (OSError, ValueError) as e:\n    print(e, dump())\n"+
			"m[n] = l.z = u'' + 'set_role(1,2,3)' # nothing\nipmi.bmc()\nset_role(__name__, '1', None)\n"),
			[]string{"vm.configure:2:25: error: urllib2 is a module of Python 2 only: use urllib.request", "vm.configure:2:34: warning: mymodule is no module of Python's own",
				"vm.configure:2:44: warning: hpacucli needs HP's ssacli", "vm.configure:4:16: error: undefined: nosuch", "vm.configure:6:28: error: undefined: x", "vm.configure:9:11: error: undefined: p",
				"vm.configure:10:14: error: undefined: absent", "vm.configure:14:14: error: undefined: dump", "vm.configure:15:1: error: undefined: m", "vm.configure:15:3: error: undefined: n", "vm.configure:16:6: error: ipmi has no bmc: it has setup_user setup_network restart_bmc"}},
		{"python, modules of RAID controllers", with("vm.configure", "#!/usr/bin/python3\ntry:\n    hpacucli.Cli().ctrl_delete('slot=0')\nexcept hpacucli.Error as e:\n    print(e.value, hpacucli.Failure, ipmi.restart_bmc())\nmegacli = 1\nset_role('a', '1', megacli.x)\n"),
			[]string{"vm.configure:3:5: warning: hpacucli needs", "vm.configure:5:29: error: hpacucli has no Failure: it has Cli Error"}},
		{"python, written for 2", with("vm.configure", "#!/usr/bin/python3\nprint 'x'\ntry:\n    raise OSError, 'x'\nexcept OSError, e:\n    config('/x', fmod=0600)\nfor i in xrange(2): file(i)\nset_role('a', '1', 'b')\n"),
			[]string{"vm.configure:2:1: error: print is a statement of Python 2", "vm.configure:4:5: error: raise is written as Python 2", "vm.configure:5:1: error: except is written as Python 2",
				"vm.configure:6:23: error: 0600 is a number of Python 2 only: write 0o600", "vm.configure:7:10: error: xrange is a name of Python 2 only: write range", "vm.configure:7:21: error: file is a name of Python 2 only: write open"}},
		{"python 2", with("vm.configure", "#!/usr/bin/python2.7\nimport urllib2\nprint xrange(0600)\nset_role('a', '1', nosuch)\n"), []string{"vm.configure:1:1: warning: the appliance's Python is version 3: let the script start with \"#!/usr/bin/python3\", or name an add-on that has /usr/bin/python2.7", "vm.configure:4:20: error: undefined: nosuch"}},
		{"python that knows what may be absent", with("vm.configure", "#!/usr/bin/python3\ntry:\n    import StringIO\n    unicode\nexcept (ImportError, NameError):\n    pass\nset_role('a', '1', 'b')\n"), nil},
		{"python of no version", with("vm.configure", "#!/usr/bin/env python\nprint 'x'\nset_role('a', '1', 'b')\n"), []string{"vm.configure:1:1: warning: python is Python 3, in which 3/2 is 1.5: let the script start", "vm.configure:2:1: error: print is a statement of Python 2"}},
		{"another interpreter", with("vm.configure", "#!/usr/bin/perl\nset_role\n"), []string{"vm.configure:1:1: warning: the initrd must carry /usr/bin/perl, or an add-on ([BOOT] ADDONS)"}},
		{"no program", with("vm.configure", "#!\nset_role a 1 b\n"), []string{`vm.configure:1:1: error: "#!" names no program`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for i, f := range look(t, tt.files).Findings {
				line := f.String()
				if i < len(tt.want) && strings.HasPrefix(line, tt.want[i]) {
					line = tt.want[i]
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	r := look(t, with("py.configure", "import os\nset_role('a', '1', 'b')\n", "py.specs", "[]", "notes", "", "a.hw", "[]", "b.specs", "["))
	want := map[string]string{
		"a.hw": "hardware description with 0 facts", "b.specs": "to be mended: 1 error",
		"py.configure": "needs real Python: import in line 1", "py.specs": "runs unchanged: 0 lines; 2 warnings", "state": "runs unchanged: 1 profile",
		"vm.cmdb": "runs unchanged: 2 entries by generate", "vm.configure": "runs unchanged", "vm.specs": "runs unchanged: 2 lines, binds disk eth mac",
	}
	got := map[string]string{}
	for _, f := range r.Files {
		got[f.Name] = f.Verdict
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDanglingLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("absent", filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	r, err := lint.Dir(dir, lint.Known{})
	if err != nil || len(r.Findings) == 0 || !strings.Contains(r.Findings[0].Text, "link") {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestNothingToSee: "could not look" is an error, not an empty report.
func TestNothingToSee(t *testing.T) {
	if _, err := lint.Dir(filepath.Join(t.TempDir(), "absent"), lint.Known{}); err == nil {
		t.Error("a directory that is not there has no mistakes")
	}
}

// TestKnown: a configuration is compared with the machines and the network that
// it is for.
func TestKnown(t *testing.T) {
	files := map[string]string{
		"state":        "[('infra', '*')]",
		"infra.specs":  "[('disk', '$d', 'sise', 'gt(4)'),\n ('dsk', 'logical', 'count', '1'),\n ('system', 'product', 'serial', '$$sn'), ('$c', 'x', 'sixe', 'y')]\n# edeploy: disks $e, size=40, seize=1",
		"vm.specs":     "[('system', 'product', 'serial', '$$sn')]",
		"vm.cmdb":      "[{'sn': 'S1', 'ip': '10.0.3.9'}, {'sn': 'S2', 'ip': '10.0.3.120/24'}]",
		"vm.configure": "set_role('a', '1', 'b')", "infra.configure": "set_role('a', '1', 'b')",
	}
	machine := func(serial string) wire.Hardware {
		return wire.Hardware{{Category: "system", ID: "product", Field: "serial", Value: serial}, {Category: "disk", ID: "sda", Field: "size", Value: "40"}}
	}
	known := lint.Known{
		Machines: map[string]wire.Hardware{"a": machine("S1"), "b": machine("SNAAAA1")},
		First:    netip.MustParseAddr("10.0.3.100"), Last: netip.MustParseAddr("10.0.3.199"),
	}
	var got []string
	for _, f := range lint.Files(files, known).Findings {
		if f.Severity == lint.Warning && !strings.Contains(f.Text, "ordinary variable") && !strings.Contains(f.Text, "not in state") {
			got = append(got, f.String())
		}
	}
	want := []string{
		"infra.specs:1:17: warning: no machine has in its disk facts the field 'sise': did you mean 'size'?",
		"infra.specs:2:3: warning: no machine has facts of the category 'dsk': did you mean 'disk'?",
		"infra.specs:3:55: warning: no machine has the field 'sixe': did you mean 'size'?",
		"infra.specs:4:1: warning: no machine has in its disk facts the field 'seize': did you mean 'size'?",
		"vm.cmdb: warning: ip of entry 2 is 10.0.3.120, which the DHCP server gives to any machine: keep entries out of its range 10.0.3.100-10.0.3.199",
		"vm.cmdb: warning: machine b fits vm, but no entry has sn='SNAAAA1'",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzScript: whatever a script holds, lint ends with a report.
func FuzzScript(f *testing.F) {
	f.Add("import os\nprint 'a'\nset_role('a', var['x'], '%(y)s' % var)")
	f.Add("try: x = '''\n''' % var\nexcept: pass\n\\")
	f.Add("    a = (1,\n    0644)\n  b")
	f.Add("x = '%(' % var\nclass A: pass; import b")
	f.Add("print(\x00'")
	f.Add("=\nexcept")
	dir := f.TempDir()
	for name, text := range clean {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(filepath.Join(dir, "vm.configure"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := lint.Dir(dir, lint.Known{})
		if err != nil {
			t.Fatal(err)
		}
		lines := 2 + strings.Count(text, "\n") + strings.Count(text, "\r") // a line ends with LF, CR LF, or CR
		for _, finding := range r.Findings {
			if finding.File == "vm.configure" && finding.Line > lines {
				t.Errorf("%v: the script has %d lines", finding, lines)
			}
		}
	})
}

// TestDiskHelpers: disks is there in the dialect alone, wipe in Python too.
func TestDiskHelpers(t *testing.T) {
	for script, want := range map[string]string{
		"wipe('refuse')\nset_role('vm', '1', disks(count=1, order='size')[0])":     "",
		"set_role('vm', '1', disk(count=1)[0])":                                    "vm.configure:1:21: error: undefined: disk",
		"#!/usr/bin/python3\nwipe('refuse')\nset_role('vm', '1', 'sda')":           "",
		"#!/usr/bin/python3\nset_role('vm', '1', disks(count=1, order='size')[0])": "vm.configure:2:21: error: undefined: disks",
	} {
		var got []string
		for _, f := range lint.Script("vm.configure", script) {
			got = append(got, f.String())
		}
		if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", script, diff)
		}
	}
}
