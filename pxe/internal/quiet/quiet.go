// Package quiet keeps a log readable while somebody sends nonsense: one line
// for each cause in a minute, and a bound on how many causes there are.
package quiet

import (
	"sync"
	"time"
)

// Bounds of what is said.
const (
	Pause = time.Minute // between two lines about the same
	Most  = 100         // lines about different causes in that time
)

// Limiter decides what is said. The zero value is ready; it is safe for
// concurrent use.
type Limiter struct {
	mu   sync.Mutex
	said map[string]time.Time
}

// Allow tells whether a line about the cause is due. last: it is the last one
// for a while, because there are too many causes.
func (l *Limiter) Allow(cause string, now time.Time) (ok, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, known := l.said[cause]; known && now.Sub(at) < Pause {
		return false, false
	}
	if len(l.said) >= Most {
		l.forget(now)
	}
	if len(l.said) >= Most {
		return false, false
	}
	if l.said == nil {
		l.said = map[string]time.Time{}
	}
	l.said[cause] = now
	return true, len(l.said) == Most
}

func (l *Limiter) forget(now time.Time) {
	for cause, at := range l.said {
		if now.Sub(at) >= Pause {
			delete(l.said, cause)
		}
	}
}
