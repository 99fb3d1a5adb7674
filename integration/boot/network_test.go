package boot

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
	"edeploy/integration/needs"
	"edeploy/pxe"
	"edeploy/server/api"
	"edeploy/server/wire"
)

// mac is the machine's.
const mac = "52:54:12:34:00:01"

// machine has one card, on tap0.
func machine(firmware lab.Firmware) lab.Machine {
	device := "virtio-net-pci,netdev=boot,bootindex=0,mac=" + mac
	if firmware != lab.BIOS {
		device += ",romfile=" // not QEMU's iPXE but the firmware's own PXE
	}
	return lab.Machine{Name: "m1", Firmware: firmware, MemoryMB: 1536,
		Extra: []string{"-netdev", "tap,id=boot,ifname=tap0,script=no,downscript=no", "-device", device}}
}

// withoutPXE makes OVMF boot by HTTP only.
func withoutPXE(m lab.Machine) lab.Machine {
	m.Extra = append(m.Extra,
		"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no")
	return m
}

// topology is where the machine and the boot services are; programs are what it
// needs.
type topology struct {
	name     string
	programs []string
	lay      func(t *testing.T) pxe.Config
}

var (
	// own: the boot services are the network's DHCP server.
	own = topology{"own DHCP", nil, func(t *testing.T) pxe.Config {
		bridge(t)
		needs.IP(t, "address", "add", "192.168.122.1/24", "dev", "br0")
		return pxe.Config{Mode: pxe.ModeDHCP, Look: -1, Interface: "br0", Address: netip.MustParsePrefix("192.168.122.1/24"),
			RangeFirst: netip.MustParseAddr("192.168.122.48"), RangeLast: netip.MustParseAddr("192.168.122.63")}
	}}
	// beside: a dnsmasq, which names a boot file, too.
	beside = topology{"dnsmasq + proxy", []string{"dnsmasq"}, func(t *testing.T) pxe.Config {
		other := bridge(t)
		needs.IP(t, "address", "add", "192.168.122.1/24", "dev", "br0")
		other.Run(t, "ip", "address", "add", "192.168.122.2/24", "dev", "oth0")
		startProgram(t, other.Command(t.Context(), "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-hosts", "--no-resolv", "--user=root",
			"--interface=oth0", "--bind-interfaces", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"),
			"--dhcp-range=192.168.122.50,192.168.122.60,255.255.255.0,1h", "--dhcp-boot=theirs.0"))
		return pxe.Config{Mode: pxe.ModeProxy, Unknown: pxe.UnknownInstall, Interface: "br0", Address: netip.MustParsePrefix("192.168.122.1/24")}
	}}
	// relayed: the boot services are in another network, behind ISC's relay.
	relayed = topology{"relay", []string{"dhcrelay", "sysctl"}, func(t *testing.T) pxe.Config {
		router := bridge(t)
		addLink(t, "srv0", "add", "srv0", "type", "veth", "peer", "name", "up0", "netns", router.PID)
		needs.IP(t, "address", "add", "10.9.0.1/24", "dev", "srv0")
		needs.IP(t, "link", "set", "srv0", "up")
		for _, args := range [][]string{
			{"ip", "link", "set", "lo", "up"},
			{"ip", "address", "add", "10.9.0.2/24", "dev", "up0"},
			{"ip", "link", "set", "up0", "up"},
			{"ip", "address", "add", "192.168.122.254/24", "dev", "oth0"},
			{"sysctl", "-qw", "net.ipv4.ip_forward=1"},
		} {
			router.Run(t, args...)
		}
		needs.IP(t, "route", "add", "192.168.122.0/24", "via", "10.9.0.2")
		startProgram(t, router.Command(t.Context(), "dhcrelay", "-4", "-d", "-a", "--no-pid", "-iu", "up0", "-id", "oth0", "10.9.0.1"))
		return pxe.Config{Mode: pxe.ModeDHCP, Look: -1, Interface: "srv0", Address: netip.MustParsePrefix("10.9.0.1/24"),
			RangeFirst: netip.MustParseAddr("10.9.0.50"), RangeLast: netip.MustParseAddr("10.9.0.60"),
			Subnets: []pxe.Subnet{{Prefix: netip.MustParsePrefix("192.168.122.0/24"), First: netip.MustParseAddr("192.168.122.48"),
				Last: netip.MustParseAddr("192.168.122.63"), Settings: pxe.Settings{Router: netip.MustParseAddr("192.168.122.254")}}}}
	}}
)

// machines are the addresses that a machine gets in every network.
var machines = netip.MustParsePrefix("192.168.122.48/28")

// bridge makes the machine's network, br0 with tap0, and a neighbour that is on
// it by oth0.
func bridge(t *testing.T) needs.Neighbour {
	t.Helper()
	other := needs.NewNeighbour(t)
	needs.IP(t, "link", "set", "lo", "up")
	addLink(t, "br0", "add", "br0", "type", "bridge")
	addLink(t, "port0", "add", "port0", "master", "br0", "type", "veth", "peer", "name", "oth0", "netns", other.PID)
	needs.IP(t, "tuntap", "add", "tap0", "mode", "tap")
	t.Cleanup(func() { needs.IP(t, "link", "del", "tap0") })
	needs.IP(t, "link", "set", "tap0", "master", "br0", "up")
	needs.IP(t, "link", "set", "port0", "up")
	needs.IP(t, "link", "set", "br0", "up")
	other.Run(t, "ip", "link", "set", "oth0", "up")
	return other
}

