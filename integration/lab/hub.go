package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// macAddress is an Ethernet address as a map key.
type macAddress [6]byte

// group says whether the address is multicast or broadcast.
func (m macAddress) group() bool { return m[0]&1 == 1 }

// maxAddresses bounds the table of learned addresses; when it is full it is
// emptied and learned again.
const maxAddresses = 4096

// Hub is an Ethernet switch. It learns which address is behind which port, so
// two machines that transfer a tree do not flood a third, and it captures every
// frame that a port puts on the wire.
//
// Every port has a bounded queue. A port that does not keep up loses frames, as
// on a real switch, and slows nobody else down.
type Hub struct {
	name    string
	log     *slog.Logger
	capture *capture
	streams sync.WaitGroup // programs that came to Listen

	mu       sync.RWMutex
	closed   bool
	ports    []*Port
	laptops  []*Laptop
	table    map[macAddress]*Port
	watchers map[*watcher]struct{}
}

type watcher struct {
	match func([]byte) bool
	found chan []byte
}

// NewHub makes a hub that captures to file, which it closes in the end.
// Lab.Hub is the usual way. A nil log is silent.
func NewHub(name string, file io.WriteCloser, log *slog.Logger) (*Hub, error) {
	c, err := newCapture(file)
	if err != nil {
		return nil, fmt.Errorf("write capture of hub %s: %w", name, err)
	}
	log = cmp.Or(log, slog.New(slog.DiscardHandler))
	return &Hub{name: name, log: log, capture: c, table: map[macAddress]*Port{}, watchers: map[*watcher]struct{}{}}, nil
}

// Close takes every port off the hub and ends the capture.
func (h *Hub) Close() error {
	h.mu.Lock()
	again := h.closed
	h.closed = true
	ports, laptops := slices.Clone(h.ports), h.laptops
	h.mu.Unlock()
	if again {
		return nil
	}
	for _, l := range laptops {
		l.Close()
	}
	for _, p := range ports {
		p.Close()
	}
	h.streams.Wait()
	if err := h.capture.close(); err != nil {
		return fmt.Errorf("write capture of hub %s: %w", h.name, err)
	}
	return nil
}

// Flush brings the capture file up to date.
func (h *Hub) Flush() error { return h.capture.flush() }

// Port plugs in a port that the program itself sends and receives on.
func (h *Hub) Port(name string) *Port {
	p := &Port{hub: h, name: name, queue: make(chan []byte, queueFrames)}
	p.plugged, p.unplug = context.WithCancelCause(context.Background())
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		p.unplug(errUnplugged)
		return p
	}
	h.ports = append(h.ports, p)
	return p
}

// unplug forgets a port and everything learned behind it.
func (h *Hub) unplug(p *Port) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports = slices.DeleteFunc(h.ports, func(q *Port) bool { return q == p })
	h.forgetLocked(p)
}

func (h *Hub) forgetLocked(p *Port) {
	for mac, q := range h.table {
		if q == p {
			delete(h.table, mac)
		}
	}
}

// forward carries one frame from a port to those it is meant for.
func (h *Hub) forward(from *Port, frame []byte) {
	h.capture.frame(time.Now(), frame)
	h.learn(macAddress(frame[6:12]), from)
	h.mu.RLock()
	defer h.mu.RUnlock()
	for w := range h.watchers {
		w.look(frame)
	}
	if to := h.table[macAddress(frame[0:6])]; to != nil {
		if to != from {
			to.deliver(frame)
		}
		return
	}
	for _, to := range h.ports {
		if to != from {
			to.deliver(frame)
		}
	}
}

func (h *Hub) learn(mac macAddress, from *Port) {
	if mac.group() {
		return
	}
	h.mu.RLock()
	known := h.table[mac]
	h.mu.RUnlock()
	if known == from {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if from.plugged.Err() != nil {
		return
	}
	if len(h.table) >= maxAddresses {
		clear(h.table)
	}
	h.table[mac] = from
}

func (w *watcher) look(frame []byte) {
	if w.match(frame) {
		select {
		case w.found <- frame:
		default: // it is not the first
		}
	}
}

// Await waits for the first frame on the wire that match accepts, and returns
// it. Match is called for every frame, possibly by several goroutines at once,
// and must not keep or change it.
func (h *Hub) Await(ctx context.Context, match func(frame []byte) bool) ([]byte, error) {
	w := &watcher{match: match, found: make(chan []byte, 1)}
	h.mu.Lock()
	h.watchers[w] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.watchers, w)
		h.mu.Unlock()
	}()
	select {
	case frame := <-w.found:
		return frame, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("hub %s: the awaited frame did not come: %w", h.name, context.Cause(ctx))
	}
}

// errUnplugged is the end of a port.
var errUnplugged = errors.New("the port is unplugged")

// report writes the counters of all ports.
func (h *Hub) report(w io.Writer) {
	flushing := h.capture.flush()
	h.mu.RLock()
	defer h.mu.RUnlock()
	fmt.Fprintf(w, "\n--- hub %s", h.name)
	if flushing != nil && !h.closed {
		fmt.Fprintf(w, " (capture: %v)", flushing)
	}
	fmt.Fprintln(w)
	for _, p := range h.ports {
		fmt.Fprintf(w, "    %s\n", p)
	}
}
