package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// deviceEvents is the kernel's stream of device events (uevents), which udev
// reads on a full system.
type deviceEvents struct{ *os.File }

func listenToDevices() (deviceEvents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return deviceEvents{}, fmt.Errorf("open socket for device events: %w", err)
	}
	// Group 1 is the kernel's own, group 2 udev's.
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return deviceEvents{}, fmt.Errorf("listen to device events: %w", err)
	}
	return deviceEvents{os.NewFile(uintptr(fd), "device events")}, nil
}

// next waits for an event until the deadline; ok is false when none came. The
// alias is the module that the new device asks for, often none.
func (e deviceEvents) next(deadline time.Time) (alias string, ok bool, err error) {
	if err := e.SetReadDeadline(deadline); err != nil {
		return "", false, fmt.Errorf("wait for device events: %w", err)
	}
	var message [8192]byte // UEVENT_BUFFER_SIZE is 2048
	n, err := e.Read(message[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", false, nil
	case errors.Is(err, unix.ENOBUFS):
		return "", true, nil // events were lost: there were events
	case err != nil:
		return "", false, fmt.Errorf("read device events: %w", err)
	}
	return eventAlias(message[:n]), true, nil
}

// eventAlias finds MODALIAS in an "add@PATH\0KEY=VALUE\0..." message.
func eventAlias(message []byte) string {
	if !bytes.HasPrefix(message, []byte("add@")) {
		return ""
	}
	for _, pair := range bytes.Split(message, []byte{0}) {
		if alias, ok := bytes.CutPrefix(pair, []byte("MODALIAS=")); ok {
			return string(alias)
		}
	}
	return ""
}

// How long devices may take. A quiet kernel with a disk is ready; disks behind
// slow controllers (spin-up, USB, multi-path scans) get the longer wait.
const (
	pauseTime   = 300 * time.Millisecond // drivers are loaded for several devices at once
	quietTime   = time.Second            // a USB hub looks at what is behind it for a third of that
	slowTime    = 15 * time.Second
	settleLimit = 60 * time.Second
)

type deviceWait struct {
	start, lastEvent time.Time
	disks            int
	coming           bool // the kernel is about to find another disk
}

// wait says how much longer to listen; nothing or less is: ready.
func (s deviceWait) wait(now time.Time) time.Duration {
	rest := s.lastEvent.Add(quietTime).Sub(now)
	if s.disks == 0 || s.coming {
		rest = max(rest, s.start.Add(slowTime).Sub(now))
	}
	return min(rest, s.start.Add(settleLimit).Sub(now))
}

// waitForDisks listens until the devices have settled and loads the drivers
// that late devices ask for.
func waitForDisks(ctx context.Context, events deviceEvents, drivers *drivers, log *slog.Logger) error {
	now := time.Now()
	s := deviceWait{start: now, lastEvent: now}
	for ctx.Err() == nil {
		disks, err := disks()
		if err != nil {
			return err
		}
		s.disks, s.coming = len(disks), diskComing(os.DirFS("/sys"))
		wait := s.wait(time.Now())
		if wait <= 0 {
			log.Info("devices are ready", "disks", strings.Join(disks, " "))
			return nil
		}
		alias, ok, err := events.next(time.Now().Add(min(wait, pauseTime)))
		if err != nil {
			return err
		}
		if ok {
			drivers.want(alias)
		} else if !drivers.load(ctx) {
			continue
		}
		s.lastEvent = time.Now() // a driver's own events come behind it
	}
	return fmt.Errorf("wait for block devices: %w", ctx.Err())
}

// diskComing says whether a USB disk is known and has no block device yet.
// usb-storage asks what is there one second after it was loaded (its parameter
// delay_use), without an event between, and sd may have to spin the disk up.
// Other controllers' drivers are loaded when their disks have been found.
func diskComing(sys fs.FS) bool {
	for _, driver := range []string{"usb-storage", "uas"} {
		hosts, _ := fs.Glob(sys, "bus/usb/drivers/"+driver+"/*/host*")
		for _, host := range hosts {
			units, _ := fs.Glob(sys, host+"/target*/*:*:*:*")
			if len(units) == 0 || slices.ContainsFunc(units, func(unit string) bool { return isUnready(sys, unit) }) {
				return true
			}
		}
	}
	return false
}

// isUnready tells a logical unit that becomes a disk (SPC-4, 6.6.2: peripheral
// device type 0 or 0Eh) from one that is.
func isUnready(sys fs.FS, unit string) bool {
	kind, err := fs.ReadFile(sys, unit+"/type")
	block, _ := fs.Glob(sys, unit+"/block/*")
	return err == nil && slices.Contains([]string{"0", "14"}, strings.TrimSpace(string(kind))) && len(block) == 0
}

// disks are the names of the disks that have a medium.
func disks() ([]string, error) {
	names, err := blockNames(os.DirFS("/sys"))
	return slices.DeleteFunc(names, func(name string) bool { return !isDisk(name) }), err
}

func isDisk(name string) bool {
	return !hasPrefix(name, "dm-", "md", "sr", "nbd") && !hasPrefix(name, notBlock...)
}
