package appliance

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"edeploy/server"
	"edeploy/server/wire"
)

// progressInterval is how often one machine's running step is repeated on the
// console.
const progressInterval = 5 * time.Second

// progressLines decides which events become lines on the console: every step
// that ends, and a running one now and then.
type progressLines struct {
	mu   sync.Mutex
	last map[string]time.Time // machine name: last line about a running step
}

// line is the line for an event; "" for none.
func (p *progressLines) line(e server.Event) string {
	switch wire.Status(e.Status) {
	case wire.StatusStarted:
		return ""
	case wire.StatusProgress:
		if !p.due(e.Name, e.Time) {
			return ""
		}
	}
	words := []string{e.Name + ":", e.Step}
	if e.Status != "note" {
		words = append(words, e.Status)
	}
	if e.Percent > 0 {
		words = append(words, fmt.Sprintf("%.0f%%, %.1f MB/s", e.Percent, e.BytesPerSecond/1e6))
	}
	if e.Seconds > 0 {
		words = append(words, fmt.Sprintf("(%.1f s)", e.Seconds))
	}
	if e.Message != "" {
		words = append(words, e.Message)
	}
	return strings.Join(words, " ")
}

func (p *progressLines) due(machine string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last[machine]) < progressInterval {
		return false
	}
	// As many machines as the server knows, at most; a new map when full keeps
	// that bound without asking for it.
	if p.last == nil || len(p.last) > 10_000 {
		p.last = map[string]time.Time{}
	}
	p.last[machine] = now
	return true
}
