// Package share divides places among the peers that want them, so that one
// peer cannot take all.
package share

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// Places are so many in all, of which each peer may hold some.
type Places struct {
	all, each int

	mu      sync.Mutex
	taken   int
	held    map[string]int // by peer
	changed chan struct{}  // closed when a place is given back
}

// New makes places. A peer may hold a quarter of them, one at least.
func New(all int) *Places {
	return &Places{all: all, each: max(all/4, 1), held: map[string]int{}, changed: make(chan struct{})}
}

// Take gives a place to a peer until release is called, once. The error names
// the bound that was reached.
func (p *Places) Take(peer string) (release func(), err error) {
	release, _, err = p.take(peer)
	return release, err
}

// Wait is Take that waits for a place until ctx ends.
func (p *Places) Wait(ctx context.Context, peer string) (release func(), err error) {
	for {
		release, changed, err := p.take(peer)
		if err == nil {
			return release, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (p *Places) take(peer string) (release func(), changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.held[peer] >= p.each:
		return nil, p.changed, fmt.Errorf("%d from one address", p.each)
	case p.taken >= p.all:
		return nil, p.changed, fmt.Errorf("%d at once", p.all)
	}
	p.taken++
	p.held[peer]++
	return func() { p.release(peer) }, nil, nil
}

func (p *Places) release(peer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.held[peer]--; p.held[peer] == 0 {
		delete(p.held, peer)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Peer is who is at an address of the form HOST:PORT.
func Peer(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
