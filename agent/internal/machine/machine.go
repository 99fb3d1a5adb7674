// Package machine does what an init program and a device manager do on a full
// system: mounts, drivers, device links, a console, the restart at the end. It
// is written for an initrd without udev and systemd: /dev comes from devtmpfs,
// drivers are loaded by modalias when the initrd carries modules, and
// LinkDisks makes /dev/disk.
//
// It reads /proc and /sys, listens to the kernel's device events, runs
// modprobe, blkid and a shell, and writes below /dev, /etc/mtab and /run.
package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SearchPath finds the Debian tools first and u-root's commands after them.
const SearchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/bbin"

// hostname is the machine's name until the installed system gives it one.
const hostname = "edeploy"

// Prepare makes a freshly booted initrd usable (reference section 2.1, steps
// 2, 5 and 6): file systems, modules, block devices, names, loopback. A second
// call finds everything done. A driver that does not load or a machine without
// disks is logged, not an error.
func Prepare(ctx context.Context, log *slog.Logger) error {
	log = orSilent(log)
	if err := prepareFiles(); err != nil {
		return err
	}
	if err := prepareDevices(ctx, log); err != nil {
		return err
	}
	if err := name(); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	return LinkDisks(ctx, log)
}

func prepareDevices(ctx context.Context, log *slog.Logger) error {
	events, err := listenToDevices()
	if err != nil {
		return err
	}
	defer events.Close()
	drivers, err := newDrivers(log)
	if err != nil {
		return err
	}
	if err := drivers.loadAll(ctx); err != nil {
		return err
	}
	return waitForDisks(ctx, events, drivers, log)
}

func prepareFiles() error {
	if os.Getenv("PATH") == "" {
		// The kernel gives its first program no PATH.
		os.Setenv("PATH", SearchPath)
	}
	for _, m := range mounts {
		if err := m.ensure(); err != nil {
			return err
		}
	}
	for _, l := range links {
		if err := l.ensure(); err != nil {
			return err
		}
	}
	return nil
}

// Cmdline is the kernel command line, without the newline. In a fresh initrd it
// mounts /proc first, which Prepare then finds done.
func Cmdline() (string, error) {
	if err := mounts[0].mount(); err != nil {
		return "", err
	}
	text, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", fmt.Errorf("read kernel command line: %w", err)
	}
	return strings.TrimRight(string(text), "\n"), nil
}

func name() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("read host name: %w", err)
	}
	if now := unix.ByteSliceToString(uts.Nodename[:]); now != "" && now != "(none)" {
		return nil
	}
	if err := unix.Sethostname([]byte(hostname)); err != nil {
		return fmt.Errorf("set host name %s: %w", hostname, err)
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback device lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback device lo up: %w", err)
	}
	return nil
}

type link struct{ path, target string }

var links = []link{
	{"/etc/mtab", "/proc/self/mounts"},
	{"/dev/fd", "/proc/self/fd"}, // bash's <(...) and scripts that write to /dev/stdout
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
	{"/var/lock", "/run/lock"},
	{"/var/run", "/run"},
}

func (l link) ensure() error {
	err := os.Symlink(l.target, l.path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return fmt.Errorf("link %s to %s: %w", l.path, l.target, err)
}

func orSilent(log *slog.Logger) *slog.Logger {
	return cmp.Or(log, slog.New(slog.DiscardHandler))
}
