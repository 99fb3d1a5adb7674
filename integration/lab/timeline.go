package lab

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// Timeline collects how long the named steps of machines took.
type Timeline struct {
	now   func() time.Time
	began time.Time

	mu    sync.Mutex
	steps []*TimedStep
}

// TimedStep is one row of a Timeline.
type TimedStep struct {
	Machine string
	Name    string
	Start   time.Time
	End     time.Time // zero while the step runs
}

// NewTimeline starts a timeline; now is its clock, usually time.Now.
func NewTimeline(now func() time.Time) *Timeline {
	return &Timeline{now: now, began: now()}
}

// Begin starts a step; calling the result ends it. Calling it again changes
// nothing.
func (t *Timeline) Begin(machine, step string) (end func()) {
	s := &TimedStep{Machine: machine, Name: step, Start: t.now()}
	t.mu.Lock()
	t.steps = append(t.steps, s)
	t.mu.Unlock()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s.End.IsZero() {
			s.End = t.now()
		}
	}
}

// Add adds a step that somebody else has timed.
func (t *Timeline) Add(machine, step string, start, end time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.steps = append(t.steps, &TimedStep{machine, step, start, end})
}

// Steps are the steps so far, by their start.
func (t *Timeline) Steps() []TimedStep {
	t.mu.Lock()
	defer t.mu.Unlock()
	steps := make([]TimedStep, len(t.steps))
	for i, s := range t.steps {
		steps[i] = *s
	}
	slices.SortStableFunc(steps, func(a, b TimedStep) int { return a.Start.Compare(b.Start) })
	return steps
}

// WriteTable writes a row a step: machine, step, seconds since the timeline
// began, seconds the step took. Without steps there is none.
func (t *Timeline) WriteTable(w io.Writer) error {
	steps := t.Steps()
	if len(steps) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "MACHINE\tSTEP\tSTART\tSECONDS")
	for _, s := range steps {
		took := "running"
		if !s.End.IsZero() {
			took = seconds(s.End.Sub(s.Start))
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", s.Machine, s.Name, seconds(s.Start.Sub(t.began)), took)
	}
	return table.Flush()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }
