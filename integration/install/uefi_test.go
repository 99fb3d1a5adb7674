package install

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/integration/lab"
	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
)

// A UEFI machine is refused a script for BIOS machines, and its disk is as it
// was. With an EFI system partition it is installed, is equal to the manifest,
// and boots its own disk although it asks the network first. Secure Boot starts it,
// too.
func TestUEFI(t *testing.T) {
	r := racktest.Start(t)
	files := rack.VM("base", racktest.Base.Version, r.Key)
	r.Configure(files)
	vm := r.Power(rack.Blank{Name: "refused", Firmware: lab.UEFI})
	m := r.AwaitState(vm, "failed", 4*time.Minute)
	if want := "started by UEFI firmware, and the script makes no EFI system partition"; !strings.Contains(m.LastError, want) {
		t.Errorf("the appliance says %q, want %s", m.LastError, want)
	}
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
	var disk unix.Stat_t
	if err := unix.Stat(r.Disk("refused", 0), &disk); err != nil || disk.Blocks != 0 {
		t.Errorf("%v, %d blocks of the disk were written", err, disk.Blocks)
	}

	files["vm.configure"] = rack.BothFirmwares("base", racktest.Base.Version, r.Key)
	r.Configure(files)
	blank := rack.Blank{Name: "node", Firmware: lab.UEFI}
	vm = r.Power(blank)
	r.AwaitState(vm, "installed", 8*time.Minute)
	r.Expect(vm, time.Second, `bootloader: boot entry Boot[0-9A-F]{4} of the firmware: debian, EFI/debian/shimx64.efi`)
	boots(r, vm)
	verify(t, r.SSH(vm, "edeploy verify; echo exit $?"))
	for _, look := range []struct{ what, command, want string }{
		{"a boot entry", "efibootmgr -v", `(?i)Boot[0-9A-F]{4}\* debian\tHD\(2,GPT,.*\\EFI\\debian\\shimx64\.efi`},
		{"the network stays first", `n=$(efibootmgr | sed -n 's/^BootOrder: \(....\).*/\1/p'); efibootmgr -v | grep "^Boot$n"`, `/MAC\(`},
		{"loaders", "edeploy loader", `^the loaders on /boot/efi are those of the installed version\n$`},
		{"no unit failed", "systemctl --failed --no-legend --plain; true", `^$`},
	} {
		if got := r.SSH(vm, look.command); !regexp.MustCompile(look.want).MatchString(got) {
			t.Errorf("%s: %s\n got: %q\nwant: %s", look.what, look.command, got, look.want)
		}
	}

	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
	vm = r.Power(blank)
	boots(r, vm)
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}

	// The disk in another machine, which knows no entry for it.
	vm, err := r.Lab.Start(context.WithoutCancel(t.Context()), lab.Machine{Name: "other", Firmware: lab.SecureBoot, Boot: lab.DiskFirst,
		Disks: []lab.Disk{{Path: r.Disk("node", 0)}}, NICs: []lab.NIC{{Hub: r.Hub, MAC: vm.MAC(0)}}})
	if err != nil {
		t.Fatal(err)
	}
	r.Expect(vm, 2*time.Minute, `node10 login:`)
	// What firmware and kernel say, where no console can lose it.
	for _, look := range []struct{ what, command, want string }{
		{"Secure Boot is on", "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", `^ +1\n$`},
		{"the kernel is locked down", "cat /sys/kernel/security/lockdown", `\[integrity\]`},
		{"no boot entry was made", "efibootmgr | grep debian || true", `^$`},
	} {
		if got := r.SSH(vm, look.command); !regexp.MustCompile(look.want).MatchString(got) {
			t.Errorf("%s: %s\n got: %q\nwant: %s", look.what, look.command, got, look.want)
		}
	}
}

// boots waits until the machine has started its own disk, sent there by the
// appliance.
func boots(r *racktest.Rack, vm *lab.VM) {
	r.Expect(vm, 2*time.Minute, `the installed disk starts`)
	r.Expect(vm, 2*time.Minute, `node10 login:`)
}
