// Package share divides places, which are things that may go on at once, among
// the peers that want them, so that one peer cannot take all. It is a leaf: what
// machines reach in any room is bounded by it. It imports the standard library
// only.
package share

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// maxWaiting bounds those who wait for a place; a quarter may be of one peer.
const maxWaiting = 4096

// Places are so many in all, of which each peer may hold some. P tells the
// peers apart.
type Places[P comparable] struct {
	all, each int

	mu      sync.Mutex
	used    int
	held    map[P]int    // by peer
	asking  map[P]int    // waiting, by peer
	waiting []*waiter[P] // who waits longest comes first
}

type waiter[P comparable] struct {
	peer P
	in   chan struct{} // closed when it has its place
}

// New makes places. A peer may hold each of them; 0: a quarter, one at least.
func New[P comparable](all, each int) *Places[P] {
	if each == 0 {
		each = max(all/4, 1)
	}
	return &Places[P]{all: all, each: each, held: map[P]int{}, asking: map[P]int{}}
}

// Full is why there is no place: the bound that was reached.
type Full struct {
	Most   int
	OfPeer bool // the peer has its share; else all are taken
}

func (f *Full) Error() string {
	if f.OfPeer {
		return fmt.Sprintf("%d from one address", f.Most)
	}
	return fmt.Sprintf("%d at once", f.Most)
}

// Try gives a place to a peer until it is given back with leave. The error is
// a *Full.
func (p *Places[P]) Try(peer P) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if full := p.full(peer); full != nil {
		return nil, full
	}
	return p.take(peer), nil
}

// Wait is Try that waits for a place until ctx ends, behind those of its peers
// and of others who waited before.
func (p *Places[P]) Wait(ctx context.Context, peer P) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	full := p.full(peer)
	switch {
	case full == nil:
		return p.take(peer), nil
	case len(p.waiting) >= maxWaiting, p.asking[peer] >= maxWaiting/4:
		return nil, full
	}
	w := &waiter[P]{peer, make(chan struct{})}
	p.waiting = append(p.waiting, w)
	p.asking[peer]++
	defer less(p.asking, peer)
	p.mu.Unlock()
	select {
	case <-w.in:
	case <-ctx.Done():
	}
	p.mu.Lock()
	if i := slices.Index(p.waiting, w); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return nil, p.full(peer)
	}
	return p.leave(peer), nil
}

func (p *Places[P]) full(peer P) *Full {
	switch {
	case p.held[peer] >= p.each:
		return &Full{p.each, true}
	case p.used >= p.all:
		return &Full{p.all, false}
	}
	return nil
}

func (p *Places[P]) take(peer P) (leave func()) {
	p.used++
	p.held[peer]++
	return p.leave(peer)
}

// leave gives a place back, once, and those that are free to who waits.
func (p *Places[P]) leave(peer P) func() {
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.used--
		less(p.held, peer)
		p.waiting = slices.DeleteFunc(p.waiting, func(w *waiter[P]) bool {
			if p.full(w.peer) != nil {
				return false
			}
			p.take(w.peer)
			close(w.in)
			return true
		})
	})
}

// less counts one down and forgets what is zero.
func less[P comparable](counts map[P]int, peer P) {
	if counts[peer]--; counts[peer] == 0 {
		delete(counts, peer)
	}
}

// Peer is whose share somebody at an address of the form HOST:PORT takes: of
// IPv6 the network, from which a host may choose any address. The zero Addr is
// who has no address.
func Peer(address string) netip.Addr {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Addr{}
	}
	addr := a.Addr().Unmap().WithZone("")
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}
