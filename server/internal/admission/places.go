// Package admission bounds what the network can use up at once: a number of
// places with a share for each peer, and a rate of each peer.
package admission

import (
	"context"
	"slices"
	"sync"
	"time"

	"edeploy/server/internal/refusal"
)

// maxWaiting bounds those who wait for a place; a quarter may be of one peer.
const maxWaiting = 4096

// Places are a number of things that may go on at once. One peer may have a
// quarter of them, so that it never locks the others out.
type Places struct {
	what    string // that goes on, such as "uploads"
	total   int
	wait    time.Duration // longest for a place
	mu      sync.Mutex
	used    int
	taken   map[string]int // by peer
	asking  map[string]int // by peer
	waiting []*waiter      // who waits longest comes first
}

type waiter struct {
	peer string
	in   chan struct{} // closed when it has its place
}

// NewPlaces are free; what goes on there is a word such as "uploads".
func NewPlaces(what string, total int, wait time.Duration) *Places {
	return &Places{what: what, total: total, wait: wait, taken: map[string]int{}, asking: map[string]int{}}
}

// share is how many places one peer may have.
func (p *Places) share() int { return max(1, p.total/4) }

// Enter waits for a place, until ctx ends or the wait is over: then it is
// refused as busy.
func (p *Places) Enter(ctx context.Context, peer string) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	w := p.ask(peer)
	if w == nil {
		return nil, p.refusal(peer)
	}
	select {
	case <-w.in:
	case <-ctx.Done():
		if p.giveUp(w) {
			return nil, p.refusal(peer)
		}
	}
	return sync.OnceFunc(func() { p.leave(peer) }), nil
}

// ask puts one into the queue; nil: the queue is full.
func (p *Places) ask(peer string) *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= maxWaiting || p.asking[peer] >= maxWaiting/4 {
		return nil
	}
	w := &waiter{peer, make(chan struct{})}
	p.waiting = append(p.waiting, w)
	p.asking[peer]++
	p.admit()
	return w
}

// admit gives free places to those who wait and may have one.
func (p *Places) admit() {
	p.waiting = slices.DeleteFunc(p.waiting, func(w *waiter) bool {
		if p.used >= p.total || p.taken[w.peer] >= p.share() {
			return false
		}
		p.used++
		p.taken[w.peer]++
		less(p.asking, w.peer)
		close(w.in)
		return true
	})
}

// giveUp takes one out of the queue; false: it has its place already.
func (p *Places) giveUp(w *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.waiting, w)
	if i < 0 {
		return false
	}
	p.waiting = slices.Delete(p.waiting, i, i+1)
	less(p.asking, w.peer)
	return true
}

func (p *Places) leave(peer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	less(p.taken, peer)
	p.admit()
}

// less counts one down and forgets what is zero.
func less(counts map[string]int, peer string) {
	if counts[peer]--; counts[peer] <= 0 {
		delete(counts, peer)
	}
}

// refusal says why there was no place.
func (p *Places) refusal(peer string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if of := p.taken[peer]; of >= p.share() && p.used < p.total {
		return refusal.New(refusal.Busy, "the server is busy with %d %s of %s, its share: ask again", of, p.what, peer)
	}
	return refusal.New(refusal.Busy, "the server is busy with %d %s: ask again", p.used, p.what)
}
