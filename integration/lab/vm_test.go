package lab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"edeploy/integration/lab"
	"edeploy/integration/lab/labtest"
)

// echoSector is a boot sector that greets on the serial port and echoes what
// is typed there.
var echoSector = append([]byte{
	0xfa,       // cli: SeaBIOS reads the serial port at every tick of the clock
	0x31, 0xc0, // xor %ax,%ax
	0x8e, 0xd8, // mov %ax,%ds
	0xbe, 0x34, 0x7c, // mov $0x7c34,%si: the greeting
	0xac,       // 7c08: lodsb
	0x84, 0xc0, // test %al,%al
	0x74, 0x05, // je 7c12
	0xe8, 0x13, 0x00, // call 7c23
	0xeb, 0xf6, // jmp 7c08
	0xba, 0xfd, 0x03, // 7c12: mov $0x3fd,%dx: line status
	0xec,       // 7c15: in (%dx),%al
	0xa8, 0x01, // test $1,%al: something typed
	0x74, 0xfb, // je 7c15
	0xba, 0xf8, 0x03, // mov $0x3f8,%dx
	0xec,             // in (%dx),%al
	0xe8, 0x02, 0x00, // call 7c23
	0xeb, 0xef, // jmp 7c12
	0x88, 0xc4, // 7c23: mov %al,%ah
	0xba, 0xfd, 0x03, // mov $0x3fd,%dx
	0xec,       // 7c28: in (%dx),%al
	0xa8, 0x20, // test $0x20,%al: room to send
	0x74, 0xfb, // je 7c28
	0x88, 0xe0, // mov %ah,%al
	0xba, 0xf8, 0x03, // mov $0x3f8,%dx
	0xee, // out %al,(%dx)
	0xc3, // ret
}, "sector runs\r\n\x00"...)

func sectorDisk(t *testing.T, sector []byte) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "sector.raw")
	if err := os.WriteFile(disk, lab.BootSector(sector), 0o644); err != nil {
		t.Fatal(err)
	}
	return disk
}

