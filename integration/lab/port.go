package lab

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
)

// Sizes of the wire.
const (
	queueFrames   = 2048      // frames that wait for a slow port
	minFrameBytes = 14        // addresses and type
	maxFrameBytes = 68 * 1024 // QEMU's NET_BUFSIZE, include/net/net.h
)

// Port is one socket of a hub: a machine's NIC, a laptop, or a test.
type Port struct {
	hub   *Hub
	name  string
	queue chan []byte

	plugged context.Context // until it is unplugged
	unplug  context.CancelCauseFunc

	cut atomic.Bool

	sent, received, lost tally
}

type tally struct{ frames, bytes atomic.Uint64 }

func (t *tally) add(frame []byte) {
	t.frames.Add(1)
	t.bytes.Add(uint64(len(frame)))
}

// Counters are what went through a port since it was plugged in, as its owner
// sees it.
type Counters struct {
	SentFrames, SentBytes         uint64 // put on the wire
	ReceivedFrames, ReceivedBytes uint64 // taken from the wire, or waiting to be
	LostFrames, LostBytes         uint64 // cut, or too many for the queue
}

// Name is the port's name, "MACHINE.eth0" for the NIC of a machine.
func (p *Port) Name() string { return p.name }

// Counters reads the port's counters.
func (p *Port) Counters() Counters {
	return Counters{
		p.sent.frames.Load(), p.sent.bytes.Load(),
		p.received.frames.Load(), p.received.bytes.Load(),
		p.lost.frames.Load(), p.lost.bytes.Load(),
	}
}

func (p *Port) String() string {
	c := p.Counters()
	cut := ""
	if p.cut.Load() {
		cut = ", CUT"
	}
	return fmt.Sprintf("port %s: sent %d frames %d bytes, received %d frames %d bytes, lost %d frames%s",
		p.name, c.SentFrames, c.SentBytes, c.ReceivedFrames, c.ReceivedBytes, c.LostFrames, cut)
}

// Cut cuts the wire: frames are lost in both directions, those that wait in
// the queue too. The machine still sees a carrier, as behind a media converter.
func (p *Port) Cut() {
	p.cut.Store(true)
	for {
		select {
		case frame := <-p.queue:
			p.lost.add(frame)
		default:
			return
		}
	}
}

// Restore mends the wire.
func (p *Port) Restore() { p.cut.Store(false) }

// Send puts a frame (from the destination address on, without checksum) on the
// wire. It never blocks; as on a real wire nobody learns whether it arrived.
func (p *Port) Send(frame []byte) { p.put(slices.Clone(frame)) }

// put is Send for a frame that nobody changes any more.
func (p *Port) put(frame []byte) {
	if p.plugged.Err() != nil {
		return
	}
	if len(frame) < minFrameBytes || len(frame) > maxFrameBytes || p.cut.Load() {
		p.lost.add(frame)
		return
	}
	p.sent.add(frame)
	p.hub.forward(p, frame)
}

// deliver queues a frame for the port's owner.
func (p *Port) deliver(frame []byte) {
	if p.cut.Load() {
		p.lost.add(frame)
		return
	}
	select {
	case p.queue <- frame:
		p.received.add(frame)
	default:
		p.lost.add(frame)
	}
}

// Receive waits for the next frame. The frame must not be changed: other ports
// may hold it too.
func (p *Port) Receive(ctx context.Context) ([]byte, error) {
	select {
	case frame := <-p.queue:
		return frame, nil
	case <-p.plugged.Done():
		return nil, fmt.Errorf("receive on port %s: %w", p.name, context.Cause(p.plugged))
	case <-ctx.Done():
		return nil, fmt.Errorf("receive on port %s: %w", p.name, context.Cause(ctx))
	}
}

// AwaitBytes waits until the port has sent and received at least this many
// bytes: the event for "in the middle of a transfer".
func (p *Port) AwaitBytes(ctx context.Context, bytes uint64) error {
	reached := func([]byte) bool { return p.sent.bytes.Load()+p.received.bytes.Load() >= bytes }
	if reached(nil) {
		return nil
	}
	if _, err := p.hub.Await(ctx, reached); err != nil {
		return fmt.Errorf("await %d bytes on %v: %w", bytes, p, err)
	}
	return nil
}

// Close takes the port off the hub.
func (p *Port) Close() {
	p.unplug(errUnplugged)
	p.hub.unplug(p)
}
