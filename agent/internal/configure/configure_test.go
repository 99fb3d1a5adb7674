package configure_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/dialect"
	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

// seedVar is what the seed's profile vm finds on a virtual machine.
const seedVar = `{'disk': 'vda', 'disk2': 'vdb', 'eth': 'eth0', 'mac': '02:00:00:00:00:01', 'ip': '192.168.122.3',
 'netmask': '255.255.255.0', 'gateway': '192.168.122.1', 'hostname': 'host03', 'used': 1, 'edeploy-profile': 'vm'}`

// machine is a temporary root and what was run on it.
type machine struct {
	root string
	ran  []string
	log  logged
	fail string // a command that holds this text fails
}

// logged is what a script says; Python and the functions that it calls do so side
// by side.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (m *machine) host(args wire.BootArgs) configure.Host {
	return configure.Host{Root: m.root, Log: &m.log, Args: args, Run: func(_ context.Context, c command.Command) ([]byte, error) {
		m.ran = append(m.ran, c.String())
		if m.fail != "" && strings.Contains(c.String(), m.fail) {
			return nil, &command.Failure{Command: c.String(), Cause: errors.New("exit status 1"), Output: []byte("Error: no such disk\n")}
		}
		return nil, nil
	}}
}

func seed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSeedScripts(t *testing.T) {
	one := []string{
		"parted -s /dev/vda mklabel msdos", "parted -s /dev/vda mkpart primary ext2 0% 100%",
		"mkfs.ext4 /dev/vda1", "mkdir -p /chroot; mount /dev/vda1 /chroot",
	}
	two := append(one[:4:4], "parted -s /dev/vdb mklabel msdos", "parted -s /dev/vdb mkpart primary ext2 0% 100%",
		"mkfs.ext4 /dev/vdb1", "mkdir -p /chroot/var; mount /dev/vdb1 /chroot/var")
	indented := "    " + strings.ReplaceAll(seed(t, "vm.configure"), "\n", "\n    ")
	const interfaces = "\nauto lo\niface lo inet loopback\n\nauto eth0\nallow-hotplug eth0\niface eth0 inet static\n" +
		"     address 192.168.122.3\n     netmask 255.255.255.0\n     gateway 192.168.122.1\n     hwaddress 02:00:00:00:00:01\n"
	for name, tt := range map[string]struct {
		script string
		ran    []string
	}{
		"one disk":                 {seed(t, "vm.configure"), one},
		"two disks":                {seed(t, "vm2.configure"), two},
		"indented as in a README":  {indented, one},
		"with DOS ends of lines":   {strings.ReplaceAll(seed(t, "vm.configure"), "\n", "\r\n"), one},
		"without a last line feed": {strings.TrimSpace(seed(t, "vm.configure")), one},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{root: t.TempDir()}
			got, err := configure.Run(t.Context(), m.host(wire.BootArgs{}), wire.Configuration{Profile: "vm", Var: seedVar, Script: tt.script})
			if err != nil {
				t.Fatal(err)
			}
			want := configure.Result{Image: wire.ImageRef{Role: "mysql", Version: "D7-F.1.0.0"}, Disk: "/dev/vda"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.ran, m.ran); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(interfaces, m.read(t, "/interfaces")); diff != "" {
				t.Errorf("/interfaces (-want +got):\n%s", diff)
			}
			if log := m.log.String(); !strings.HasPrefix(log, "+ parted -s /dev/vda mklabel msdos\n") {
				t.Errorf("log %q", log)
			}
			if diff := cmp.Diff("ROLE=mysql\nVERS=D7-F.1.0.0\nDISK=/dev/vda\nPROFILE=vm\n", m.read(t, "/vars")); diff != "" {
				t.Errorf("/vars (-want +got):\n%s", diff)
			}
		})
	}
}

func (m *machine) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

