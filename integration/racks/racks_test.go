// Package racks tells how real machines are installed: with the controllers and
// network cards of servers, by Debian's kernel.
package racks

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
	"edeploy/server/wire"
)

// controller is a kind of machine.
type controller struct {
	bus     lab.Bus
	card    string
	drivers []string // modules that the installed machine has loaded for them
}

var controllers = []controller{
	{lab.MegaSAS, "e1000e", []string{"megaraid_sas", "e1000e"}},
	{lab.IDE, "e1000", []string{"ahci", "e1000"}},
	{lab.NVMe, "rtl8139", []string{"nvme", "8139cp"}},
	{lab.PVSCSI, "vmxnet3", []string{"vmw_pvscsi", "vmxnet3"}},
	{lab.MPTSAS, "e1000e", []string{"mptsas", "e1000e"}},
	{lab.LSI, "e1000", []string{"sym53c8xx", "e1000"}},
	{lab.SCSI, "virtio", []string{"virtio_scsi", "virtio_net"}},
}

// profile installs a role on the first disk, whatever its bus calls it.
func profile(r *racktest.Rack, image wire.ImageRef) map[string]string {
	files := rack.VM(image.Role, image.Version, r.Key)
	files["vm.configure"] = `disk = '/dev/' + var['disk']
part = disk + ('p1' if disk[-1].isdigit() else '1')

run('parted -s %s mklabel msdos' % disk)
run('parted -s %s mkpart primary ext2 0%% 100%%' % disk)
run('mkfs.ext4 -q %s' % part)
run('mkdir -p /chroot; mount %s /chroot' % part)
` + rack.Settings(r.Key) + `
set_role('` + image.Role + `', '` + image.Version + `', disk)
`
	return files
}

// One role tree installs, boots cold and is equal to its manifest on each kind
// of machine.
func TestControllers(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("EDEPLOY_LONG=1 runs it (make test-long); TestLayouts is on a MegaRAID SAS with an e1000e card")
	}
	r := racktest.Start(t)
	r.Configure(profile(r, racktest.Base))
	for _, c := range controllers {
		t.Run(string(c.bus)+" "+c.card, func(t *testing.T) { boots(t, r.In(t), c) })
	}
}

func boots(t *testing.T, r *racktest.Rack, c controller) {
	blank := rack.Blank{Name: string(c.bus), Bus: c.bus, Card: c.card}
	vm := r.Power(blank)
	r.AwaitState(vm, "installed", 8*time.Minute)
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
	vm = r.Power(blank)
	r.Expect(vm, 4*time.Minute, `node\d+ login:`)
	answer := r.SSH(vm, "edeploy verify; echo exit $?")
	t.Logf("edeploy verify:\n%s", answer)
	if !strings.HasSuffix(answer, "exit 0\n") {
		t.Errorf("edeploy verify found differences:\n%s", answer)
	}
	loaded := r.SSH(vm, "lsmod")
	for _, driver := range c.drivers {
		if !regexp.MustCompile(`(?m)^` + driver + ` `).MatchString(loaded) {
			t.Errorf("the driver %s is not loaded:\n%s", driver, loaded)
		}
	}
	if err := vm.Kill(); err != nil {
		t.Fatal(err)
	}
}

// A tree whose kernel does not drive the root disk's controller is refused by
// the agent, and the machine is not reported as good.
func TestOtherKernel(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("EDEPLOY_LONG=1 runs it (make test-long)")
	}
	r := racktest.Start(t)
	r.Configure(profile(r, racktest.MySQL.First)) // it has the cloud kernel
	vm := r.Power(rack.Blank{Name: "megasas", Bus: lab.MegaSAS, Card: "virtio"})
	const want = `the installed system would not find its root on /dev/sda1: its kernel \S+-cloud-amd64 has no driver for the device 0000:\S+ \(pci:\S+, here megaraid_sas\)`
	r.Expect(vm, 8*time.Minute, want)
	m := r.AwaitState(vm, "failed", time.Minute)
	if !regexp.MustCompile(want).MatchString(m.LastError) {
		t.Errorf("the appliance says %q, want %s", m.LastError, want)
	}
}
