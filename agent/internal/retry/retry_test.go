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
		var got []time.Duration
		var w *retry.Wait
		w = retry.Policy{Limit: 40 * time.Second, Tell: func(_ error, pause, _ time.Duration) {
			if got = append(got, pause); len(got) == 3 {
				w.Reset()
			}
		}}.Start()
		away := errors.New("away")
		err := w.Do(t.Context(), func() (bool, error) { return false, away })
		s := time.Second
		if diff := cmp.Diff([]time.Duration{s, 2 * s, 4 * s, s, 2 * s, 4 * s, 8 * s, 10 * s, 10 * s}, got); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		if !errors.Is(err, away) || err.Error() != "no answer for 39s: away" {
			t.Errorf("got %v", err)
		}
	})
}

func TestFinalErrorsEndIt(t *testing.T) {
	no, tries := errors.New("no"), 0
	err := retry.Policy{First: 1}.Start().Do(t.Context(), func() (bool, error) { tries++; return tries == 3, no })
	if err != no || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

func TestPauseEndsWithItsContext(t *testing.T) {
	why := errors.New("power button")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Millisecond, func() { cancel(why) })
	if err := (retry.Policy{First: time.Hour, Limit: 2 * time.Hour}).Start().Pause(ctx, nil); !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
}
