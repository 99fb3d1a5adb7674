package install_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edeploy/agent/internal/bootloader"
	"edeploy/agent/internal/command"
	"edeploy/agent/internal/install"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"
)

// blank is a machine without anything on it.
type blank struct {
	root    string
	console strings.Builder
	events  []string // what happened to the machine, in order
	fail    string   // a command that holds this text fails
	before  func(c command.Command)

	firmware bootloader.Firmware
	env      install.Env
}

func newBlank(t *testing.T, a *appliance, cmdline string) *blank {
	t.Helper()
	m := &blank{root: t.TempDir(), firmware: bootloader.BIOS}
	httpHost, httpPort, _ := net.SplitHostPort(strings.TrimPrefix(a.http.URL, "http://"))
	_, rsyncPort, _ := net.SplitHostPort(a.rsync)
	mountinfo := filepath.Join(t.TempDir(), "mountinfo")
	a.must(os.WriteFile(mountinfo, fmt.Appendf(nil, "30 1 254:1 / %s/chroot rw,relatime - ext4 /dev/vda1 rw\n", m.root), 0o600))
	note := func(event string) { m.events = append(m.events, event) }
	m.env = install.Env{
		Cmdline: fmt.Sprintf("SERV=%s HTTP_PORT=%s RSERV_PORT=%s | console=ttyS0 | %s", httpHost, httpPort, rsyncPort, cmdline),
		Root:    m.root, Console: io.MultiWriter(&m.console, t.Output()), MountInfo: mountinfo, Sys: filepath.Join(m.root, "sys"),
		Devices: func(context.Context, *slog.Logger) error { note("devices"); return nil },
		Network: func(_ context.Context, _ wire.BootArgs, log *slog.Logger) error {
			log.Info("eth0 is up", "address", "10.0.3.20")
			note("network")
			return nil
		},
		Detect: func(context.Context, wire.BootArgs, *slog.Logger) (wire.Hardware, error) {
			return wire.Hardware{
				{Category: "disk", ID: "vda", Field: "size", Value: "8"},
				{Category: "system", ID: "product", Field: "vendor", Value: "Acme Ltd."},
				{Category: "system", ID: "product", Field: "name", Value: "Rack (R7)"},
				{Category: "system", ID: "product", Field: "serial", Value: "SN/1"},
				{Category: "network", ID: "eth0", Field: "serial", Value: "02:00:00:00:00:01"},
			}, nil
		},
		LinkDisks:  func(context.Context, *slog.Logger) error { note("links"); return nil },
		Reboot:     func() error { note("reboot"); return nil },
		PowerOff:   func() error { note("power off"); return nil },
		Shell:      func(context.Context) error { note("shell"); return nil },
		LoadKernel: func(k bootloader.Kernel) error { note("load " + k.String()); return nil },
		Kexec:      func() error { note("kexec"); return nil },
		Run:        func(log io.Writer) command.Runner { return m.runner(log, note) },
		Bind:       func(string) (func() error, error) { return func() error { return nil }, nil },
		Unmount:    func(string, string) error { note("unmount"); return nil },
		Firmware:   func() bootloader.Firmware { return m.firmware },
		DiskHead: func(name string) ([]byte, error) {
			head := make([]byte, wire.DiskHead)
			if name == "/dev/vda" {
				copy(head[440:], []byte{0x78, 0x56, 0x34, 0x12})
				head[510], head[511] = 0x55, 0xaa
			}
			return head, nil
		},
		Dmesg:      func() ([]byte, error) { return []byte("Linux version 6.1\n"), nil },
		FirstPause: time.Millisecond, LongestPause: 10 * time.Millisecond,
		Patience: 10 * time.Second, MessageTime: 3 * time.Second, FailureTime: time.Millisecond,
	}
	return m
}

