package admission

import (
	"sync"
	"time"
)

// Rate bounds how often each peer may do something, such as making a machine
// known that nobody knew.
type Rate struct {
	most int // at once; as many again within a minute
	mu   sync.Mutex
	of   map[string]allowance
}

type allowance struct {
	left float64 // that may be taken now
	at   time.Time
}

// maxPeers bounds the table; of more, those go that have been idle longest.
const maxPeers = 4096

// NewRate allows so many at once and then per minute.
func NewRate(most int) *Rate { return &Rate{most: most, of: map[string]allowance{}} }

// Take counts one; false: that is too fast.
func (r *Rate) Take(peer string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	is, ok := r.of[peer]
	if !ok {
		r.makeRoom()
		is = allowance{float64(r.most), now}
	}
	is = is.next(now, float64(r.most))
	allowed := is.left >= 1
	if allowed {
		is.left--
	}
	r.of[peer] = is
	return allowed
}

// next is what is left at a later time.
func (is allowance) next(now time.Time, most float64) allowance {
	since := max(0, now.Sub(is.at).Minutes())
	return allowance{min(most, is.left+since*most), now}
}

func (r *Rate) makeRoom() {
	if len(r.of) < maxPeers {
		return
	}
	oldest := ""
	for peer, is := range r.of {
		if oldest == "" || is.at.Before(r.of[oldest].at) {
			oldest = peer
		}
	}
	delete(r.of, oldest)
}
