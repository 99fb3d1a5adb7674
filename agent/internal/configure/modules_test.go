package configure_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/dialect"
	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/agent/internal/detect"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

// programs is a directory of programs that come first in the PATH. Each says in
// the file calls how it was called.
type programs struct {
	t   *testing.T
	dir string
}

func newPrograms(t *testing.T) programs {
	p := programs{t, t.TempDir()}
	t.Setenv("PATH", p.dir+":"+os.Getenv("PATH"))
	p.add("modprobe", "")
	return p
}

// add adds a program that is a shell script; it runs in the directory.
func (p programs) add(name, script string) {
	p.t.Helper()
	text := "#!/bin/sh\ncd '" + p.dir + "'\necho \"" + name + " $*\" >>calls\n" + script
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// answers adds a program that answers some calls, and refuses others.
func (p programs) answers(name string, answers map[string]detect.Output) {
	p.t.Helper()
	for words, out := range answers {
		for file, text := range map[string]string{words: out.Text, words + " exit": fmt.Sprintf("exit %d", out.Exit)} {
			if err := os.WriteFile(filepath.Join(p.dir, file), []byte(text), 0o644); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	p.add(name, "[ -e \"$*\" ] || { echo 'Error: Syntax error'; exit 1; }\ncat -- \"$*\"\n. \"./$* exit\"\n")
}

func (p programs) calls() []string {
	text, err := os.ReadFile(filepath.Join(p.dir, "calls"))
	if err != nil {
		p.t.Error(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// recorded are the answers of a program on a recorded machine.
func recorded(t *testing.T, machine, program string) map[string]detect.Output {
	t.Helper()
	text, err := os.ReadFile("../detect/testdata/" + machine + ".json")
	if err != nil {
		t.Fatal(err)
	}
	rec, err := detect.DecodeRecording(text)
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]detect.Output{}
	for call, out := range rec.Programs {
		if words, ok := strings.CutPrefix(call, program+" "); ok {
			answers[words] = out.Output
		}
	}
	return answers
}

// What ssacli says of logical drives: the form is real.
const (
	logicalDrives = "\nSmart Array P440ar in Slot 0 (Embedded)\n\n   array A\n\n      logicaldrive 1 (558.7 GB, RAID 1, OK)\n\n" +
		"   array B\n\n      logicaldrive 2 (1.6 TB, RAID 1+0, Recovering, 12% complete)\n\n"
	logicalDrive = "\nSmart Array P440ar in Slot 0 (Embedded)\n\n   array A\n\n      Logical Drive: 1\n         Size: 558.7 GB\n         Fault Tolerance: 1\n" +
		"         Caching:  Enabled\n         Disk Name: /dev/sda          Mount Points: None\n         Mirror Group 0:\n" +
		"            physicaldrive 1I:1:1 (port 1I:box 1:bay 1, SAS, 600 GB, OK)\n         Drive Type: Data\n"
)

// TestModules: what functions answer, to a script of either language.
func TestModules(t *testing.T) {
	python := needs.Program(t, "python3")
	p := newPrograms(t)
	ssacli, megacli := recorded(t, "hp-dl380", "ssacli"), recorded(t, "dell-r730", "MegaCli64")
	ssacli["ctrl slot=0 ld all show"], ssacli["ctrl slot=0 ld 1 show"] = detect.Output{Text: logicalDrives}, detect.Output{Text: logicalDrive}
	megacli["-PDGetNum -a0"] = detect.Output{Text: "\n Number of Physical Drives on Adapter 0: 4\n\nExit Code: 0x04\n", Exit: 4}
	p.answers("hpssacli", ssacli)
	p.answers("MegaCli64", megacli)
	var script strings.Builder
	script.WriteString("def check(call, got, want):\n    if got != want:\n        print('%s is %r, want %r' % (call, got, want))\n\ncli = hpacucli.Cli(debug=False)\n")
	for _, row := range [][2]string{
		{"cli.launch()", "True"},
		{"cli.ctrl_all_show()", "[(0, 'Smart Array P440ar', 'PDNLH0BRH8R2AB')]"},
		{"cli.ctrl_show('slot=0')['raid_6_adg_status']", "'Enabled'"},
		{"'slot' in cli.ctrl_show('slot=0')", "False"},
		{"cli.ctrl_pd_all_show('slot=0')", "[('array A', [('1I:1:1', 'SAS', '600 GB', 'OK'), ('1I:1:2', 'SAS', '600 GB', 'OK')]), ('unassigned', [('2I:1:5', 'Solid State SATA', '1.8 TB', 'OK')])]"},
		{"cli.ctrl_pd_disk_show('slot=0', '1I:1:1')['array']", "'A'"},
		{"[cli.ctrl_pd_disk_show(selector='slot=0', disk='2I:1:5').get(key) for key in ('array', 'port', 'size', 'interface_type', 'model', 'current_temperature_c')]",
			"[None, None, '1.8 TB', 'Solid State SATA', 'HP EG0600FCVBK', '28']"},
		{"cli.ctrl_ld_all_show('slot=0')", "[('array A', [('1', '558.7 GB', 'RAID 1', 'OK')]), ('array B', [('2', '1.6 TB', 'RAID 1+0', 'Recovering')])]"},
		{"cli.ctrl_ld_show('slot=0', 1)", "{'Logical Drive': '1', 'Size': '558.7 GB', 'Fault Tolerance': '1', 'Caching': 'Enabled', 'Disk Name': '/dev/sda', 'Mount Points': 'None', 'Mirror Group 0': '1I:1:1', 'Drive Type': 'Data'}"},
		{"megacli.adp_count()", "1"},
		{"megacli.adp_all_info(0)['SupportedDrives']", "['SAS', 'SATA']"},
		{"megacli.adp_all_info(0)['RaidLevelSupported'][-1]", "'PRL 11'"},
		{"megacli.adp_all_info(0)['MemorySize']", "'1024MB'"},
		{"megacli.pd_get_num(0)", "4"},
		{"megacli.pd_get_num(1)", "0"},
		{"[(e['Enclosure'], e['DeviceId'], e['EnclosureType'], 'Enclosure0' in e) for e in megacli.enc_info(0)]", "[(0, 32, 'SES', False)]"},
		{"megacli.pdinfo(0, 32, 0)['CoercedSize']", "'278.875 GB [0x22dc0000 Sectors]'"},
		{"megacli.pdinfo('0', '32', '1')['SlotNumber']", "1"},
		{"megacli.pdinfo(0, 32, 4)", "{'Adapter#0': 'Device at Enclosure - 32, Slot - 4 is not found', 'ExitCode': '0x01'}"},
		{"megacli.ld_get_num(0)", "1"},
		{"megacli.ld_get_info(0, 0)['RaidLevel']", "'Primary-1, Secondary-0, RAID Level Qualifier-0'"},
		{"megacli.run_megacli('adpCount').split()[:3]", "['Controller', 'Count:', '1.']"},
		{"megacli.run_and_parse('-LDInfo', '-L0 -a0')['State']", "'Optimal'"},
	} {
		fmt.Fprintf(&script, "check(%q, %s, %s)\n", row[0], row[0], row[1])
	}
	script.WriteString("print('done')\nset_role('a', '1', 'sda')\n")
	for language, begin := range map[string]string{"dialect": "", "python": "#!" + python + "\n"} {
		t.Run(language, func(t *testing.T) {
			m := &machine{root: t.TempDir()}
			h := m.host(wire.BootArgs{})
			h.Run = command.On(io.Discard)
			if language == "python" {
				h.Run = command.On(&m.log)
			}
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: begin + script.String()})
			if err != nil || !strings.Contains(m.log.String(), "done\n") || strings.Contains(m.log.String(), "want") {
				t.Errorf("%v\n%s", err, &m.log)
			}
			if !strings.Contains(m.log.String(), "+ modprobe sg\n+ hpssacli ctrl all show\n") || !strings.Contains(m.log.String(), "+ MegaCli64 -pdinfo -PhysDrv[32:0] -a0\n") {
				t.Errorf("the commands are not in the log:\n%s", &m.log)
			}
		})
	}
}

// controller is an HP controller with a state: the numbers of its logical drives
// in the file lds. The new one is always 2.
const controller = `
none() { [ -s lds ] || { printf '\nError: The specified device does not have any logical drives.\n\n'; exit 1; }; }
echo; echo 'Smart Array P440ar in Slot 0 (Embedded)'; echo
case "$*" in
'ctrl slot=0 ld all show') none; for n in $(cat lds); do printf '   array %s\n\n      logicaldrive %s (558.7 GB, RAID 1, OK)\n\n' $n $n; done;;
'ctrl slot=0 ld all show detail') none; for n in $(cat lds); do printf '      Logical Drive: %s\n         Disk Name: /dev/sdb          Mount Points: None\n' $n; done;;
'ctrl slot=0 delete forced') none; : >lds;;
'ctrl slot=0 create type=ld drives=1I:1:1,1I:1:2 raid=1') echo 2 >>lds; sort -o lds lds;;
'ctrl slot=0 create type=ld drives=9I:9:9 raid=1') ;;
'ctrl slot=0 ld 2 show') printf '      Logical Drive: 2\n         Disk Name: %s\n' "$(cat name)";;
*) printf 'Error: Syntax error at "%s"\n' "$*"; exit 1;;
esac
`

func newController(t *testing.T, lds, device string) programs {
	t.Helper()
	p := newPrograms(t)
	for name, text := range map[string]string{"lds": lds, "name": device} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p.add("ssacli", controller)
	p.add("parted", "")
	return p
}

// TestController is the typical use of reference section 8.4: what is there is
// deleted, an array is made, its device gets partitions.
func TestController(t *testing.T) {
	const (
		begin  = "cli = hpacucli.Cli(debug=True)\ncli.launch()\n"
		remove = "if not cli.ctrl_delete('slot=0'):\n    print('no array to delete')\n"
		try    = "try:\n    cli.ctrl_delete('slot=0')\nexcept hpacucli.Error as err:\n    print('no array to delete: %s' % err.value)\n"
		end    = "disk1 = cli.ctrl_create_ld('slot=0', ('1I:1:1', '1I:1:2'), '1')\nrun('parted -s %s mklabel msdos' % disk1)\nset_role('db', 'D12-1', disk1)\n"
	)
	python := "#!" + needs.Program(t, "python3") + "\n"
	show, remake := "ssacli ctrl slot=0 ld all show", []string{
		"ssacli ctrl slot=0 ld all show", "ssacli ctrl slot=0 create type=ld drives=1I:1:1,1I:1:2 raid=1",
		"ssacli ctrl slot=0 ld all show", "ssacli ctrl slot=0 ld 2 show", "parted -s /dev/sdb mklabel msdos"}
	for _, tt := range []struct {
		name, lds, script string
		calls             []string
		log               string
	}{
		{"dialect", "1\n", begin + remove + end, slices.Concat([]string{"modprobe sg", show + " detail", "ssacli ctrl slot=0 delete forced"}, remake), "+ ssacli ctrl slot=0 delete forced\n"},
		{"dialect, nothing to delete", "", begin + remove + end, slices.Concat([]string{"modprobe sg", show + " detail"}, remake), "no array to delete\n"},
		{"dialect, a gap in the list", "1\n3\n", begin + end, slices.Concat([]string{"modprobe sg"}, remake), "logicaldrive 3"},
		{"python", "1\n", python + "import hpacucli\n" + begin + try + end, slices.Concat([]string{"modprobe sg", show + " detail", "ssacli ctrl slot=0 delete forced"}, remake), "+ ssacli ctrl slot=0 delete forced\n"},
		{"python, nothing to delete", "", python + begin + try + end, slices.Concat([]string{"modprobe sg", show + " detail"}, remake),
			"no array to delete: hpacucli.ctrl_delete: ctrl slot=0 ld all show detail: The specified device does not have any logical drives.\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newController(t, tt.lds, "/dev/sdb")
			m := &machine{root: t.TempDir()}
			h := m.host(wire.BootArgs{})
			h.Run = command.On(&m.log)
			got, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: tt.script})
			if err != nil || got.Disk != "/dev/sdb" || !strings.Contains(m.log.String(), tt.log) {
				t.Errorf("%v, %+v\n%s", err, got, &m.log)
			}
			if diff := cmp.Diff(tt.calls, p.calls()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestControllersDisks: the disks that go with an array count as named, and the
// one that is made is the script's.
func TestControllersDisks(t *testing.T) {
	const remake = "cli = hpacucli.Cli()\ncli.ctrl_delete('slot=0')\ndisk = cli.ctrl_create_ld('slot=0', ['1I:1:1', '1I:1:2'], 1)\nset_role('a', '1', 'sda')"
	for _, tt := range []struct{ lds, device, script, want string }{
		{"1\n", "/dev/sdb", remake, "the script may write to it from now on: ctrl_delete deletes it"},
		{"", "/dev/sdc", remake, "the script may write to it from now on: ctrl_create_ld made it"},
		{"1\n", "/dev/sdb", "wipe('refuse')\n" + remake, "vm.configure:3: hpacucli.ctrl_delete: wipe('refuse'): the script may write to the disk /dev/sdb"},
	} {
		p := newController(t, tt.lds, tt.device)
		r := newRack(t)
		h := r.host()
		h.Run = command.On(&r.log)
		_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: tt.script})
		refused := strings.HasPrefix(tt.script, "wipe")
		if said := fmt.Sprint(err, r.notes); !strings.Contains(said, tt.want) || refused != (err != nil) {
			t.Errorf("%s, want %s", said, tt.want)
		}
		deleted := slices.Contains(p.calls(), "ssacli ctrl slot=0 delete forced")
		if deleted != (tt.lds != "" && !refused) {
			t.Errorf("%s: deleted %v", tt.script, deleted)
		}
	}
}

// TestModuleErrors: what goes wrong is one sentence.
func TestModuleErrors(t *testing.T) {
	python := "#!" + needs.Program(t, "python3") + "\n"
	for _, tt := range []struct{ name, ssacli, script, want string }{
		{"refused", "echo; echo 'Error: The controller identified by \"slot=9\" was not detected.'; exit 1", "hpacucli.Cli().ctrl_show('slot=9')",
			`vm.configure:1: hpacucli.ctrl_show: ctrl slot=9 show: The controller identified by "slot=9" was not detected.`},
		{"refused, exit status 0", "echo 'Error: no'", "hpacucli.Cli().ctrl_all_show()", "vm.configure:1: hpacucli.ctrl_all_show: ctrl all show: no"},
		{"broken", "echo oops; exit 3", "hpacucli.Cli().ctrl_all_show()", "vm.configure:1: hpacucli.ctrl_all_show: ssacli ctrl all show: exit status 3: oops"},
		{"killed", "kill -9 $$", "megacli.adp_count()", "vm.configure:1: megacli.adp_count: megacli -adpCount: signal: killed"},
		{"100 MB", "head -c 104857600 /dev/zero", "hpacucli.Cli().ctrl_all_show()", "hpacucli.ctrl_all_show: ssacli ctrl all show: the answer has more than 64 KiB: call the program with run"},
		{"no new logical drive", controller, "hpacucli.Cli().ctrl_create_ld('slot=0', ['9I:9:9'], 1)", "hpacucli.ctrl_create_ld: the controller has 0 new logical drives [], want 1"},
		{"no device", controller, "hpacucli.Cli().ctrl_create_ld('slot=0', ['1I:1:1', '1I:1:2'], 1)", `hpacucli.ctrl_create_ld: the kernel does not know the new logical drive 2: its Disk Name is ""`},
		{"arguments", "", "hpacucli.Cli().ctrl_show()", "vm.configure:1: hpacucli.ctrl_show: arguments: missing argument for selector"},
		{"no text", "", "hpacucli.Cli().ctrl_show(['slot=0'])", "hpacucli.ctrl_show: arguments: for parameter selector: want a string or a number, not a list"},
		{"no number", "", "megacli.pdinfo(0, 'E', 1)", `megacli.pdinfo: arguments: for parameter encl: want a whole number, not "E"`},
		{"no such method", "", "hpacucli.Cli().ctrl_wipe()", `vm.configure:1: "hpacucli.Cli" struct has no .ctrl_wipe attribute`},
		{"python, refused", "echo 'Error: no'", python + "\nhpacucli.Cli().ctrl_all_show()", "hpacucli.Error: hpacucli.ctrl_all_show: ctrl all show: no"},
		{"python, arguments", "", python + "megacli.adp_count(1)", "RuntimeError: megacli.adp_count: arguments: got 1 arguments, want at most 0"},
		{"python, no function", "", python + "hpacucli.Cli.ctrl_wipe = staticmethod(_function('hpacucli.ctrl_wipe'))\nhpacucli.Cli().ctrl_wipe()", "there is no function hpacucli.ctrl_wipe"},
		{"python, a call that is too long", "", python + "hpacucli.Cli().ctrl_show('x' * 100000)", "vm.configure: python3: exit status 1"},
		{"python, what is no call", "", python + "json = __import__('json')\njson.dumps = lambda call: '[1'\nhpacucli.Cli().launch()", "hpacucli.Error: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newController(t, "", "")
			p.add("ssacli", tt.ssacli)
			p.add("megacli", tt.ssacli)
			m := &machine{root: t.TempDir()}
			h := m.host(wire.BootArgs{})
			h.Run = command.On(io.Discard)
			_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: tt.script})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if strings.Contains(tt.want, "Error: hpacucli") && !strings.Contains(fmt.Sprint(err), `File "vm.configure", line 3`) {
				t.Errorf("%v: no line of the script", err)
			}
		})
	}
}

