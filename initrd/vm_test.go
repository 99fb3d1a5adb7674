package initrd_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"edeploy/initrd"
	"edeploy/initrd/internal/archive"
	"edeploy/integration/needs"
	"edeploy/server/wire"
)

// The bars for Debian's kernel: size of kernel and initrd in MB, and how long
// after the kernel's start the agent runs in emulation.
const (
	sizeBar  = 64.0
	agentBar = 25 * time.Second
)

// TestVM boots the initrd in an emulated machine with two disks and a network
// card. The probe in the agent's place takes the agent's first steps and then
// does to the disks what profiles do. EDEPLOY_TOOLS names the tree's archive; without it the one that make initrd
// has built is taken.
//
//	EDEPLOY_VM=1 go test -run VM -v ./initrd
func TestVM(t *testing.T) {
	if os.Getenv("EDEPLOY_VM") == "" {
		t.Skip("EDEPLOY_VM is not set: booting takes a minute")
	}
	for _, kernel := range []initrd.Kernel{initrd.Debian, initrd.Gokrazy} {
		t.Run(string(kernel), func(t *testing.T) {
			console := bootProbe(t, kernel)
			checkConsole(t, console)
			t.Logf("agent running %s after the kernel's start", agentRunning(t, console))
		})
	}
}

// TestFigureInitrd is the size of what machines get from an appliance with
// Debian's kernel, and how long after the kernel's start the agent runs.
func TestFigureInitrd(t *testing.T) {
	if os.Getenv("EDEPLOY_BENCH") != "1" {
		t.Skip("measures: EDEPLOY_BENCH=1 runs it (make bench)")
	}
	which, err := os.ReadFile("../out/kernel")
	if err != nil || strings.TrimSpace(string(which)) != string(initrd.Debian) {
		t.Fatalf("out/initrd.pxe is for the kernel %q (%v): make initrd builds it for Debian's", which, err)
	}
	size := 0.0
	for _, name := range []string{"../out/vmlinuz", "../out/initrd.pxe"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatalf("%v: make initrd builds it", err)
		}
		size += float64(info.Size()) / 1e6
	}
	figure("kernel-and-initrd-size", size, "MB", sizeBar)
	figure("agent-running-after-kernel-start", agentRunning(t, bootProbe(t, initrd.Debian)).Seconds(), "s", agentBar.Seconds())
}

func figure(name string, value float64, unit string, bar float64) {
	verdict := "ok"
	if value > bar {
		verdict = "short"
	}
	fmt.Printf("figure %s %.1f %s <=%.0f %s\n", name, value, unit, bar, verdict)
}

// bootProbe builds the initrd with the probe in the agent's place, boots it,
// and answers what the console said.
func bootProbe(t *testing.T, kernel initrd.Kernel) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	dir := t.TempDir()
	c := initrd.Config{Module: "..", Agent: "edeploy/agent/internal/machine/cmd/probe", Tools: tools(t), Kernel: kernel,
		Initrd: filepath.Join(dir, "initrd.pxe"), Vmlinuz: filepath.Join(dir, "vmlinuz")}
	if err := initrd.Build(ctx, c); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(c.Initrd)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("initrd %.1f MB", float64(info.Size())/1e6)
	addScript(t, c.Initrd)
	return boot(t, ctx, dir)
}

func checkConsole(t *testing.T, console string) {
	t.Helper()
	want := []string{
		`probe: devices `, `probe: network `, `probe: detect `,
		`["disk","logical","count","3"]`, `["disk","vda","size","2"]`, `["disk","vda","id","virtio-disk-one"]`, `["disk","vdb","size","1"]`,
		`["disk","sda","size","0"]`, `["disk","sda","wwn-id","wwn-0x5000c50012345678"]`, `["disk","sda","model","Test Disk"]`,
		`["network","eth0","serial","02:00:00:00:00:01"]`, `["network","eth0","ipv4","10.0.2.15"]`, `["network","eth0","ipv4-network","10.0.2.0"]`,
		`["network","eth0","link","yes"]`, `["network","eth0","driver","virtio_net"]`,
		`["system","product","name","Standard PC (i440FX + PIIX, 1996)"]`, `["system","product","uuid","00000000-0000-4000-8000-000000000001"]`,
		`["memory","total","size","1073741824"]`, `["cpu","logical","number","1"]`, `["system","cpu","number","1"]`,
		"ok: rsync", "ok: e2fsck", "probe: script <nil>",
		"link by-id/virtio-disk-one ../../vda", "link by-id/virtio-disk-one-part1 ../../vda1", "link by-label/edroot ../../vda1", "link by-label/EFI ../../vdb1", "link by-partlabel/esp ../../vdb1",
		"link by-id/ata-Test_Disk_SATA0001 ../../sda", "link by-id/scsi-35000c50012345678 ../../sda",
		"link by-id/dm-name-vg0-root ../../dm-0",
		"probe: end",
	}
	for _, line := range want {
		if !strings.Contains(console, line) {
			t.Errorf("console has no %q", line)
		}
	}
	for line := range strings.Lines(console) {
		if strings.Contains(line, "FAILED") {
			t.Error(strings.TrimSpace(line))
		}
	}
}

