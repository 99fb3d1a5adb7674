package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	quietTime   = 300 * time.Millisecond
	noDiskTime  = 15 * time.Second
	settleLimit = 60 * time.Second
)

type deviceWait struct {
	start, lastEvent time.Time
	disks            int
}

// wait says how much longer to listen; nothing or less is: ready.
func (s deviceWait) wait(now time.Time) time.Duration {
	rest := s.lastEvent.Add(quietTime).Sub(now)
	if s.disks == 0 {
		rest = max(rest, s.start.Add(noDiskTime).Sub(now))
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
		s.disks = len(disks)
		wait := s.wait(time.Now())
		if wait <= 0 {
			log.Info("devices are ready", "disks", strings.Join(disks, " "))
			return nil
		}
		alias, ok, err := events.next(time.Now().Add(min(wait, quietTime)))
		if err != nil {
			return err
		}
		if ok {
			s.lastEvent = time.Now()
			drivers.want(alias)
			continue
		}
		drivers.load(ctx) // wanted only by late devices; its events come next
	}
	return fmt.Errorf("wait for block devices: %w", ctx.Err())
}

// disks are the names of the disks that have a medium.
func disks() ([]string, error) {
	names, err := blockNames(os.DirFS("/sys"))
	return slices.DeleteFunc(names, func(name string) bool { return !isDisk(name) }), err
}

func isDisk(name string) bool {
	return !hasPrefix(name, "dm-", "md", "sr", "nbd") && !hasPrefix(name, notBlock...)
}