// addLink makes a device that is gone after the test.
func addLink(t *testing.T, name string, args ...string) {
	t.Helper()
	needs.IP(t, append([]string{"link"}, args...)...)
	t.Cleanup(func() { needs.IP(t, "link", "del", name) })
}

// installing is the policy for machines that are to be installed.
type installing struct{}

func (installing) BootAction(string, string) wire.BootAction { return wire.BootInstall }

// services are boot services, and the server that an agent asks.
type services struct {
	conf  pxe.Config
	agent chan string // the address of an agent that asks the server
	stop  func()      // as a power cut would

	mu    sync.Mutex
	steps []step
	more  chan struct{} // closed at the next step
}

// step is what the services noticed, and when.
type step struct {
	time time.Time
	what string
}

// serve runs the boot services; without a Policy every machine gets the agent,
// without a BootDir the one that make has built.
func serve(t *testing.T, conf pxe.Config) *services {
	t.Helper()
	s := &services{agent: make(chan string, 1), more: make(chan struct{})}
	conf.LeaseFile = filepath.Join(t.TempDir(), "leases")
	if conf.BootDir == "" {
		conf.BootDir = "../../out/boot"
	}
	if conf.Policy == nil {
		conf.Policy = installing{}
	}
	conf.Args, conf.KernelArgs = wire.DefaultBootArgs(), "console=ttyS0,115200 panic=30"
	conf.Args.Serv = "" // these services' address
	conf.OnEvent = func(e api.Event) { s.note(e.Message) }
	conf.Log = slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), noted{s}), nil))
	s.conf = conf
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *services) start(t *testing.T) {
	t.Helper()
	boot, err := pxe.New(s.conf)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", netip.AddrPortFrom(s.conf.Address.Addr(), 80).String())
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: s.web(boot.Handler())}
	go web.Serve(listener)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := boot.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	s.stop = func() {
		cancel()
		web.Close()
		running.Wait()
	}
	<-boot.Ready()
}

// noted notes the lines of the services' log.
type noted struct{ *services }

func (n noted) Write(line []byte) (int, error) {
	n.note(string(line))
	return len(line), nil
}

// web notes what is asked for by HTTP; what is not for booting comes from an
// agent. There is no http.ServeMux, which sends shim away: it asks for
// /boot/file//grubx64.efi and follows nobody.
func (s *services) web(boot http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/boot/") || strings.HasPrefix(r.URL.Path, "/grub/") {
			s.note("GET " + path.Clean(r.URL.Path))
			boot.ServeHTTP(w, r)
			return
		}
		s.upload(w, r)
	})
}

// upload is what an agent asks for first.
func (s *services) upload(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	select {
	case s.agent <- host:
	default:
	}
	if body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20)); err == nil {
		s.note("agent: " + string(body))
	}
	w.Header().Set("Content-Type", wire.ScriptType)
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, wire.Refusal("there is no server here"))
}

func (s *services) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, step{time.Now(), what})
	close(s.more)
	s.more = make(chan struct{})
}

// await waits until something is noticed that holds the text.
func (s *services) await(t *testing.T, text string, within time.Duration) {
	t.Helper()
	late := time.After(lab.Patience(within))
	for {
		s.mu.Lock()
		more := s.more
		s.mu.Unlock()
		if !s.at(text).IsZero() {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%q is not noticed", text)
		}
	}
}

// at is when something was first noticed that holds the text; the zero time:
// never.
func (s *services) at(text string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, step := range s.steps {
		if strings.Contains(step.what, text) {
			return step.time
		}
	}
	return time.Time{}
}

// reaches waits until the machine's agent asks the server.
func (s *services) reaches(t *testing.T, within time.Duration) {
	t.Helper()
	select {
	case from := <-s.agent:
		if a := netip.MustParseAddr(from); !machines.Contains(a) {
			t.Errorf("the agent comes from %s, want an address of %s", a, machines)
		}
	case <-time.After(lab.Patience(within)):
		t.Fatal("the agent does not ask the server")
	}
}

// startProgram starts a program that is ended with the test.
func startProgram(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// flipped is the boot directory with one bit of its kernel changed, and the call
// that puts the right kernel in place.
func flipped(t *testing.T) (dir string, repair func()) {
	t.Helper()
	const from = "../../out/boot"
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(from, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	kernel := filepath.Join(dir, "vmlinuz")
	if err := os.WriteFile(kernel, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		if err := os.WriteFile(kernel+".new", good, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(kernel+".new", kernel); err != nil {
			t.Fatal(err)
		}
	}
}

// start switches the machine on.
func start(t *testing.T, m lab.Machine) *lab.VM {
	t.Helper()
	return labtest.Start(t, labtest.New(t), m)
}
