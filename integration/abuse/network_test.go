package abuse_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/integration/needs"
)

// host is a machine on the provisioning network: a network namespace with one
// card, eth0.
type host struct {
	name, address string
	namespace     *os.File
}

// newSwitch makes the switch br0, on which the daemon serves.
func newSwitch(t *testing.T) {
	t.Helper()
	// The names of the namespaces are files; these are seen by nobody else.
	must(t, os.MkdirAll("/run/netns", 0o755))
	must(t, unix.Mount("names", "/run/netns", "tmpfs", 0, ""))
	needs.IP(t, "link", "set", "lo", "up")
	makeBridge(t)
}

func makeBridge(t *testing.T) {
	t.Helper()
	// An adapter that is plugged in again has the address that it had.
	needs.IP(t, "link", "add", "br0", "address", "02:00:00:00:00:01", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
	needs.IP(t, "link", "set", "br0", "up")
}

// newHost plugs a host into the switch.
func newHost(t *testing.T, name, address string) *host {
	t.Helper()
	needs.IP(t, "netns", "add", name)
	needs.IP(t, "link", "add", "port-"+name, "type", "veth", "peer", "name", "eth0", "netns", name)
	needs.IP(t, "link", "set", "port-"+name, "master", "br0", "up")
	needs.IP(t, "-n", name, "link", "set", "lo", "up")
	needs.IP(t, "-n", name, "address", "add", address+"/24", "dev", "eth0")
	needs.IP(t, "-n", name, "link", "set", "eth0", "up")
	f, err := os.Open("/run/netns/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &host{name, address, f}
}

// do calls f on a thread that is on the host: sockets that it makes are there,
// also when they are used elsewhere later.
func (h *host) do(f func()) {
	done := make(chan error)
	go func() {
		// Not unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		err := unix.Setns(int(h.namespace.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		panic(err) // the namespace is ours and is there as long as the test
	}
}

// dial connects from the host.
func (h *host) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	h.do(func() { c, err = (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, addr) })
	return c, err
}

// udp opens a socket on the host's card.
func (h *host) udp(ctx context.Context, addr string) (c net.PacketConn, err error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			if failed = unix.BindToDevice(int(fd), "eth0"); failed == nil {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
			}
		})
		if err != nil {
			return err
		}
		return failed
	}}
	h.do(func() { c, err = config.ListenPacket(ctx, "udp4", addr) })
	return c, err
}

// command is a program on the host.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.name}, args...)...)
}
