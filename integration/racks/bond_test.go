package racks

import (
	"os"
	"strings"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
)

// bonded is a profile whose machines have an address on two cards together, and
// another in VLAN 100 on top.
func bonded(r *racktest.Rack) map[string]string {
	files := rack.VM("base", racktest.Base.Version, r.Key)
	files["vm.specs"] = strings.Replace(files["vm.specs"], "\n]\n", "\n ('network', '$eth2', 'serial', '$mac2'),\n]\n", 1)
	files["vm.cmdb"] = strings.Replace(files["vm.cmdb"], "'netmask'", "'inside': '10.100.0.10-60', 'netmask'", 1)
	files["vm.configure"] += `
open('/interfaces', 'w').write('''
auto lo
iface lo inet loopback

auto bond0
iface bond0 inet static
     address %(ip)s
     netmask %(netmask)s
     gateway %(gateway)s
     bond-slaves %(eth)s %(eth2)s
     bond-mode active-backup
     bond-miimon 100

auto bond0.100
iface bond0.100 inet static
     address %(inside)s
     netmask 255.255.255.0
''' % var)
`
	return files
}

// Two machines talk in a VLAN on bonded cards, also when one of them has lost
// the cable that was in use.
func TestBond(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("EDEPLOY_LONG=1 runs it (make test-long)")
	}
	r := racktest.Start(t)
	r.Configure(bonded(r))
	var vms []*lab.VM
	for _, name := range []string{"one", "two"} {
		blank := rack.Blank{Name: name, Cards: 2}
		vm := r.Power(blank)
		r.AwaitState(vm, "installed", 8*time.Minute)
		off(t, vm)
		vms = append(vms, r.Power(blank))
	}
	for _, vm := range vms {
		r.Expect(vm, 4*time.Minute, `node\d+ login:`)
	}
	inside := strings.TrimSpace(r.SSH(vms[1], "ip -4 -o addr show bond0.100 | grep -o '10[.]100[.]0[.][0-9]*/' | tr -d /"))
	const active = "cat /sys/class/net/bond0/bonding/active_slave"
	talks := "ping -c 3 -W 5 -I bond0.100 " + inside + " >&2 && edeploy verify >&2 && echo good"
	if out := r.SSH(vms[0], talks); !strings.HasSuffix(out, "\ngood\n") {
		t.Errorf("the VLAN, or verify:\n%s", out)
	}
	first := strings.TrimSpace(r.SSH(vms[0], active))
	if err := vms[0].PullCable(t.Context(), map[string]int{"eth0": 0, "eth1": 1}[first]); err != nil {
		t.Fatal(err)
	}
	out := r.SSH(vms[0], "for i in $(seq 30); do [ $("+active+") != "+first+" ] && break; sleep 1; done; "+active+"; "+talks)
	if !strings.HasPrefix(out, "eth") || strings.HasPrefix(out, first+"\n") || !strings.HasSuffix(out, "\ngood\n") {
		t.Errorf("with the cable of %s pulled:\n%s", first, out)
	}
}
