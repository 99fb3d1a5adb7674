package tftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"edeploy/server/share"
)

// transfer is one client port that is being served.
type transfer struct {
	client netip.AddrPort
	packet []byte // its request, to know it again
	end    context.CancelCauseFunc
	leave  func() // gives its place back
	order  uint64
	heard  bool // the client has acknowledged something: nobody takes its place
}

// Why a transfer is ended from outside.
var (
	errReplaced = errors.New("the client asked for something else")
	errEvicted  = errors.New("never acknowledged, and others wait for its place")
)

// transfers are those that run: limit in all, a quarter of it for one client
// address. A transfer whose client has not acknowledged anything yet gives its
// place to a newcomer, so that requests without a client behind them lock
// nobody out.
type transfers struct {
	limit  int
	places *share.Places[netip.Addr]

	mu      sync.Mutex
	running map[netip.AddrPort]*transfer
	order   uint64
	full    bool // has been said since a place was free
}

func newTransfers(limit int) *transfers {
	return &transfers{limit: limit, places: share.New[netip.Addr](limit, 0), running: map[netip.AddrPort]*transfer{}}
}

// begin takes a place. It answers false when the request is not to be served:
// it is one that is being served, or there is no place; then why is not empty
// the first time.
func (p *transfers) begin(t *transfer) (ok bool, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.running[t.client]; old != nil {
		if bytes.Equal(old.packet, t.packet) {
			return false, "" // its answer is on the way
		}
		p.remove(old, errReplaced)
	}
	host := t.client.Addr()
	leave, err := p.places.Try(host)
	full, no := errors.AsType[*share.Full](err)
	if no && p.evict(host, full.OfPeer) {
		leave, err = p.places.Try(host)
	}
	if err != nil {
		return false, p.say(host, full)
	}
	p.order++
	t.order, t.leave = p.order, leave
	p.running[t.client] = t
	return true, ""
}

func (p *transfers) say(host netip.Addr, up *share.Full) string {
	switch {
	case p.full:
		return ""
	case up.OfPeer:
		p.full = true
		return fmt.Sprintf("TFTP requests of %s wait: it has %d transfers, its share of %d", host.Unmap(), up.Most, p.limit)
	}
	p.full = true
	return fmt.Sprintf("TFTP requests wait: all %d places are taken", p.limit)
}

// evict ends the oldest transfer that has not been acknowledged, of the host or
// of any.
func (p *transfers) evict(host netip.Addr, ofHost bool) bool {
	var oldest *transfer
	for client, t := range p.running {
		if !t.heard && (client.Addr() == host || !ofHost) && (oldest == nil || t.order < oldest.order) {
			oldest = t
		}
	}
	if oldest != nil {
		p.remove(oldest, errEvicted)
	}
	return oldest != nil
}

func (p *transfers) remove(t *transfer, why error) {
	delete(p.running, t.client)
	t.leave()
	t.end(why)
}

// acknowledged makes the place the client's own.
func (p *transfers) acknowledged(t *transfer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t.heard = true
}

// done gives the place back.
func (p *transfers) done(t *transfer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[t.client] == t {
		delete(p.running, t.client)
	}
	t.leave()
	p.full = false
}
