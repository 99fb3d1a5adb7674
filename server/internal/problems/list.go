package problems

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
)

// maxLate bounds each of the lists.
const maxLate = 100

// List is what went wrong of late, each text once. Anybody on the network can
// cause a refusal, so refusals never push out what else went wrong.
type List struct {
	log      *slog.Logger
	now      func() time.Time
	mu       sync.Mutex
	refusals []api.Problem
	failures []api.Problem
}

// NewList is empty.
func NewList(log *slog.Logger, now func() time.Time) *List { return &List{log: log, now: now} }

// Add notes and logs that something went wrong.
func (l *List) Add(section, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log.Warn("problem", "deployment", section, "text", text)
	l.add(&l.failures, api.Problem{Section: section, Text: text})
}

// Refused notes and logs that a machine was refused.
func (l *List) Refused(section, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.log.Warn("machine refused", "deployment", section, "text", text)
	l.add(&l.refusals, api.Problem{Section: section, Text: text})
}

// BoundReached notes that a client has used up its share of something.
func (l *List) BoundReached(text string) {
	l.add(&l.refusals, api.Problem{Text: text, Warning: true})
}

// Note tells what decisions have found.
func (l *List) Note(notes []allocation.Note) {
	for _, n := range notes {
		switch n.Kind {
		case allocation.Mistake:
			l.log.Warn("problem", "deployment", n.Section, "text", n.Text)
		case allocation.Loss:
			l.Add(n.Section, "%s", n.Text)
		case allocation.Doubt:
			l.Refused(n.Section, "%s", n.Text)
		}
	}
}

func (l *List) add(to *[]api.Problem, p api.Problem) {
	now := l.now()
	p.Time = &now
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append(slices.DeleteFunc(*to, func(old api.Problem) bool { return old.Text == p.Text }), p)
	*to = all[max(0, len(all)-maxLate):]
}

// all are the refusals, then the rest, newest last.
func (l *List) all() []api.Problem {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.refusals, l.failures)
}
