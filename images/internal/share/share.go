// Package share divides places among the peers that want them, so that one
// peer cannot take all.
package share

import (
	"fmt"
	"net"
	"sync"
)

// Places are so many in all, of which each peer may hold some.
type Places struct {
	all, each int

	mu    sync.Mutex
	taken int
	held  map[string]int // by peer
}

// New makes places. A peer may hold a quarter of them, one at least.
func New(all int) *Places {
	return &Places{all: all, each: max(all/4, 1), held: map[string]int{}}
}

// Take gives a place to a peer until release is called, once. The error names
// the bound that was reached.
func (p *Places) Take(peer string) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.held[peer] >= p.each:
		return nil, fmt.Errorf("%d from one address", p.each)
	case p.taken >= p.all:
		return nil, fmt.Errorf("%d at once", p.all)
	}
	p.taken++
	p.held[peer]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken--
		if p.held[peer]--; p.held[peer] == 0 {
			delete(p.held, peer)
		}
	}, nil
}

// Peer is who is at an address of the form HOST:PORT.
func Peer(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
