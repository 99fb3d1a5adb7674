package nic_test

import (
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"edeploy/appliance/internal/nic"
	"edeploy/integration/needs"

	"golang.org/x/sys/unix"
)

// inNamespace is set when the test runs in a network namespace of its own.
const inNamespace = "NIC_TEST_IN_NAMESPACE"

// A device that is removed and made anew under the same name leaves a socket
// deaf, until it is bound again.
func TestBindAgain(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		needs.Root(t)
		needs.Programs(t, "ip", "unshare")
		cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", os.Args[0], "-test.run=^TestBindAgain$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v\n%s", args, err, out)
		}
	}
	address := netip.MustParsePrefix("10.0.3.1/24")
	// The other end of the cable is in a namespace of its own.
	makeDevice := func() {
		t.Helper()
		ip("link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "netns", "rebind-peer")
		ip("-n", "rebind-peer", "address", "add", "10.0.3.9/24", "dev", "cli0")
		ip("-n", "rebind-peer", "link", "set", "cli0", "up")
		if err := nic.Configure(t.Context(), "srv0", address); err != nil {
			t.Fatal(err)
		}
	}
	// The names of namespaces are files; this one is seen by nobody else.
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("names", "/run/netns", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	ip("netns", "add", "rebind-peer")
	makeDevice()
	l, err := nic.Listen(t.Context(), "srv0", netip.AddrPortFrom(address.Addr(), 80))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close() })
	answers := func() bool {
		return exec.Command("ip", "netns", "exec", "rebind-peer", "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/10.0.3.1/80").Run() == nil
	}
	if !answers() {
		t.Fatal("the listener does not answer on its device")
	}
	before := nic.Index("srv0")
	ip("link", "del", "srv0")
	if nic.Index("srv0") != 0 {
		t.Error("a device that is gone has an index")
	}
	makeDevice()
	if nic.Index("srv0") == before {
		t.Fatal("the kernel gave the same index again: nothing to test")
	}
	if answers() {
		t.Error("the old socket answers on the new device: nothing to test")
	}
	if err := nic.Bind(l, "srv0"); err != nil {
		t.Fatal(err)
	}
	if !answers() {
		t.Error("the listener that was bound again does not answer")
	}
}
