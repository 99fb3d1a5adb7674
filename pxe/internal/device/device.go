// Package device watches a network device: sockets that are bound to one hear
// nothing any more when it is removed, also when another one gets its name.
package device

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
)

// lookInterval is between looks at the device when the kernel says nothing: a
// message may be lost.
const lookInterval = 2 * time.Second

// Watcher hears of changes of network devices.
type Watcher struct {
	changes chan netlink.LinkUpdate
	done    chan struct{}
}

// Watch starts to listen for changes. That it cannot is no error: then only
// the looks are left.
func Watch() *Watcher {
	w := &Watcher{changes: make(chan netlink.LinkUpdate, 16), done: make(chan struct{})}
	if err := netlink.LinkSubscribe(w.changes, w.done); err != nil {
		w.changes = nil
	}
	return w
}

// Close ends listening.
func (w *Watcher) Close() { close(w.done) }

// Pause waits for a change, a while, or the end of ctx.
func (w *Watcher) Pause(ctx context.Context) {
	timer := time.NewTimer(lookInterval)
	defer timer.Stop()
	select {
	case _, ok := <-w.changes:
		if !ok {
			w.changes = nil // it broke; nil never comes
		}
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Index is the number of the device that has the name now; 0 when none has.
// Numbers are not used again while the system runs.
func Index(name string) int {
	device, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return device.Index
}

// Await returns nil when ctx ends, and an error when the device is not the one
// with the number any more.
func (w *Watcher) Await(ctx context.Context, name string, index int) error {
	for ctx.Err() == nil {
		switch Index(name) {
		case index:
			w.Pause(ctx)
		case 0:
			return fmt.Errorf("network device %s is gone", name)
		default:
			return fmt.Errorf("network device %s is another one now", name)
		}
	}
	return nil
}
