package admission

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Places are a number of things that all peers share. A peer has a part of
// them at most.
type Places struct {
	what         string
	total, share int
	warn         func(format string, args ...any)

	mu      sync.Mutex
	used    int
	of      map[netip.Addr]int
	changed chan struct{} // closed when a place becomes free
	said    time.Time
}

// NewPlaces makes total places, share of them for each peer at most. What is
// their name in the sentences that warn gets, at most one a minute; nil:
// nobody.
func NewPlaces(what string, total, share int, warn func(format string, args ...any)) *Places {
	if warn == nil {
		warn = func(string, ...any) {}
	}
	return &Places{what: what, total: total, share: share, warn: warn, of: map[netip.Addr]int{}, changed: make(chan struct{})}
}

// FullError says that a peer got no place.
type FullError struct {
	What    string
	Most    int
	OfPeer  bool // the peer has its share; else all are taken
	Address netip.Addr
}

func (e *FullError) Error() string {
	if e.OfPeer {
		return fmt.Sprintf("%s has its share of %s already (%d at once): ask again later", e.Address, e.What, e.Most)
	}
	return fmt.Sprintf("all %d places for %s are taken: ask again later", e.Most, e.What)
}

// Take waits for a place until ctx ends, or for the time patience. The caller
// gives it back with leave, once.
func (p *Places) Take(ctx context.Context, peer netip.Addr, patience time.Duration) (leave func(), err error) {
	leave, changed, err := p.take(peer)
	if err == nil {
		return leave, nil
	}
	over := time.NewTimer(patience)
	defer over.Stop()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-over.C:
			p.tell(err)
			return nil, err
		}
		if leave, changed, err = p.take(peer); err == nil {
			return leave, nil
		}
	}
}

// try takes a place if there is one now.
func (p *Places) try(peer netip.Addr) (leave func(), err error) {
	leave, _, err = p.take(peer)
	p.tell(err)
	return leave, err
}

// take takes a place, or answers what is closed when trying again is worth it.
func (p *Places) take(peer netip.Addr) (leave func(), changed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.of[peer] >= p.share:
		return nil, p.changed, &FullError{p.what, p.share, true, peer}
	case p.used >= p.total:
		return nil, p.changed, &FullError{p.what, p.total, false, peer}
	}
	p.used++
	p.of[peer]++
	return func() { p.leave(peer) }, nil, nil
}

func (p *Places) leave(peer netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	if p.of[peer]--; p.of[peer] == 0 {
		delete(p.of, peer)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// wait returns when any place is free, false when stop is closed first.
func (p *Places) wait(stop <-chan struct{}) bool {
	for {
		p.mu.Lock()
		free, changed := p.used < p.total, p.changed
		p.mu.Unlock()
		if free {
			return true
		}
		p.tell(&FullError{What: p.what, Most: p.total})
		select {
		case <-changed:
		case <-stop:
			return false
		}
	}
}

// tell passes an error on, one a minute.
func (p *Places) tell(err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	soon := time.Since(p.said) < time.Minute
	if !soon {
		p.said = time.Now()
	}
	p.mu.Unlock()
	if !soon {
		p.warn("%v", err)
	}
}
