package install_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/command"
	"edeploy/agent/internal/configure"
	"edeploy/agent/internal/install"
	"edeploy/server/wire"
)

func allSteps(done ...wire.Step) []string {
	var want []string
	for _, s := range done {
		want = append(want, string(s)+" started", string(s)+" done")
	}
	return want
}

func TestInstall(t *testing.T) {
	a := newAppliance(t)
	m := newBlank(t, a, "")
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	wantEvents := []string{
		"devices", "network",
		"parted -s /dev/vda mklabel msdos", "mkfs.ext4 /dev/vda1", "mkdir -p /chroot; mount /dev/vda1 /chroot",
		"links", "/usr/sbin/grub-install --target=i386-pc /dev/vda", "grub-mkconfig", "unmount", "reboot",
	}
	if diff := cmp.Diff(wantEvents, m.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	want := append(allSteps(wire.StepDevices, wire.StepNetwork, wire.StepDetect, wire.StepUpload, wire.StepConfigure,
		wire.StepTransfer, wire.StepVerify, wire.StepOverlay, wire.StepBootloader, wire.StepReboot), "reboot installed")
	if diff := cmp.Diff(want, a.told()); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
	last := a.last()
	if diff := cmp.Diff(wire.Report{Protocol: wire.Protocol, Machine: wire.Identity{MACs: []string{"02:00:00:00:00:01"}, Serial: "SN/1"},
		Profile: "vm", Image: image, BootDisk: "12345678", Step: wire.StepReboot, Status: wire.StatusInstalled, Seconds: last.Seconds}, last); diff != "" {
		t.Errorf("last report (-want +got):\n%s", diff)
	}
	published, err := os.ReadFile(filepath.Join(a.install, image.Manifest()))
	a.must(err)
	for name, want := range map[string]string{
		"chroot/etc/hostname": "host03\n", "chroot/etc/network/interfaces": "address 192.168.122.3\n", "chroot/etc/modules": "loop\nbonding\n",
		"chroot/etc/fstab":                "# /etc/fstab, written by the installation from what was mounted\nUUID=1234-5678 / ext4 errors=remount-ro 0 1\n",
		"chroot/var/log/edeploy/dmesg":    "Linux version 6.1\n",
		"chroot/var/log/edeploy/vars":     "ROLE=mysql\nVERS=D7-F.1.0.0\nDISK=/dev/vda\nPROFILE=vm\n",
		"chroot/var/lib/edeploy/manifest": string(published),
	} {
		if diff := cmp.Diff(want, m.read(t, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if grub := m.read(t, "chroot/etc/default/grub"); !strings.Contains(grub, "console=ttyS0 net.ifnames=0") {
		t.Errorf("/etc/default/grub holds %q", grub)
	}
	if _, err := os.Lstat(filepath.Join(m.root, "chroot/etc/init")); err == nil {
		t.Error("an empty /etc/init was laid over the tree")
	}
	conf, err := wire.ParseInstalled(m.read(t, "chroot"+wire.ConfPath))
	if err != nil || conf.Image != image || conf.Profile != "vm" {
		t.Errorf("conf %+v, %v", conf, err)
	}
	checkDisk(t, m)
	if log := a.logs["Acme_Ltd.-Rack_R7-SN_1.log.gz"]; !strings.Contains(log, "transfer: done in") || !strings.Contains(log, "##### dmesg\nLinux version 6.1") {
		t.Errorf("logs %v hold %q", len(a.logs), log)
	}
	for _, line := range []string{"] transfer: role mysql D7-F.1.0.0: ", "] network: eth0 is up address=10.0.3.20\n", "] upload: the profile is vm\n", "+ mkfs.ext4 /dev/vda1\n"} {
		if !strings.Contains(m.console.String(), line) {
			t.Errorf("the console has no line with %q", line)
		}
	}
}

// A UEFI machine's disk is not touched by a script for BIOS machines. What
// firmware it has shows only when the devices are there.
func TestScriptForBIOS(t *testing.T) {
	a := newAppliance(t)
	m := newBlank(t, a, "")
	m.env.Firmware = func() bootloader.Firmware {
		if !slices.Contains(m.events, "devices") {
			return bootloader.BIOS
		}
		return bootloader.UEFI
	}
	err := m.install(t)
	if !errors.Is(err, configure.ErrNoESP) {
		t.Errorf("got %v, want %v", err, configure.ErrNoESP)
	}
	if diff := cmp.Diff([]string{"devices", "network", "power off"}, m.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// Without an EFI system partition the tree does not come.
func TestNoESP(t *testing.T) {
	a := newAppliance(t)
	a.script = strings.ReplaceAll(seedScript, "mklabel msdos", "mklabel gpt # for EFI") + "run('true efi')\n"
	m := newBlank(t, a, "")
	m.firmware = bootloader.UEFI
	err := m.install(t)
	if want := "configure: vm.configure: this machine was started by UEFI firmware, and no FAT file system is mounted on " + m.root + "/chroot/boot/efi"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// What a script writes through the tree's linked directories stays as it wrote
// it, under the name that the manifest has, also where a link is absolute.
func TestConfigThroughLinks(t *testing.T) {
	a := newAppliance(t)
	a.must(errors.Join(os.WriteFile(filepath.Join(a.tree, "usr/sbin/agent.key"), []byte("of the tree"), 0o644),
		os.Mkdir(filepath.Join(a.tree, "run"), 0o755), os.Symlink("/run", filepath.Join(a.tree, "var/run"))))
	a.publish()
	a.script = seedScript + "config('/sbin/agent.key', fmod=0600).write('secret')\nconfig('/var/run/agent/state').write('x')\n"
	m := newBlank(t, a, "")
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(filepath.Join(m.root, "chroot/usr/sbin/agent.key"))
	if err != nil || info.Mode() != 0o600 || m.read(t, "chroot/usr/sbin/agent.key") != "secret" {
		t.Errorf("agent.key: %v, %v", info.Mode(), err)
	}
	local := m.read(t, "chroot"+wire.LocalPath)
	for _, want := range []string{"/usr/sbin/agent.key", "/run/agent", "/run/agent/state"} {
		if !strings.Contains("\n"+local, "\n"+want+"\n") {
			t.Errorf("%s is not in\n%s", want, local)
		}
	}
	checkDisk(t, m)
}

// A script that writes where the tree has something else is told before the tree
// comes.
func TestConfigInTheWay(t *testing.T) {
	a := newAppliance(t)
	a.script = seedScript + "config('/sbin/grub-install/x').write('x')\n"
	m := newBlank(t, a, "")
	err := m.install(t)
	want := "transfer: lay directory /sbin/grub-install over the tree: the tree has a file there, /usr/sbin/grub-install: change the role, or write to another place"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := os.Lstat(filepath.Join(m.root, "chroot/usr")); err == nil {
		t.Error("the tree was transferred nevertheless")
	}
}

func TestServerIsAwayForAWhile(t *testing.T) {
	a := newAppliance(t)
	a.away = 5
	m := newBlank(t, a, "")
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.console.String(), "] upload: waiting for the server 127.0.0.1 (starting)") {
		t.Errorf("the console does not say what it waited for")
	}
	if last := a.last(); last.Status != wire.StatusInstalled {
		t.Errorf("last report %+v", last)
	}
}

// What is on the disk already with the right size and time, and wrong content,
// is not mistaken for the tree.
func TestWrongFileIsTransferredAgain(t *testing.T) {
	a := newAppliance(t)
	m := newBlank(t, a, "")
	planted := false
	m.before = func(c command.Command) {
		if c.Argv[0] != "rsync" || planted || !strings.HasSuffix(c.Argv[len(c.Argv)-1], "/chroot/") {
			return
		}
		planted = true
		dir := filepath.Join(m.root, "chroot/var/lib/mysql")
		old := time.Date(2020, 5, 6, 7, 8, 9, 123456789, time.UTC)
		a.must(errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/data", []byte(strings.Repeat("evil", 50_000)), 0o644), os.Chtimes(dir+"/data", old, old)))
	}
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.console.String(), "transferring those files again: var/lib/mysql/data: content") {
		t.Errorf("the console does not name the file")
	}
	checkDisk(t, m)
}

func TestFailures(t *testing.T) {
	tests := []struct {
		name    string
		cmdline string
		arrange func(*appliance, *blank)
		want    string // in the error
		at      wire.Step
		given   int // failure uploads
		action  string
	}{
		{"no match", "", func(a *appliance, _ *blank) { a.refusal = "no profile fits: vm: nothing fits" },
			"upload: upload to ", wire.StepUpload, 0, "power off"},
		{"no match, message", "ONFAILURE=reboot", func(a *appliance, _ *blank) { a.refusal = "no profile fits: vm: nothing fits" },
			"no profile fits: vm: nothing fits", wire.StepUpload, 0, "reboot"},
		{"command fails", "ONFAILURE=console", func(_ *appliance, m *blank) { m.fail = "mkfs.ext4" },
			"configure: vm.configure:5: mkfs.ext4 /dev/vda1: exit status 1: Error: it is broken", wire.StepConfigure, 1, "shell"},
		{"unknown variable", "DEBUG=1", func(a *appliance, _ *blank) { a.script = "x = var['disk2']" },
			"configure: vm.configure:1: var has no 'disk2'; it has: disk, ip, hostname, used", wire.StepConfigure, 1, "shell"},
		{"nothing mounted", "", func(_ *appliance, m *blank) { os.WriteFile(m.env.MountInfo, nil, 0o600) },
			"vm.configure: nothing is mounted on ", wire.StepConfigure, 1, "power off"},
		{"role does not exist", "OS=none", nil,
			"configure: vm.configure: role none version D7-F.1.0.0 does not exist on 127.0.0.1, which has of D7-F.1.0.0: mysql: ", wire.StepConfigure, 1, "power off"},
		{"version does not exist", "OS_VER=D9", func(a *appliance, _ *blank) { a.must(os.Mkdir(filepath.Join(a.install, "D8"), 0o755)) },
			"role mysql version D9 does not exist on 127.0.0.1, which has the versions D7-F.1.0.0, D8: ", wire.StepConfigure, 1, "power off"},
		{"made-up role does not exist", "", func(a *appliance, _ *blank) { a.script = strings.Replace(seedScript, "'mysql'", "'my' + 'sequel'", 1) },
			"transfer: role mysequel version D7-F.1.0.0 does not exist on 127.0.0.1, which has of D7-F.1.0.0: mysql: ", wire.StepTransfer, 1, "power off"},
		{"disk too small", "", func(a *appliance, _ *blank) {
			a.republish(func(text string) string {
				return strings.Replace(text, "size=200000", "size=1125899906842624", 1)
			})
		},
			"role mysql D7-F.1.0.0 does not fit on the disk: ", wire.StepTransfer, 1, "power off"},
		{"broken manifest", "", func(a *appliance, _ *blank) { a.republish(func(string) string { return "no manifest\n" }) },
			"transfer: manifest of the tree: ", wire.StepTransfer, 1, "power off"},
		{"tree differs on the server", "", func(a *appliance, _ *blank) {
			a.must(os.WriteFile(filepath.Join(a.tree, "etc/hostname"), []byte("other\n"), 0o644))
		},
			"the tree differs from the manifest of role mysql D7-F.1.0.0 in 1 places: etc/hostname: content", wire.StepVerify, 1, "power off"},
		{"boot loader fails", "", func(_ *appliance, m *blank) { m.fail = "grub-install" },
			"grub-install --target=i386-pc /dev/vda: exit status 1: Error: it is broken", wire.StepBootloader, 1, "power off"},
		{"no driver for the root disk", "", func(a *appliance, m *blank) { m.controller(a) },
			"the installed system would not find its root on /dev/testdisk1: its kernel 6.1 has no driver for the device 0000:00:03.0 (pci:v00001000d00000079sv00001000sd00009261bc01sc04i00, here megaraid_sas)", wire.StepBootloader, 1, "power off"},
		{"bad ONSUCCESS", "ONSUCCESS=dance", nil,
			"kernel parameter ONSUCCESS=dance: want reboot, halt, console or kexec", "", 0, "power off"},
		{"network fails", "", func(_ *appliance, m *blank) {
			m.env.Network = func(context.Context, wire.BootArgs, *slog.Logger) error {
				return errors.New("no interface has a carrier")
			}
		}, "network: no interface has a carrier", "", 0, "power off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAppliance(t)
			m := newBlank(t, a, tt.cmdline)
			if tt.arrange != nil {
				tt.arrange(a, m)
			}
			err := m.install(t)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if !strings.Contains(m.console.String(), "FAILED: ") || !strings.Contains(m.console.String(), tt.want) {
				t.Errorf("the console does not say it")
			}
			last := a.last()
			if said := strings.TrimPrefix(tt.want, string(tt.at)+": "); tt.at != "" && (last.Status != wire.StatusFailed || last.Step != tt.at || !strings.Contains(last.Message, said)) {
				t.Errorf("last report %+v", last)
			}
			if tt.at != "" && strings.HasPrefix(last.Message, string(tt.at)+": ") {
				t.Errorf("the report of step %s says it again: %q", tt.at, last.Message)
			}
			if len(a.failures) != tt.given {
				t.Errorf("failure uploads %v, want %d", a.failures, tt.given)
			}
			if tt.at != "" && len(a.logs) != 1 {
				t.Errorf("%d logs uploaded, want 1", len(a.logs))
			}
			if touched := slices.ContainsFunc(m.events, func(e string) bool { return strings.HasPrefix(e, "parted") }); touched && tt.at == wire.StepConfigure && strings.Contains(tt.want, "does not exist") {
				t.Errorf("disks were touched: %q", m.events)
			}
			if got := m.events[len(m.events)-1:]; got[0] != tt.action {
				t.Errorf("the machine ended with %q, want %q", got[0], tt.action)
			}
		})
	}
}

// The server went away at the very end: the machine is good all the same.
func TestNobodyAcknowledges(t *testing.T) {
	a := newAppliance(t)
	a.deaf = true
	m := newBlank(t, a, "UPLOAD_LOG=0")
	m.env.MessageTime = 200 * time.Millisecond
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	if got := m.events[len(m.events)-1]; got != "reboot" || len(a.logs) != 0 {
		t.Errorf("the machine ended with %q, %d logs", got, len(a.logs))
	}
	if !strings.Contains(m.console.String(), "the server does not know that this machine is installed") {
		t.Errorf("the console does not say it")
	}
}

// A server that takes no reports gets the profile back all the same.
func TestNobodyTakesReports(t *testing.T) {
	a := newAppliance(t)
	a.deaf = true
	m := newBlank(t, a, "ONFAILURE=halt")
	m.fail = "mkfs.ext4"
	if err := m.install(t); err == nil {
		t.Fatal("want the error of mkfs.ext4")
	}
	if diff := cmp.Diff([]string{"vm"}, a.failures); diff != "" {
		t.Errorf("given back (-want +got):\n%s", diff)
	}
}

func TestOnSuccess(t *testing.T) {
	for action, want := range map[string][]string{
		"halt": {"unmount", "power off"}, "console": {"unmount", "shell"},
		"kexec": {"unmount", "kexec"},
	} {
		for by, cmdline := range map[string]string{"kernel parameter": "ONSUCCESS=" + action, "script": ""} {
			t.Run(action+" by "+by, func(t *testing.T) {
				a := newAppliance(t)
				if by == "script" {
					a.script = seedScript + "open('/vars', 'a').write('ONSUCCESS=" + action + "\\n')\n"
				}
				m := newBlank(t, a, cmdline)
				if err := m.install(t); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, m.events[len(m.events)-2:]); diff != "" {
					t.Errorf("last events (-want +got):\n%s", diff)
				}
				loaded := "load " + m.root + "/chroot/boot/vmlinuz-6.1 root=UUID=1234-5678 ro console=ttyS0"
				if got := strings.Join(m.events, "\n"); action == "kexec" && !strings.Contains(got, loaded) {
					t.Errorf("events %s, want %s", got, loaded)
				}
			})
		}
	}
}

// TestLoudScript: what a script says is bounded, and the installation goes on.
func TestLoudScript(t *testing.T) {
	a := newAppliance(t)
	a.script = "for i in range(20000): print('x' * 999)\n" + seedScript
	m := newBlank(t, a, "")
	m.env.Console = &m.console
	if err := m.install(t); err != nil {
		t.Fatal(err)
	}
	said := m.console.String()
	if n := len(said); n > 5<<20 {
		t.Errorf("the console says %d bytes", n)
	}
	for _, want := range []string{"the script has said 4194304 bytes: the rest is left out here and in the log", "more bytes of the script's output were left out"} {
		if !strings.Contains(said, want) {
			t.Errorf("the console does not say %q", want)
		}
	}
}

func TestRescueChangesNothing(t *testing.T) {
	a := newAppliance(t)
	m := newBlank(t, a, "RESCUE=1")
	if err := install.Run(t.Context(), m.env); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"devices", "network", "shell"}, m.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if len(a.reports) != 0 {
		t.Errorf("reports %v", a.reports)
	}
}

// TestLogIn: a shell is one by ssh, too, for whoever the deployment's keys are of,
// as soon as the server can be asked; it ends with the other one.
func TestLogIn(t *testing.T) {
	const said = "ssh root@10.0.3.7"
	for _, tt := range []struct {
		name   string
		status []int
		said   string
	}{
		{"keys", []int{200}, said},
		{"the server is not there yet", []int{503, 503, 200}, said},
		{"no keys", []int{404}, ""},
		{"another server", []int{403}, "no login by ssh"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAppliance(t)
			a.keys = tt.status
			m := newBlank(t, a, "RESCUE=1")
			lines := make(chan string, 100)
			m.env.Console = written(lines)
			ended := make(chan struct{})
			m.env.LogIn = func(ctx context.Context, keys []byte) (string, error) {
				if string(keys) != "keys" || tt.said != said {
					t.Errorf("keys %q", keys)
				}
				context.AfterFunc(ctx, func() { close(ended) })
				return said, nil
			}
			m.env.Shell = func(context.Context) error {
				for tt.said != "" && !strings.Contains(<-lines, tt.said) {
				}
				return nil
			}
			if err := install.Run(t.Context(), m.env); err != nil {
				t.Fatal(err)
			}
			if tt.said == said {
				<-ended
			}
		})
	}
}

// written sends what is written into it.
type written chan string

func (w written) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}
