package boot

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/pxe"
	"edeploy/server/wire"
)

// installing is the policy for machines that are to be installed.
type installing struct{}

func (installing) BootAction(string, string) wire.BootAction { return wire.BootInstall }

// TestProxy: a BIOS machine on a network with a dnsmasq of its own, which names
// a boot file, too, gets its address there and comes into the agent by
// ProxyDHCP.
func TestProxy(t *testing.T) {
	labtest.NeedVM(t)
	if !needs.Namespace(t, "dnsmasq") {
		return
	}
	other := needs.NewNeighbour(t)
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "br0", "type", "bridge"},
		{"address", "add", "192.168.122.1/24", "dev", "br0"},
		{"link", "set", "br0", "up"},
		{"link", "add", "port0", "master", "br0", "type", "veth", "peer", "name", "oth0", "netns", other.PID},
		{"link", "set", "port0", "up"},
		{"tuntap", "add", "tap0", "mode", "tap"},
		{"link", "set", "tap0", "master", "br0", "up"},
	} {
		needs.IP(t, args...)
	}
	other.Run(t, "ip", "address", "add", "192.168.122.2/24", "dev", "oth0")
	other.Run(t, "ip", "link", "set", "oth0", "up")
	dnsmasq := other.Command(t.Context(), "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-hosts", "--no-resolv", "--user=root",
		"--interface=oth0", "--bind-interfaces", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"),
		"--dhcp-range=192.168.122.50,192.168.122.60,255.255.255.0,1h", "--dhcp-boot=theirs.0")
	dnsmasq.Stdout, dnsmasq.Stderr = t.Output(), t.Output()
	startProgram(t, dnsmasq)
	uploads := beside(t)

	l := labtest.New(t)
	vm := labtest.Start(t, l, lab.Machine{Name: "m1", Extra: []string{
		"-netdev", "tap,id=boot,ifname=tap0,script=no,downscript=no",
		"-device", "virtio-net-pci,netdev=boot,bootindex=0,mac=52:54:12:34:00:01",
	}})
	labtest.Expect(t, vm, 40*time.Second, "eDeploy: 52:54:12:34:00:01 starts the agent")
	select {
	case from := <-uploads:
		if a := netip.MustParseAddr(from); !netip.MustParsePrefix("192.168.122.48/28").Contains(a) {
			t.Errorf("the agent comes from %s, want an address of dnsmasq's", a)
		}
	case <-time.After(lab.Patience(time.Minute)):
		t.Error("the agent does not ask the server")
	}
}

// beside runs the boot services beside another DHCP server; the channel has the
// address of an agent that asks for anything but what it boots.
func beside(t *testing.T) <-chan string {
	t.Helper()
	args := wire.DefaultBootArgs()
	args.Serv = "" // these services' address
	services, err := pxe.New(pxe.Config{
		Mode: pxe.ModeProxy, Unknown: pxe.UnknownInstall,
		Interface: "br0", Address: netip.MustParsePrefix("192.168.122.1/24"), BootDir: "../../out/boot",
		KernelArgs: "console=ttyS0,115200 panic=30", Args: args, Policy: installing{},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "192.168.122.1:80")
	if err != nil {
		t.Fatal(err)
	}
	uploads := make(chan string, 1)
	mux := http.NewServeMux()
	mux.Handle("/boot/", services.Handler())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		select {
		case uploads <- host:
		default:
		}
		http.Error(w, "there is no server here", http.StatusServiceUnavailable)
	})
	web := &http.Server{Handler: mux}
	go web.Serve(listener)
	var running sync.WaitGroup
	running.Go(func() {
		if err := services.Run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		web.Close()
		running.Wait()
	})
	return uploads
}

// startProgram starts a program that is ended with the test.
func startProgram(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}