func TestScripts(t *testing.T) {
	const role = "\nset_role('db', 'D12-1', 'sda')\n"
	image := wire.ImageRef{Role: "db", Version: "D12-1"}
	tests := []struct {
		name, script string
		args         wire.BootArgs
		want         configure.Result
		files        map[string]string
		log          string
	}{
		{name: "OS and OS_VER replace the role", script: "set_role('', '??', '/dev/sdb')",
			args: wire.BootArgs{OS: "web", OSVer: "D12-2"},
			want: configure.Result{Image: wire.ImageRef{Role: "web", Version: "D12-2"}, Disk: "/dev/sdb"}},
		{name: "the last set_role wins", script: "set_role('a', '1', 'x')" + role,
			want: configure.Result{Image: image, Disk: "/dev/sda"}},
		{name: "grub options", script: "grub_options('a=1  quiet')" + role,
			want: configure.Result{Image: image, Disk: "/dev/sda", GrubOptions: "a=1 quiet"}},
		{name: "kernel parameters through /vars", script: "open('/vars', 'a').write('METADATA_URL=http://10.0.0.1/md\\nHSERV=10.0.0.2\\n')" + role,
			args: wire.BootArgs{HPath: "install", MetadataURL: "http://10.0.0.9/"},
			want: configure.Result{Image: image, Disk: "/dev/sda", Args: wire.BootArgs{HPath: "install", MetadataURL: "http://10.0.0.1/md", HServ: "10.0.0.2"}}},
		{name: "print goes to the log", script: "print('disk is', var['disk'])" + role,
			want: configure.Result{Image: image, Disk: "/dev/sda"}, log: "disk is vda\n"},
		{name: "files", script: `
f = open('/a', 'w')
f.write('one\n')
f.writelines(['two\n', 'three\n'])
f.close()
open('/a', 'a').write('four\n')
g = open('/a')
first = g.readline()
rest = g.read()
open('/b', 'w').write(rest + first)
for line in open('/b', 'rb'):
    print(line.strip())
if len(open('/b').readlines()) != 4: fail('lines')
if 'disk3' in var: fail('in')
while True:
    break
` + role,
			want:  configure.Result{Image: image, Disk: "/dev/sda"},
			files: map[string]string{"/b": "two\nthree\nfour\none\n"}, log: "two\nthree\nfour\none\n"},
		{name: "config makes directories and sets the mode, in Python 2's octal", script: "config('/etc/a/b', fmod=0600).write('0644 \"0755')  # 0777" + role,
			want:  configure.Result{Image: image, Disk: "/dev/sda"},
			files: map[string]string{"/post_rsync/etc/a/b": `0644 "0755`}},
		{name: "config appends", script: "config('/etc/x').write('1')\nconfig('/etc/x', 'a', fmode=0o600).write('2')" + role,
			want:  configure.Result{Image: image, Disk: "/dev/sda"},
			files: map[string]string{"/post_rsync/etc/x": "12"}},
		{name: "facts", script: "inject_facts({'mac': '12:34', 'n': 3})" + role,
			want:  configure.Result{Image: image, Disk: "/dev/sda"},
			files: map[string]string{"/post_rsync/etc/facter/facts.d/edeploy.yaml": "---\nhw_mac: \"12:34\"\nhw_n: 3\n"}},
		{name: "dictionary methods of var", script: "d = dict(var)\nvar['x'] = 'y'\nprint(var.get('none', 'no'), d['disk'], var['x'], len(d))" + role,
			want: configure.Result{Image: image, Disk: "/dev/sda"}, log: "no vda y 10\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{root: t.TempDir()}
			got, err := configure.Run(t.Context(), m.host(tt.args), wire.Configuration{Profile: "vm", Var: seedVar, Script: tt.script})
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.Args == (wire.BootArgs{}) {
				tt.want.Args = tt.args
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for name, want := range tt.files {
				if diff := cmp.Diff(want, m.read(t, name)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if m.log.String() != tt.log {
				t.Errorf("log %q, want %q", m.log.String(), tt.log)
			}
		})
	}
}

func TestConfigSetsTheMode(t *testing.T) {
	m := &machine{root: t.TempDir()}
	script := "config('/a', fmod=0600)\nconfig('/b', fmod=04755)\nset_role('a', '1', 'sda')"
	if _, err := configure.Run(t.Context(), m.host(wire.BootArgs{}), wire.Configuration{Profile: "vm", Script: script}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"a": 0o600, "b": 0o755 | fs.ModeSetuid} {
		info, err := os.Stat(filepath.Join(m.root, "post_rsync", name))
		if err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, error %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestBadScripts(t *testing.T) {
	tests := []struct{ name, vars, script, want string }{
		{"unknown variable", "{'disk': 'sda', 'mac': 'x'}", "a = 1\n\nb = '/dev/' + var['disk2']", "vm.configure:3: var has no 'disk2'; it has: disk, mac"},
		{"unknown variable in a format", "{'disk': 'sda'}", "open('/i', 'w').write('''\n%(ip)s\n''' % var)", "vm.configure:3: var has no 'ip'; it has: disk"},
		{"in a function", "{'disk': 'sda'}", "def f():\n    return var['x']\n\nf()", "vm.configure:2: var has no 'x'; it has: disk"},
		{"failing command", "{}", "a = 1\nrun('mkfs.ext4 /dev/FAIL')\nset_role('a', '1', 'sda')", "vm.configure:2: mkfs.ext4 /dev/FAIL: exit status 1: Error: no such disk"},
		{"no set_role", "{}", "run('true')", "vm.configure: the script ended without set_role(role, version, disk)"},
		{"bad role", "{}", "set_role('../etc', '1', 'sda')", `vm.configure:1: set_role: role name "../etc" starts with "."`},
		{"no disk", "{}", "set_role('a', '1', '')", `vm.configure:1: set_role: disk "" is not the name of a disk`},
		{"argument left out", "{}", "set_role('a', '1')", "vm.configure:1: set_role: missing argument for disk"},
		{"syntax", "{}", "a = (1,\nb = 2\nrun('x'", "vm.configure:2: got '=', want ')'"},
		{"import", "{}", "\nimport os\n", `vm.configure:2: got import, want primary expression (import needs real Python: let the script start with "#!/usr/bin/python3")`},
		{"try", "{}", "try:\n    run('x')\nexcept:\n    pass\n", `(try needs real Python: let the script start with "#!/usr/bin/python3")`},
		{"print statement", "{}", "print 'x'", `(write print(...), or let the script start with "#!/usr/bin/python3")`},
		{"module of Python", "{}", "re.match('a', 'b')", `vm.configure:1: undefined: re (re needs real Python: let the script start with "#!/usr/bin/python3")`},
		{"undefined name", "{}", "run(disk1)", "vm.configure:1: undefined: disk1"},
		{"missing file", "{}", "open('/no/such')", "vm.configure:1: open "},
		{"bad mode", "{}", "open('/a', 'q')", `mode "q": want 'r', 'w' or 'a'`},
		{"closed file", "{}", "f = open('/a', 'w')\nf.close()\nf.write('x')", "vm.configure:3: write "},
		{"config without a slash", "{}", "config('etc/x')", `vm.configure:1: config: name "etc/x" does not start with /`},
		{"variables that are code", "{'a': run('reboot')}", "pass", "vm.configure: variables of the server: var:1:7: undefined: run"},
		{"variables that are a list", "[1]", "pass", "vm.configure: variables of the server: want a dictionary, not a list"},
		{"missing interpreter", "{}", "#!/usr/bin/no-python -x\n", `vm.configure:1: #!/usr/bin/no-python -x: this initrd has no /usr/bin/no-python: name an add-on that has it in [BOOT] ADDONS; a script without the "#!" line runs in the built-in dialect`},
		{"missing interpreter through env", "{}", "#!/usr/bin/env no-python\n", `#!/usr/bin/env no-python: this initrd has no no-python`},
		{"Python 2", "{}", "#!/usr/bin/no/python2.7\n", `this initrd has no /usr/bin/no/python2.7: name an add-on that has it in [BOOT] ADDONS, or let the script start with "#!/usr/bin/python3"`},
		{"empty interpreter", "{}", "#! \n", "the script ended without set_role"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &machine{root: t.TempDir(), fail: "FAIL"}
			_, err := configure.Run(t.Context(), m.host(wire.BootArgs{}), wire.Configuration{Profile: "vm", Var: tt.vars, Script: tt.script})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %v", err)
			}
		})
	}
}

func TestEndlessScriptEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m := &machine{root: t.TempDir()}
	h := m.host(wire.BootArgs{})
	h.Run = func(context.Context, command.Command) ([]byte, error) { cancel(); return nil, nil }
	_, err := configure.Run(ctx, h, wire.Configuration{Profile: "vm", Script: "run('x')\nwhile True:\n    pass\n"})
	if err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("got %v", err)
	}
}

