package admission_test

import (
	"fmt"
	"testing"
	"time"

	"edeploy/server/internal/admission"
)

func TestRate(t *testing.T) {
	r := admission.NewRate(60)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	take := func(peer string) (taken int) {
		for taken < 1000 && r.Take(peer, now) {
			taken++
		}
		return taken
	}
	for _, step := range []struct {
		peer  string
		after time.Duration
		want  int
	}{
		{"a", 0, 60}, {"a", 0, 0}, {"b", 0, 60}, {"a", 10 * time.Second, 10}, {"b", time.Hour, 60}, {"b", -time.Minute, 0},
	} {
		now = now.Add(step.after)
		if got := take(step.peer); got != step.want {
			t.Errorf("%s takes %d after %v, want %d", step.peer, got, step.after, step.want)
		}
	}
	// A flood of peers forgets those that have been idle longest.
	for i := range 5000 {
		now = now.Add(time.Millisecond)
		r.Take(fmt.Sprint("flood", i), now)
	}
	if got := take("flood4999"); got != 59 {
		t.Errorf("the last peer of a flood may take %d, want 59", got)
	}
	if got := take("flood0"); got != 60 {
		t.Errorf("the first peer of a flood may take %d, want 60: it is forgotten", got)
	}
}
