package server

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"edeploy/server/internal/refusal"
)

// maxWaiting bounds those who wait for a place; a quarter may be of one peer.
const maxWaiting = 4096

// places are a number of things that may go on at once. One peer may have a
// quarter of them, so that it never locks the others out.
type places struct {
	total   int
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

func newPlaces(total int) *places {
	return &places{total: total, taken: map[string]int{}, asking: map[string]int{}}
}

// share is how many places one peer may have.
func (p *places) share() int { return max(1, p.total/4) }

// enter waits for a place until ctx ends; false: there was none.
func (p *places) enter(ctx context.Context, peer string) (leave func(), ok bool) {
	w := p.ask(peer)
	if w == nil {
		return nil, false
	}
	select {
	case <-w.in:
	case <-ctx.Done():
		if p.giveUp(w) {
			return nil, false
		}
	}
	return sync.OnceFunc(func() { p.leave(peer) }), true
}

// ask puts one into the queue; nil: the queue is full.
func (p *places) ask(peer string) *waiter {
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
func (p *places) admit() {
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
func (p *places) giveUp(w *waiter) bool {
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

func (p *places) leave(peer string) {
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

// refusal says why there was no place: what goes on, such as "uploads".
func (p *places) refusal(peer, what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if of := p.taken[peer]; of >= p.share() && p.used < p.total {
		return refusal.New(refusal.Busy, "the server is busy with %d %s of %s, its share: ask again", of, what, peer)
	}
	return refusal.New(refusal.Busy, "the server is busy with %d %s: ask again", p.used, what)
}

// peerOf is the address that a request comes from, without its port.
func peerOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// arrivals bounds how fast one peer makes machines known that nobody knew.
type arrivals struct {
	most int // at once; as many again within a minute
	mu   sync.Mutex
	of   map[string]arrival
}

type arrival struct {
	left float64 // that may come now
	at   time.Time
}

// maxPeers bounds the table; of more, those go that have been idle longest.
const maxPeers = 4096

func newArrivals(most int) *arrivals { return &arrivals{most: most, of: map[string]arrival{}} }

// take counts one machine; false: that is too fast.
func (a *arrivals) take(peer string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	is, ok := a.of[peer]
	if !ok {
		a.makeRoom()
		is = arrival{float64(a.most), now}
	}
	is = is.next(now, float64(a.most))
	allowed := is.left >= 1
	if allowed {
		is.left--
	}
	a.of[peer] = is
	return allowed
}

// next is what is left at a later time.
func (is arrival) next(now time.Time, most float64) arrival {
	since := max(0, now.Sub(is.at).Minutes())
	return arrival{min(most, is.left+since*most), now}
}

func (a *arrivals) makeRoom() {
	if len(a.of) < maxPeers {
		return
	}
	oldest := ""
	for peer, is := range a.of {
		if oldest == "" || is.at.Before(a.of[oldest].at) {
			oldest = peer
		}
	}
	delete(a.of, oldest)
}