func TestLeftoversOfAnEarlierRun(t *testing.T) {
	m := &machine{root: t.TempDir()}
	for _, name := range []string{"vars", "grub_options", "fstab"} {
		if err := os.WriteFile(filepath.Join(m.root, name), []byte("ROLE=old\nVERS=1\nDISK=sda\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, err := configure.Run(t.Context(), m.host(wire.BootArgs{}), wire.Configuration{Profile: "vm", Script: "pass"})
	if err == nil || !strings.Contains(err.Error(), "without set_role") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.root, "fstab")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("/fstab of the earlier run is still there")
	}
}

// Scripts of real interpreters see the same variables and helpers.
func TestInterpreters(t *testing.T) {
	tests := []struct{ name, program, script, want, log string }{
		{"shell", "sh", `#!/usr/bin/env sh
run "echo disk is $disk, $edeploy_profile"
for d in $list; do echo "[$d]"; done
echo "$quote" | config /etc/q 0600
grub_options quiet
set_role db D12-1 "$disk"
`, "", "disk is vda, vm\n[a]\n[b]\n"},
		{"python", "python3", `#!/usr/bin/env python3
import os
try:
    run('echo disk is %s' % var['disk'])
finally:
    pass
with config('/etc/q', fmod=0o600) as f:
    f.write(var['quote'] + '\n')
grub_options('quiet')
set_role('db', 'D12-1', var['disk'])
`, "", "disk is vda\n"},
		{"python, modules that the original imports", "python3", `#!/usr/bin/env python3
if not os.path.exists('/dev/null') or re.match('vd.', var['disk']) is None: sys.exit('what?')
time.sleep(0)
print(commands.getoutput('echo disk'))
import commands, ipmi, hpacucli, megacli
config('/etc/q').write(var['quote'] + '\n')
grub_options('quiet')
set_role('db', 'D12-1', var['disk'])
`, "", "disk\n"},
		{"shell, failing command", "sh", "#!/usr/bin/env sh\nrun 'echo no such disk; exit 4'\nset_role a 1 sda\n", "vm.configure: sh: exit status 4: ", ""},
		{"python, failing command", "python3", "#!/usr/bin/env python3\n\nrun('exit 4')\nset_role('a', '1', 'sda')\n", "line 3: exit 4: exit status 4", ""},
		{"python, exception", "python3", "#!/usr/bin/env python3\nprint(var['none'])\n", "KeyError: 'none'", ""},
		{"shell, wrong arguments", "sh", "#!/usr/bin/env sh\nset_role a\n", "set_role: want role version disk", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			needs.Program(t, tt.program)
			m := &machine{root: t.TempDir()}
			h := m.host(wire.BootArgs{})
			h.Run = command.On(&m.log)
			got, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm",
				Var: `{'disk': 'vda', 'edeploy-profile': 'vm', 'list': ['a', 'b'], 'quote': "it's $HOME", 'PATH': '/nowhere'}`, Script: tt.script})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got  %v\nwant %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := configure.Result{Image: wire.ImageRef{Role: "db", Version: "D12-1"}, Disk: "/dev/vda", GrubOptions: "quiet"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := m.read(t, "/post_rsync/etc/q"); got != "it's $HOME\n" {
				t.Errorf("queued file holds %q", got)
			}
			if log := m.log.String(); !strings.Contains(log, tt.log) && !strings.Contains(strings.ReplaceAll(log, "+ ", ""), tt.log) {
				t.Errorf("log %q, want %q", log, tt.log)
			}
		})
	}
}

