package racks

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
)

// thatIsAll is a profile whose script ends the installation: the machine has
// found the appliance, which is what these stories are about. more are lines of its
// specs.
func thatIsAll(r *racktest.Rack, more string) map[string]string {
	files := rack.VM(racktest.Base.Role, racktest.Base.Version, r.Key)
	files["vm.specs"] = "[\n ('network', '$eth', 'serial', '$mac'),\n" + more + "]\n"
	files["vm.configure"] = fmt.Sprintf("run('echo that is all; false')\nset_role('%s', '%s', '/dev/vda')\n", racktest.Base.Role, racktest.Base.Version)
	return files
}

// agent starts the agent as a loader would, without one.
func agent(t *testing.T, r *racktest.Rack, name, parameters string, cards ...lab.NIC) *lab.VM {
	t.Helper()
	vm, err := r.Lab.Start(context.WithoutCancel(t.Context()), lab.Machine{Name: name, NICs: cards,
		Kernel: agentKernel(t, "SERV="+rack.Appliance.String()+" "+parameters)})
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// ends waits for the end of the script.
func ends(t *testing.T, r *racktest.Rack, vm *lab.VM) {
	t.Helper()
	if m := r.AwaitState(vm, "failed", 4*time.Minute); !strings.Contains(m.LastError, "that is all") {
		t.Errorf("the appliance says %q, want the end of the script", m.LastError)
	}
}

// lldpdu is what a switch's port gi1/1 says (LLDP).
const lldpdu = "\x01\x80\xc2\x00\x00\x0e\x02\x00\x00\x00\x00\x01\x88\xcc" +
	"\x02\x07\x04\x02\x00\x00\x00\x00\x01" + "\x04\x06\x05gi1/1" + "\x06\x02\x00\x78" + "\x0a\x03sw1" + "\x00\x00"

// answersLLDP is a switch that says who it is when it hears of a neighbour.
func answersLLDP(hub *lab.Hub) {
	port := hub.Port("switch")
	go func() {
		for {
			frame, err := port.Receive(context.Background())
			if err != nil {
				return // the hub is closed
			}
			if string(frame[12:14]) == lldpdu[12:14] {
				port.Send([]byte(lldpdu))
			}
		}
	}()
}

// A machine on a trunk reaches the appliance in a VLAN, with the static address
// of its kernel parameters; its profile is chosen by the port of the switch.
func TestVLAN(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("EDEPLOY_LONG=1 runs it (make test-long)")
	}
	r := racktest.Start(t)
	r.Configure(thatIsAll(r, " ('lldp', '$eth', 'Port ID/Ifname', 'gi1_1'),\n"))
	trunk, err := r.Lab.Hub("trunk")
	if err != nil {
		t.Fatal(err)
	}
	lab.Access(trunk, 12, r.Hub)
	answersLLDP(trunk)
	vm := agent(t, r, "tagged", "IP=eth0:10.0.3.70/24@12,other:none", lab.NIC{Hub: trunk}, lab.NIC{Hub: trunk})
	r.Expect(vm, 2*time.Minute, `address set device="VLAN 12 on eth0" address=10\.0\.3\.70/24`)
	ends(t, r, vm)
}

// A DHCP server answers at once on the wrong card, while the right one's switch
// does not pass anything on for 30 s (spanning tree).
func TestSpanningTree(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("EDEPLOY_LONG=1 runs it (make test-long)")
	}
	r := racktest.Start(t)
	r.Configure(thatIsAll(r, ""))
	vm := agent(t, r, "blocked", "", lab.NIC{User: &lab.UserNet{Alone: true}}, lab.NIC{Hub: r.Hub})
	vm.Port(1).Cut()
	r.Expect(vm, 2*time.Minute, `address set device=eth0 address=10\.0\.2\.`)
	time.Sleep(30 * time.Second) // what the story is about
	vm.Port(1).Restore()
	r.Expect(vm, 2*time.Minute, `the server answers device=eth1`)
	ends(t, r, vm)
}
