package boot

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/integration/rack"
	"edeploy/pxe"
	"edeploy/server/api"
)

const (
	image  = "base-D12-F.1.0.0"
	prefix = "192.168.122."
)

// TestInstallation: a UEFI machine whose firmware boots by HTTP, which has Secure
// Boot on, or whose network has a dnsmasq of its own, is installed by an edeployd
// on this host. After a cold boot, network first, it starts its own disk, is equal
// to its manifest, and lets the operator in.
func TestInstallation(t *testing.T) {
	labtest.NeedVM(t)
	long(t)
	if !needs.Namespace(t, append(beside.programs, "ssh")...) {
		return
	}
	d := &daemon{images: t.TempDir()}
	for _, test := range []struct {
		name    string
		network topology
		loader  pxe.Loader
		machine lab.Machine
		secure  string // the last byte of the firmware's variable
	}{
		{"HTTP boot", own, pxe.LoaderIPXE, withoutPXE(machine(lab.UEFI)), "0"},
		{"Secure Boot", own, pxe.LoaderGRUB, machine(lab.SecureBoot), "1"},
		{"beside dnsmasq", beside, pxe.LoaderIPXE, machine(lab.UEFI), "0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := labtest.New(t)
			key, err := rack.NewKey(l.Path("id_ed25519"))
			if err != nil {
				t.Fatal(err)
			}
			d.start(t, test.network.lay(t), test.loader, key)
			m := test.machine
			m.Disks = []lab.Disk{{Path: l.Path("disk.img")}}
			if err := lab.BlankDisk(m.Disks[0].Path, 3e9); err != nil {
				t.Fatal(err)
			}
			vm := labtest.Start(t, l, m)
			awaitInstalled(t, vm)
			labtest.Expect(t, vm, 5*time.Minute, `node10 login:`)
			if err := vm.Kill(); err != nil {
				t.Fatal(err)
			}
			vm = labtest.Start(t, l, m)
			labtest.Expect(t, vm, 3*time.Minute, `the installed disk starts|is installed, booting its own disk`)
			labtest.Expect(t, vm, 5*time.Minute, `node10 login:`)
			for command, want := range map[string]string{
				"edeploy verify >/dev/null; echo exit $?":                                                           "exit 0\n",
				"systemctl --failed --no-legend --plain":                                                            "",
				"od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c | xargs": test.secure + "\n",
			} {
				if got := login(t, key, command); got != want {
					t.Errorf("%s prints %q, want %q", command, got, want)
				}
			}
			if err := vm.Kill(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// daemon is an edeployd in the test's namespace; its images stay from one to the
// next.
type daemon struct {
	images string
	pushed bool
}

// start serves one profile, that of the racks moved to this network.
func (d *daemon) start(t *testing.T, network pxe.Config, loader pxe.Loader, key *rack.Key) {
	t.Helper()
	out, err := filepath.Abs("../../out")
	if err != nil {
		t.Fatal(err)
	}
	accel, err := lab.Accel()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := fmt.Sprintf("[SERVER]\nCONFIGDIR=config\n[NETWORK]\nINTERFACE=br0\nADDRESS=%s\n[DHCP]\nMODE=%s\nLOOK=no\nUNKNOWN=install\nLOADER=%s\n",
		network.Address, network.Mode, loader)
	if network.RangeFirst.IsValid() {
		conf += fmt.Sprintf("RANGE=%s-%s\n", network.RangeFirst, network.RangeLast)
	}
	conf += fmt.Sprintf("[IMAGES]\nTOP=%s\n[STATE]\nDIR=server\n[BOOT]\nDIR=%s/boot\nKERNELARGS=console=ttyS0,115200 panic=30\nARGS=| %s |\n", d.images, out, accel.KernelArgs())
	files := rack.VM("base", strings.TrimPrefix(image, "base-"), key)
	files["vm.configure"] = rack.BothFirmwares("base", strings.TrimPrefix(image, "base-"), key)
	if err := os.Mkdir(filepath.Join(dir, "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "edeploy.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, "config", name), []byte(strings.ReplaceAll(text, "10.0.3.", prefix)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edeployd := exec.Command(filepath.Join(out, "bin", "edeployd"), "-config", filepath.Join(dir, "edeploy.conf"))
	edeployd.Stdout, edeployd.Stderr = t.Output(), t.Output()
	if err := edeployd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		edeployd.Process.Signal(syscall.SIGTERM)
		edeployd.Wait()
	})
	if d.pushed {
		return
	}
	push := exec.Command(filepath.Join(out, "bin", "edeployctl"), "--server", "http://"+prefix+"1", "push", filepath.Join(out, "install", "D12-F.1.0.0", image+".edeploy"))
	if text, err := push.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	d.pushed = true
}

// awaitInstalled waits until the only machine is installed.
func awaitInstalled(t *testing.T, vm *lab.VM) {
	t.Helper()
	ctx, cancel := lab.Deadline(t.Context(), 10*time.Minute)
	defer cancel()
	client := api.Client{Address: "http://" + prefix + "1"}
	for {
		all, err := client.Machines(ctx)
		if len(all) == 1 && all[0].State == "installed" {
			return
		}
		if ctx.Err() != nil || len(all) == 1 && all[0].State == "failed" {
			t.Fatalf("the machine is not installed: %+v %v; its console:\n%s", all, err, strings.Join(vm.LastLines(30), "\n"))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// login runs a command on the installed machine, as the operator does.
func login(t *testing.T, key *rack.Key, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lab.Patience(3*time.Minute))
	defer cancel()
	for {
		ssh := exec.CommandContext(ctx, "ssh", "-i", key.File, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10", "root@"+prefix+"10", command)
		ssh.Stderr = io.Discard
		text, err := ssh.Output()
		if err == nil {
			return string(text)
		}
		if ctx.Err() != nil {
			t.Fatalf("ssh: %v", err)
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
	}
}