// agentRunning is when the probe said its first word, after the kernel's start.
func agentRunning(t *testing.T, console string) time.Duration {
	t.Helper()
	running := regexp.MustCompile(`probe: running (\S+)`).FindStringSubmatch(console)
	if running == nil {
		t.Fatal("the probe did not run")
	}
	d, err := time.ParseDuration(running[1])
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// tools is the archive of the Debian tree.
func tools(t *testing.T) string {
	t.Helper()
	if name := os.Getenv("EDEPLOY_TOOLS"); name != "" {
		return name
	}
	built, err := filepath.Glob("../out/tools/*/pxe-*.edeploy")
	needs.That(t, err == nil && len(built) > 0, "a tree with the tools: run make initrd, or set EDEPLOY_TOOLS")
	return built[len(built)-1]
}

// addScript appends a second archive; the kernel unpacks both.
func addScript(t *testing.T, name string) {
	t.Helper()
	script, err := os.ReadFile("testdata/probe.sh")
	if err != nil {
		t.Fatal(err)
	}
	extra := archive.New()
	extra.File("probe.sh", script, 0o644)
	plain, err := extra.Cpio()
	if err != nil {
		t.Fatal(err)
	}
	packed, err := archive.Compress(plain)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(packed); err != nil {
		t.Fatal(err)
	}
}

// boot runs a machine with one processor: kernels that patch their own code
// while a second one runs it crash now and then under QEMU's emulation. It runs
// until it switches itself off; the answer is its console.
func boot(t *testing.T, ctx context.Context, dir string) string {
	t.Helper()
	qemu := needs.Program(t, "qemu-system-x86_64")
	for disk, size := range map[string]int64{"vda": 2 << 30, "vdb": 1 << 30, "sda": 1 << 20} {
		if err := os.WriteFile(filepath.Join(dir, disk), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, disk), size); err != nil {
			t.Fatal(err)
		}
	}
	// The agent waits until its server answers; 10.0.2.2 is this host.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", wire.ScriptType)
	}))
	defer server.Close()
	// Programs start three times as quick in emulation if they are always at the same address.
	args := fmt.Sprintf("console=ttyS0 panic=-1 norandmaps IP=all:dhcp SERV=10.0.2.2 HTTP_PORT=%d", server.Listener.Addr().(*net.TCPAddr).Port)
	cmd := exec.CommandContext(ctx, qemu, "-accel", "tcg,thread=multi", "-cpu", "max,-cx16,-avx2", "-m", "1024",
		"-nographic", "-nodefaults", "-serial", "stdio", "-no-reboot", "-uuid", "00000000-0000-4000-8000-000000000001",
		"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd.pxe"), "-append", args,
		"-drive", "if=none,id=one,format=raw,file="+filepath.Join(dir, "vda"), "-device", "virtio-blk-pci,drive=one,serial=disk-one",
		"-drive", "if=none,id=two,format=raw,file="+filepath.Join(dir, "vdb"), "-device", "virtio-blk-pci,drive=two",
		"-drive", "if=none,id=three,format=raw,file="+filepath.Join(dir, "sda"), "-device", "ahci,id=ahci",
		"-device", "ide-hd,drive=three,bus=ahci.0,model=Test Disk,serial=SATA0001,wwn=0x5000c50012345678",
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,mac=02:00:00:00:00:01")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	console := follow(t, out, begin)
	if err := cmd.Wait(); err != nil {
		t.Errorf("qemu: %v", err)
	}
	return console
}

// follow collects the console and shows it as it comes, with the time.
func follow(t *testing.T, out io.Reader, begin time.Time) string {
	var console bytes.Buffer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintf(t.Output(), "%6.2f %s\n", time.Since(begin).Seconds(), lines.Text())
		console.WriteString(lines.Text() + "\n")
	}
	return console.String()
}
