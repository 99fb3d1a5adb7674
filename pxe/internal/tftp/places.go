package tftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// transfer is one client port that is being served.
type transfer struct {
	client netip.AddrPort
	packet []byte // its request, to know it again
	end    context.CancelCauseFunc
	order  uint64
	heard  bool // the client has acknowledged something: nobody takes its place
}

// Why a transfer is ended from outside.
var (
	errReplaced = errors.New("the client asked for something else")
	errEvicted  = errors.New("never acknowledged, and others wait for its place")
)

// places bounds the transfers: limit in all, a quarter of it for one client
// address. A transfer whose client has not acknowledged anything yet gives its
// place to a newcomer, so that requests without a client behind them lock
// nobody out.
type places struct {
	limit int

	mu      sync.Mutex
	running map[netip.AddrPort]*transfer
	order   uint64
	full    bool // has been said since a place was free
}

func newPlaces(limit int) *places {
	return &places{limit: limit, running: map[netip.AddrPort]*transfer{}}
}

// share is the most places of one client address.
func (p *places) share() int { return max(p.limit/4, 1) }

// take takes a place. It answers false when the request is not to be served:
// it is one that is being served, or there is no place; then why is not empty
// the first time.
func (p *places) take(t *transfer) (ok bool, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.running[t.client]; old != nil {
		if bytes.Equal(old.packet, t.packet) {
			return false, "" // its answer is on the way
		}
		p.remove(old, errReplaced)
	}
	host := t.client.Addr()
	if n := p.count(host); n >= p.share() && !p.evict(host) {
		return false, p.say(fmt.Sprintf("TFTP requests of %s wait: it has %d transfers, its share of %d", host.Unmap(), n, p.limit))
	}
	if len(p.running) >= p.limit && !p.evict(netip.Addr{}) {
		return false, p.say(fmt.Sprintf("TFTP requests wait: all %d places are taken", p.limit))
	}
	p.order++
	t.order = p.order
	p.running[t.client] = t
	return true, ""
}

func (p *places) say(sentence string) string {
	if p.full {
		return ""
	}
	p.full = true
	return sentence
}

func (p *places) count(host netip.Addr) (n int) {
	for client := range p.running {
		if client.Addr() == host {
			n++
		}
	}
	return n
}

// evict ends the oldest transfer of the host (the zero Addr: of any) that has
// not been acknowledged.
func (p *places) evict(host netip.Addr) bool {
	var oldest *transfer
	for client, t := range p.running {
		if !t.heard && (client.Addr() == host || !host.IsValid()) && (oldest == nil || t.order < oldest.order) {
			oldest = t
		}
	}
	if oldest == nil {
		return false
	}
	p.remove(oldest, errEvicted)
	return true
}

func (p *places) remove(t *transfer, why error) {
	delete(p.running, t.client)
	t.end(why)
}

// acknowledged makes the place the client's own.
func (p *places) acknowledged(t *transfer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.heard = true
}

// free gives the place back.
func (p *places) free(t *transfer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[t.client] == t {
		delete(p.running, t.client)
	}
	p.full = false
}
