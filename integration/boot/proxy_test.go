package boot

import (
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
)

// TestProxy: a BIOS machine on a network with a dnsmasq of its own, which names
// a boot file, too, gets its address there and comes into the agent by
// ProxyDHCP.
func TestProxy(t *testing.T) {
	labtest.NeedVM(t)
	if !needs.Namespace(t, beside.programs...) {
		return
	}
	s := serve(t, beside.lay(t))
	vm := start(t, machine(lab.BIOS))
	labtest.Expect(t, vm, 40*time.Second, "eDeploy: "+mac+" starts the agent")
	s.reaches(t, time.Minute)
}