// TestNoControllerTool: a script hears what to do about a program that is not there.
func TestNoControllerTool(t *testing.T) {
	out, err := exec.Command(needs.Program(t, "python3"), "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	for script, want := range map[string]string{
		"cli = hpacucli.Cli()\nif cli.launch(): fail('launched')\ncli.ctrl_delete('slot=0')": "vm.configure:3: hpacucli.ctrl_delete: this initrd has no ssacli, hpssacli or hpacucli: put the maker's tool beside it as an add-on, see agent/README.md",
		"megacli.adp_count()": "vm.configure:1: megacli.adp_count: this initrd has no megacli, MegaCli or MegaCli64: put the maker's tool",
		"#!" + string(out) + "hpacucli.Cli().ctrl_all_show()": "hpacucli.Error: hpacucli.ctrl_all_show: this initrd has no ssacli, hpssacli or hpacucli: put",
	} {
		m := &machine{root: t.TempDir()}
		h := m.host(wire.BootArgs{})
		h.Run = command.On(&m.log)
		_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: script})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", script, err, want)
		}
	}
}

// TestHangingController: a program that does not answer is given up; the rest
// of the script's time is not.
func TestHangingController(t *testing.T) {
	newController(t, "", "")
	root := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{root: root}
		h := m.host(wire.BootArgs{})
		h.Run = func(ctx context.Context, c command.Command) ([]byte, error) {
			<-ctx.Done()
			return nil, &command.Failure{Command: c.String(), Cause: context.Cause(ctx)}
		}
		began := time.Now()
		_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: "hpacucli.Cli().ctrl_all_show()"})
		if err == nil || err.Error() != "vm.configure:1: hpacucli.ctrl_all_show: ssacli ctrl all show: no answer within 5m0s" || time.Since(began) != 5*time.Minute {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// TestLimitOfCalls: the script's own limit ends a call, too.
func TestLimitOfCalls(t *testing.T) {
	python := "#!" + needs.Program(t, "python3") + "\n"
	p := newController(t, "", "")
	p.add("ssacli", "exec sleep 1000")
	for _, script := range []string{"hpacucli.Cli().ctrl_all_show()", python + "hpacucli.Cli().ctrl_all_show()"} {
		m := &machine{root: t.TempDir()}
		h := m.host(wire.BootArgs{})
		h.Run, h.Limit = command.On(&m.log), time.Second
		_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: script})
		if err == nil || !strings.Contains(err.Error(), "the script has run for 1s, which is its limit") {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// TestPythonIPMI: a Python script sets the BMC up as the dialect does, and the
// password stays out of the log.
func TestPythonIPMI(t *testing.T) {
	python := "#!" + needs.Program(t, "python3") + "\n"
	p := newPrograms(t)
	p.add("ipmitool", "[ \"$1\" != -c ] || printf '1,,true\\n2,admin,true\\n'\n")
	m := &machine{root: t.TempDir()}
	h := m.host(wire.BootArgs{})
	h.Run = command.On(&m.log)
	_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Var: "{'channel': '1'}",
		Script: python + "import ipmi\nipmi.setup_user(var['channel'], 'admin', password='geheim12')\nset_role('a', '1', 'sda')"})
	if err != nil || strings.Contains(m.log.String(), "geheim12") || !strings.Contains(m.log.String(), "+ ipmitool user set password 2 *** 16\n") {
		t.Errorf("%v\n%s", err, &m.log)
	}
	if !slices.Contains(p.calls(), "ipmitool user set password 2 geheim12 16") {
		t.Errorf("%q", p.calls())
	}
}

// TestPythonNames: modules have the same names in Python.
func TestPythonNames(t *testing.T) {
	script := "#!" + needs.Program(t, "python3") + "\nimport hpacucli, ipmi, megacli\n"
	want := ""
	list := func(object string, names []string) {
		script += "print(' '.join(sorted(n for n in dir(" + object + ") if n[0] != '_')))\n"
		want += strings.Join(slices.Sorted(slices.Values(names)), " ") + "\n"
	}
	list("hpacucli.Cli", dialect.Cli)
	for _, module := range slices.Sorted(maps.Keys(dialect.Modules)) {
		names := dialect.Modules[module]
		if module == "hpacucli" {
			names = append(slices.Clone(names), "Error")
		}
		list(module, names)
	}
	m := &machine{root: t.TempDir()}
	h := m.host(wire.BootArgs{})
	h.Run = command.On(&m.log)
	_, err := configure.Run(t.Context(), h, wire.Configuration{Profile: "vm", Script: script + "set_role('a', '1', 'sda')"})
	if diff := cmp.Diff(want, m.log.String()); err != nil || diff != "" {
		t.Errorf("%v (-dialect +python):\n%s", err, diff)
	}
}
