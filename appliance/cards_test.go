package appliance_test

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"edeploy/appliance"
	"edeploy/integration/needs"
)

// The whole daemon on a machine with two cards, both with an address: it
// answers on the provisioning card only, whichever of its addresses is asked.
func TestOtherCardsGetNothing(t *testing.T) {
	if !needs.Namespace(t) {
		return
	}
	wires := newWires(t)
	serve(t)
	everywhere, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", ":8000")
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()

	const own, operators = "10.0.3.1", "192.168.77.1"
	wires.expect(t, true, own, 80, 873, 8000)
	wires.expect(t, true, operators, 8000) // an ordinary service: the cards and the test are in order
	wires.expect(t, false, operators, 80, 873)
	// The provisioning address asked for by the operator's wire.
	wires.Run(t, "ip", "address", "del", "10.0.3.50/24", "dev", "cli0")
	wires.Run(t, "ip", "route", "add", own+"/32", "dev", "cli1", "src", "192.168.77.2")
	wires.expect(t, true, own, 8000)
	wires.expect(t, false, own, 80, 873)
}

// The provisioning device is removed and made anew under the same name, as an
// adapter that is plugged out and in: it is served again, and the console says
// so.
func TestDeviceMadeAnew(t *testing.T) {
	if !needs.Namespace(t) {
		return
	}
	wires := newWires(t)
	screen := serve(t)
	wires.expect(t, true, "10.0.3.1", 80, 873)
	needs.IP(t, "link", "del", "srv0")
	screen.await(t, "network device srv0 is gone: no machine can boot until it is back")
	needs.IP(t, "link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "netns", wires.PID)
	wires.Run(t, "ip", "address", "add", "10.0.3.50/24", "dev", "cli0")
	wires.Run(t, "ip", "link", "set", "cli0", "up")
	for end := time.Now().Add(20 * time.Second); wires.Command(t.Context(), "timeout", "3", "bash", "-c", "exec 3<>/dev/tcp/10.0.3.1/80").Run() != nil; {
		if time.Now().After(end) {
			t.Fatal("the new device is not served")
		}
	}
	wires.expect(t, true, "10.0.3.1", 80, 873)
}

// wires are two cables from the test's namespace to another one: srv0 - cli0
// for provisioning, srv1 - cli1 for the operator.
type wires struct{ needs.Neighbour }

func newWires(t *testing.T) wires {
	t.Helper()
	w := wires{needs.NewNeighbour(t)}
	needs.IP(t, "link", "set", "lo", "up")
	needs.IP(t, "link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "netns", w.PID)
	needs.IP(t, "link", "add", "srv1", "type", "veth", "peer", "name", "cli1", "netns", w.PID)
	needs.IP(t, "address", "add", "192.168.77.1/24", "dev", "srv1")
	needs.IP(t, "link", "set", "srv1", "up")
	w.Run(t, "ip", "address", "add", "10.0.3.50/24", "dev", "cli0")
	w.Run(t, "ip", "address", "add", "192.168.77.2/24", "dev", "cli1")
	w.Run(t, "ip", "link", "set", "cli0", "up")
	w.Run(t, "ip", "link", "set", "cli1", "up")
	return w
}

// expect connects to ports from the other end of the wires.
func (w wires) expect(t *testing.T, answer bool, host string, ports ...int) {
	t.Helper()
	for _, port := range ports {
		err := w.Command(t.Context(), "timeout", "3", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", host, port)).Run()
		if got := err == nil; got != answer {
			t.Errorf("%s port %d answers: %v, want %v", host, port, got, answer)
		}
	}
}

// serve runs the daemon on the provisioning card until the test ends.
func serve(t *testing.T) *screen {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"edeploy.conf": "[SERVER]\nCONFIGDIR=config\n[NETWORK]\nINTERFACE=srv0\nADDRESS=10.0.3.1/24\nCONFIGURE=yes\n" +
			"[BOOT]\nDIR=boot\n[IMAGES]\nTOP=images\n[STATE]\nDIR=server\n",
		"config/state": "[]\n",
	}
	for _, name := range []string{"vmlinuz", "initrd.pxe", "undionly.kpxe", "snponly.efi"} {
		files["boot/"+name] = name
	}
	writeFiles(t, dir, files)
	config, err := appliance.ReadConfig(filepath.Join(dir, "edeploy.conf"))
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := appliance.Listen(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	a, err := appliance.New(t.Context(), config, sockets, nil)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, a)
}
