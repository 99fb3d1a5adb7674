package admission

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate bounds how often each peer may do something, such as making a machine
// known that nobody knew.
type Rate struct {
	most int // at once; as many again within a minute
	mu   sync.Mutex
	of   map[string]*limit
}

type limit struct {
	*rate.Limiter
	asked time.Time // last
}

// maxPeers bounds the table; of more, those go that have been idle longest.
const maxPeers = 4096

// NewRate allows so many at once and then per minute.
func NewRate(most int) *Rate { return &Rate{most: most, of: map[string]*limit{}} }

// Take counts one; false: that is too fast.
func (r *Rate) Take(peer string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	is, ok := r.of[peer]
	if !ok {
		r.makeRoom()
		is = &limit{Limiter: rate.NewLimiter(rate.Limit(float64(r.most)/60), r.most)}
		r.of[peer] = is
	}
	is.asked = now
	return is.AllowN(now, 1)
}

func (r *Rate) makeRoom() {
	if len(r.of) < maxPeers {
		return
	}
	oldest := ""
	for peer, is := range r.of {
		if oldest == "" || is.asked.Before(r.of[oldest].asked) {
			oldest = peer
		}
	}
	delete(r.of, oldest)
}
