package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"edeploy/agent/internal/retry"
)

func TestPausesDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := retry.Policy{Limit: 40 * time.Second}.Start()
		var got []time.Duration
		for {
			pause, _, ok := w.Next()
			if !ok {
				break
			}
			got = append(got, pause)
			if err := retry.Sleep(t.Context(), pause); err != nil {
				t.Fatal(err)
			}
			if len(got) == 2 {
				w.Reset()
			}
		}
		s := time.Second
		if diff := cmp.Diff([]time.Duration{s, 2 * s, s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s}, got); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	why := errors.New("power button")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if err := retry.Sleep(ctx, time.Hour); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}