// controller puts the root file system on a disk behind a controller that the
// tree's kernel has no driver for.
func (m *blank) controller(a *appliance) {
	const device = "sys/devices/pci0000:00/0000:00:03.0"
	a.must(os.WriteFile(m.env.MountInfo, fmt.Appendf(nil, "30 1 8:1 / %s/chroot rw,relatime - ext4 /dev/testdisk1 rw\n", m.root), 0o600))
	a.must(os.MkdirAll(filepath.Join(m.root, device, "block/testdisk1"), 0o755))
	a.must(os.WriteFile(filepath.Join(m.root, device, "modalias"), []byte("pci:v00001000d00000079sv00001000sd00009261bc01sc04i00\n"), 0o644))
	a.must(os.Symlink("../../drivers/megaraid_sas", filepath.Join(m.root, device, "driver")))
	a.must(os.MkdirAll(filepath.Join(m.root, "sys/class/block"), 0o755))
	a.must(os.Symlink("../../devices/pci0000:00/0000:00:03.0/block/testdisk1", filepath.Join(m.root, "sys/class/block/testdisk1")))
	m.before = func(c command.Command) {
		if modules := filepath.Join(m.root, "chroot/lib/modules/6.1"); strings.Contains(c.Argv[0], "grub-install") {
			a.must(errors.Join(os.MkdirAll(modules, 0o755), os.WriteFile(filepath.Join(modules, "modules.builtin"), nil, 0o644),
				os.WriteFile(filepath.Join(modules, "modules.alias"), []byte("alias pci:v*d*sv*sd*bc01sc08i02* nvme\n"), 0o644)))
		}
	}
}

// runner runs rsync for real and plays the disks.
func (m *blank) runner(log io.Writer, note func(string)) command.Runner {
	return func(ctx context.Context, c command.Command) ([]byte, error) {
		if m.before != nil {
			m.before(c)
		}
		if m.fail != "" && strings.Contains(c.String(), m.fail) {
			return nil, &command.Failure{Command: c.String(), Cause: errors.New("exit status 1"), Output: []byte("Error: it is broken\n")}
		}
		switch {
		case c.Argv[0] == "rsync":
			return command.On(log)(ctx, c)
		case c.Argv[0] == "blkid":
			return []byte("DEVNAME=/dev/vda1\nUUID=1234-5678\nTYPE=ext4\n\nDEVNAME=/dev/testdisk1\nUUID=1234-5678\nTYPE=ext4\n"), nil
		case strings.Contains(c.Argv[0], "grub-mkconfig"):
			note("grub-mkconfig")
			return nil, os.WriteFile(filepath.Join(c.Chroot, "boot/grub/grub.cfg"), []byte("linux /boot/vmlinuz-6.1 root=UUID=1234-5678 ro\n"), 0o600)
		case strings.Contains(c.Argv[0], "grub-install"):
			note(strings.Join(c.Argv, " "))
			return nil, os.MkdirAll(filepath.Join(c.Chroot, "boot/grub/i386-pc"), 0o755)
		}
		note(c.String())
		return nil, nil
	}
}

func (m *blank) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, name))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// install runs the installation of the machine in the time of a test.
func (m *blank) install(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	return install.Run(ctx, m.env)
}

// checkDisk proves that only listed paths differ from the manifest.
func checkDisk(t *testing.T, m *blank) {
	t.Helper()
	f, err := os.Open(filepath.Join(m.root, "chroot", wire.ManifestPath))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := manifest.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	local := strings.Fields(m.read(t, "chroot"+wire.LocalPath))
	diffs, err := fstree.Verify(t.Context(), want, filepath.Join(m.root, "chroot"), fstree.Options{Extras: true, Exclude: func(p string) bool {
		for _, l := range local {
			if "/"+p == strings.TrimSuffix(l, "/") || strings.HasSuffix(l, "/") && strings.HasPrefix("/"+p, l) {
				return true
			}
		}
		return false
	}})
	if err != nil || len(diffs) > 0 {
		t.Errorf("the disk differs from the manifest outside of the list %v: %v, %v", local, diffs, err)
	}
}
