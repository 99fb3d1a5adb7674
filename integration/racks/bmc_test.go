package racks

import (
	"os"
	"strings"
	"testing"
	"time"

	"edeploy/integration/needs"
	"edeploy/integration/rack"
	"edeploy/integration/rack/racktest"
)

// The script gives the machine's BMC, which the agent has found, an address and
// a user. The user then logs in to the BMC over its own network.
func TestBMC(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("EDEPLOY_LONG=1 runs it (make test-long)")
	}
	bmc := needs.NewBMC(t)
	r := racktest.Start(t)
	files := rack.VM("base", racktest.Base.Version, r.Key)
	files["vm.specs"] = strings.Replace(files["vm.specs"], "[\n", "[\n ('system', 'ipmi', 'channel', '$channel'),\n", 1)
	files["vm.configure"] = "ipmi.setup_network(int(var['channel']), '10.0.0.9', '255.255.255.0', '10.0.0.1')\n" +
		"ipmi.setup_user(int(var['channel']), 'ops', 'geheim12')\n" + files["vm.configure"]
	r.Configure(files)
	vm := r.Power(rack.Blank{Name: "bmc", Extra: bmc.QEMU()})
	r.AwaitState(vm, "installed", 8*time.Minute)
	out, err := bmc.Command("ops", "geheim12", "lan", "print", "1").CombinedOutput()
	for _, want := range []string{"Static Address", ": 10.0.0.9\n", ": 255.255.255.0\n", ": 10.0.0.1\n"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: no %q in\n%s", err, want, out)
		}
	}
}
