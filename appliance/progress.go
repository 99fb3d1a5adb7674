package appliance

import (
	"fmt"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"
)

// progressInterval is how often one machine's running step is repeated on the
// console.
const progressInterval = 5 * time.Second

// progressLines decides which events become lines on the console: every step
// that ends, and a running one now and then.
type progressLines struct {
	last  map[string]time.Time // machine name: last line about a running step
	error map[string]string    // machine name: the last error that was shown
}

// line is the line for an event; "" for none.
func (p *progressLines) line(e api.Event) string {
	switch wire.Status(e.Status) {
	case wire.StatusStarted:
		return ""
	case wire.StatusProgress:
		if !p.due(e.Name, e.Time) {
			return ""
		}
	}
	message := strings.Join(strings.FieldsFunc(e.Message, func(c rune) bool { return c == '\n' || c == '\r' }), " |")
	if wire.Status(e.Status) == wire.StatusFailed && p.shown(e.Name, message) {
		return ""
	}
	words := []string{e.Name + ":"}
	if e.Step != "" && wire.Status(e.Status) != wire.StatusInstalled { // that is of the whole installation
		words = append(words, e.Step)
	}
	if e.Status != "note" {
		words = append(words, e.Status)
	}
	if e.Percent > 0 {
		words = append(words, fmt.Sprintf("%.0f%%, %.1f MB/s", e.Percent, e.BytesPerSecond/1e6))
	}
	if e.Seconds > 0 {
		words = append(words, fmt.Sprintf("(%.1f s)", e.Seconds))
	}
	if message != "" {
		words = append(words, message)
	}
	return strings.Join(words, " ")
}

// shown tells whether an error is the one that was shown last: the server says
// why it refuses a machine, and the machine's agent repeats it.
func (p *progressLines) shown(machine, message string) bool {
	if last, ok := p.error[machine]; ok && last != "" && strings.Contains(message, last) {
		delete(p.error, machine) // once: the next try may fail in the same way
		return true
	}
	if p.error == nil || len(p.error) > 10_000 {
		p.error = map[string]string{}
	}
	p.error[machine] = message
	return false
}

func (p *progressLines) due(machine string, now time.Time) bool {
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