// TestLimit: a script that never ends is ended, with what it was doing.
func TestLimit(t *testing.T) {
	const limit = "the script has run for 50ms, which is its limit (kernel parameter SCRIPT_MINUTES)"
	for name, tt := range map[string]struct{ script, want string }{
		"loop":    {"x = 1\nwhile True: x = 1 - x", limit},
		"sleep":   {"x = 1\nsleep(1000)", "vm.configure:2: " + limit},
		"command": {"run('sleep 1000')", "vm.configure:1: sleep 1000: " + limit},
		"shell":   {"#!/bin/sh\nsleep 1000\n", limit},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{root: t.TempDir()}
			h := m.host(wire.BootArgs{})
			h.Run, h.Limit = command.On(&m.log), 50*time.Millisecond
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: tt.script})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
	m := &machine{root: t.TempDir()}
	h := m.host(wire.BootArgs{})
	h.Limit = time.Hour
	if _, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: "sleep(0.001)\nset_role('a', '1', 'sda')"}); err != nil {
		t.Error(err)
	}
}

// TestHelperNames: scripts get the names that lint knows.
func TestHelperNames(t *testing.T) {
	want := slices.Sorted(slices.Values(dialect.Names))
	if diff := cmp.Diff(want, configure.HelperNames()); diff != "" {
		t.Errorf("(-dialect +helpers):\n%s", diff)
	}
	modules := map[string][]string{"Cli": slices.Sorted(slices.Values(dialect.Cli))}
	for name, has := range dialect.Modules {
		modules[name] = slices.Sorted(slices.Values(has))
	}
	if diff := cmp.Diff(modules, configure.ModuleNames()); diff != "" {
		t.Errorf("(-dialect +modules):\n%s", diff)
	}
}