func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := lab.Deadline(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestProbeRunsInEmulation(t *testing.T) {
	labtest.NeedVM(t)
	if err := lab.RunProbe(deadline(t, 20*time.Second), lab.TCG); err != nil {
		t.Error(err)
	}
	a, err := lab.Accel()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("accelerator %s", a)
}

func TestConsoleOfAMachine(t *testing.T) {
	labtest.NeedVM(t)
	disk := sectorDisk(t, echoSector)
	for _, bus := range []lab.Bus{lab.Virtio, lab.IDE, lab.SCSI, lab.NVMe} {
		t.Run(string(bus), func(t *testing.T) {
			l := labtest.New(t)
			vm := labtest.Start(t, l, lab.Machine{
				Name: "m1", MemoryMB: 64, Boot: lab.DiskFirst,
				Disks: []lab.Disk{{Path: disk, Bus: bus}},
			})
			labtest.Expect(t, vm, 10*time.Second, `sector (\w+)`)
			if err := vm.Send("hello machine\r\n"); err != nil {
				t.Fatal(err)
			}
			labtest.Expect(t, vm, 10*time.Second, `hello machine\n`)

			if err := vm.Reset(deadline(t, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
			labtest.Expect(t, vm, 10*time.Second, `SeaBIOS`)
			labtest.Expect(t, vm, 10*time.Second, `sector runs`)
			if err := vm.PowerDown(deadline(t, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
			checkKill(t, l, vm)
		})
	}
}

func checkKill(t *testing.T, l *lab.Lab, vm *lab.VM) {
	t.Helper()
	select {
	case <-vm.Exited():
		t.Fatal("the machine stopped by itself")
	default:
	}
	if err := vm.Kill(); err != nil {
		t.Error(err)
	}
	if err := vm.Wait(deadline(t, time.Second)); err != nil {
		t.Error(err)
	}
	_, err := vm.Expect(t.Context(), "never said")
	if err == nil || !strings.Contains(err.Error(), "sector runs") {
		t.Errorf("expect on a killed machine: %v, want its last lines", err)
	}
	if vm.Reset(t.Context()) == nil || vm.Send("x") == nil {
		t.Error("a killed machine takes commands")
	}
	var report bytes.Buffer
	l.Report(&report)
	for _, want := range []string{"m1 was killed after", "sector runs", vm.ConsolePath()} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("the report does not hold %q:\n%s", want, &report)
		}
	}
	log, err := os.ReadFile(vm.ConsolePath())
	if err != nil || !bytes.Contains(log, []byte("hello machine\r\n")) {
		t.Errorf("console log: %v, %q", err, log)
	}
}

func TestMachineIsStartedAgain(t *testing.T) {
	labtest.NeedVM(t)
	l := labtest.New(t)
	m := lab.Machine{Name: "m1", MemoryMB: 64, Disks: []lab.Disk{{Path: sectorDisk(t, echoSector)}}}
	first := labtest.Start(t, l, m)
	labtest.Expect(t, first, 10*time.Second, "sector runs")
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	second := labtest.Start(t, l, m)
	labtest.Expect(t, second, 10*time.Second, "sector runs")
	if first.ConsolePath() == second.ConsolePath() {
		t.Error("the second life overwrites the log of the first")
	}
}

func TestContextEndsAMachine(t *testing.T) {
	labtest.NeedVM(t)
	l := labtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	vm, err := l.Start(ctx, lab.Machine{Name: "m1", MemoryMB: 64})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := vm.Wait(deadline(t, 5*time.Second)); err != nil {
		t.Error(err)
	}
}

func TestQEMUThatEndsAtOnce(t *testing.T) {
	labtest.NeedVM(t)
	l := labtest.New(t)
	_, err := l.Start(t.Context(), lab.Machine{Name: "m1", Disks: []lab.Disk{{Path: "/nonexistent"}}})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent") || !strings.Contains(err.Error(), "start machine m1") {
		t.Errorf("got %v, want QEMU's own words", err)
	}
}

// TestFirmwareAsksForALease powers machines on whose firmware boots from the
// network: their DHCPDISCOVER comes to a port of the hub.
func TestFirmwareAsksForALease(t *testing.T) {
	labtest.NeedVM(t)
	tests := []struct {
		name     string
		machine  lab.Machine
		arch     string // option 93
		userIPXE bool   // option 77
	}{
		{"SeaBIOS with iPXE, virtio", lab.Machine{Name: "m1"}, "Intel x86PC", true},
		{"SeaBIOS with iPXE, e1000", lab.Machine{Name: "m1", NICs: []lab.NIC{{Model: "e1000"}}}, "Intel x86PC", true},
		{"OVMF with its own PXE", lab.Machine{Name: "m1", Firmware: lab.UEFI, NICs: []lab.NIC{{NoROM: true}}}, "EFI x86-64", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := labtest.New(t)
			hub, err := l.Hub("rack")
			if err != nil {
				t.Fatal(err)
			}
			m := test.machine
			if m.NICs == nil {
				m.NICs = []lab.NIC{{}}
			}
			m.NICs[0].Hub = hub
			witness := hub.Port("witness")
			vm := labtest.Start(t, l, m)
			request := awaitDHCP(t, witness)
			if got := request.ClientHWAddr.String(); got != vm.MAC(0) {
				t.Errorf("the request comes from %s, want %s", got, vm.MAC(0))
			}
			if got := request.ClientArch(); len(got) != 1 || got[0].String() != test.arch {
				t.Errorf("architecture %v, want %s", got, test.arch)
			}
			if got := string(request.Options.Get(dhcpv4.OptionUserClassInformation)) == "iPXE"; got != test.userIPXE {
				t.Errorf("user class iPXE: %v, want %v", got, test.userIPXE)
			}
			if vm.Port(0).Counters().SentFrames == 0 {
				t.Error("the machine's port counted nothing")
			}
		})
	}
}

// awaitDHCP waits for a DHCPDISCOVER among all frames.
func awaitDHCP(t *testing.T, p *lab.Port) *dhcpv4.DHCPv4 {
	t.Helper()
	ctx := deadline(t, 30*time.Second)
	for {
		f, err := p.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		const headers = 14 + 20 + 8 // Ethernet, IPv4, UDP
		if len(f) < headers || f[12] != 0x08 || f[13] != 0 || f[23] != 17 {
			continue
		}
		request, err := dhcpv4.FromBytes(f[headers:])
		if err == nil && request.MessageType() == dhcpv4.MessageTypeDiscover {
			return request
		}
	}
}

// kernel is the appliance's kernel; its module is fetched when no build has
// needed it yet.
func kernel(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", "github.com/gokrazy/kernel.amd64").Output()
	if err != nil {
		t.Fatalf("find the kernel's module: %v\n%s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(module.Dir, "vmlinuz")
}

// TestLinux boots a kernel as far as it comes without a root file system.
func TestLinux(t *testing.T) {
	labtest.NeedVM(t)
	l := labtest.New(t)
	boot := l.Timeline.Begin("m1", "kernel")
	vm := labtest.Start(t, l, lab.Machine{
		Name: "m1", MemoryMB: 512, CPUs: 2,
		Extra:  []string{"-no-reboot"},
		Kernel: lab.Kernel{Image: kernel(t), Args: "console=ttyS0 panic=-1"},
		Disks:  []lab.Disk{{Path: sectorDisk(t, echoSector), Serial: "WD123"}},
		SMBIOS: lab.SMBIOS{Product: "R640"},
	})
	match := labtest.Expect(t, vm, 30*time.Second, `Linux version (\d+)\.`)
	t.Logf("kernel %s", match[1])
	labtest.Expect(t, vm, 30*time.Second, `DMI: .*R640`)
	labtest.Expect(t, vm, 60*time.Second, `\[vda\] 2048 512-byte`)
	labtest.Expect(t, vm, 60*time.Second, `Kernel panic`)
	boot()
	if err := vm.Wait(deadline(t, 20*time.Second)); err != nil {
		t.Error(err)
	}
	var report bytes.Buffer
	l.Report(&report)
	if want := "m1 switched itself off after"; !strings.Contains(report.String(), want) {
		t.Errorf("the report does not hold %q:\n%s", want, &report)
	}
	t.Logf("\n%s", &report)
}

// TestNetboot lets iPXE fetch and run a script from a laptop on the hub: wire,
// switch, laptop and console together.
func TestNetboot(t *testing.T) {
	labtest.NeedVM(t)
	l := labtest.New(t)
	hub, err := l.Hub("rack")
	if err != nil {
		t.Fatal(err)
	}
	server := newLaptop(t, hub, "10.0.3.1/24")
	listener, err := server.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "#!ipxe\necho fetched by ${net0/mac} of ${smbios/manufacturer}\nshell\n")
	})}
	go web.Serve(listener)
	t.Cleanup(func() { web.Close() })
	vm := labtest.Start(t, l, lab.Machine{
		Name: "m1", MemoryMB: 128, NICs: []lab.NIC{{Hub: hub}},
		SMBIOS: lab.SMBIOS{Manufacturer: "Dell"},
	})
	labtest.Expect(t, vm, 20*time.Second, `Ctrl-B`)
	// iPXE looks for the key for two seconds, which a busy host may sleep through.
	for ctx, found := deadline(t, time.Minute), false; !found; {
		if err := vm.Send("\x02"); err != nil {
			t.Fatal(err)
		}
		second, cancel := context.WithTimeout(ctx, time.Second)
		_, err := vm.Expect(second, `iPXE>`)
		cancel()
		if found = err == nil; !found && ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	commands := "set net0/ip 10.0.3.7 && set net0/netmask 255.255.255.0 && ifopen net0 && chain http://10.0.3.1/boot.ipxe\r"
	if err := vm.Type(deadline(t, 30*time.Second), commands); err != nil {
		t.Fatal(err)
	}
	labtest.Expect(t, vm, 30*time.Second, `fetched by `+vm.MAC(0)+` of Dell`)
}
