package appliance_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"edeploy/appliance"
	"edeploy/integration/needs"
)

// inNamespace is set when the test runs in a network namespace of its own.
const inNamespace = "APPLIANCE_TEST_IN_NAMESPACE"

// The whole daemon on a machine with two cards, both with an address: it
// answers on the provisioning card only, whichever of its addresses is asked.
func TestOtherCardsGetNothing(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		inNewNamespace(t)
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
	wires.clients(t, "ip", "address", "del", "10.0.3.50/24", "dev", "cli0")
	wires.clients(t, "ip", "route", "add", own+"/32", "dev", "cli1", "src", "192.168.77.2")
	wires.expect(t, true, own, 8000)
	wires.expect(t, false, own, 80, 873)
}

// The provisioning device is removed and made anew under the same name, as an
// adapter that is plugged out and in: it is served again, and the console says
// so.
func TestDeviceMadeAnew(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		inNewNamespace(t)
		return
	}
	wires := newWires(t)
	serve(t)
	wires.expect(t, true, "10.0.3.1", 80, 873)
	for _, args := range [][]string{
		{"link", "del", "srv0"},
		{"link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "netns", strconv.Itoa(wires.peer)},
	} {
		time.Sleep(2 * time.Second) // longer than the interval at which it looks
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	wires.clients(t, "ip", "address", "add", "10.0.3.50/24", "dev", "cli0")
	wires.clients(t, "ip", "link", "set", "cli0", "up")
	for end := time.Now().Add(20 * time.Second); wires.command(t.Context(), "timeout", "3", "bash", "-c", "exec 3<>/dev/tcp/10.0.3.1/80").Run() != nil; {
		if time.Now().After(end) {
			t.Fatal("the new device is not served")
		}
	}
	wires.expect(t, true, "10.0.3.1", 80, 873)
}

// inNewNamespace runs the test once more, in a network namespace of its own.
func inNewNamespace(t *testing.T) {
	t.Helper()
	needs.Root(t)
	needs.Programs(t, "ip", "unshare", "nsenter")
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
}

// wires are two cables from the test's namespace to another one: srv0 - cli0
// for provisioning, srv1 - cli1 for the operator.
type wires struct{ peer int }

func newWires(t *testing.T) wires {
	t.Helper()
	holder := exec.Command("unshare", "--net", "sh", "-c", "echo ready; cat")
	input, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		holder.Wait()
	})
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatalf("no second namespace: %v", err)
	}
	w := wires{holder.Process.Pid}
	pid := strconv.Itoa(w.peer)
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "netns", pid},
		{"link", "add", "srv1", "type", "veth", "peer", "name", "cli1", "netns", pid},
		{"address", "add", "192.168.77.1/24", "dev", "srv1"},
		{"link", "set", "srv1", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	w.clients(t, "ip", "address", "add", "10.0.3.50/24", "dev", "cli0")
	w.clients(t, "ip", "address", "add", "192.168.77.2/24", "dev", "cli1")
	w.clients(t, "ip", "link", "set", "cli0", "up")
	w.clients(t, "ip", "link", "set", "cli1", "up")
	return w
}

func (w wires) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(w.peer), "--net"}, args...)...)
}

// clients runs a command on the other end of the wires.
func (w wires) clients(t *testing.T, args ...string) {
	t.Helper()
	if out, err := w.command(t.Context(), args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// expect connects to ports from the other end of the wires.
func (w wires) expect(t *testing.T, answer bool, host string, ports ...int) {
	t.Helper()
	for _, port := range ports {
		err := w.command(t.Context(), "timeout", "3", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%d", host, port)).Run()
		if got := err == nil; got != answer {
			t.Errorf("%s port %d answers: %v, want %v", host, port, got, answer)
		}
	}
}

// serve runs the daemon on the provisioning card until the test ends.
func serve(t *testing.T) {
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
	run(t, a)
}
