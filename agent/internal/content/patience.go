package content

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// errPatience is wrapped when the server did not come back.
var errPatience = errors.New("no answer")

const longestPause = 10 * time.Second

// persist calls try after the first failure, with growing pauses, until it
// succeeds, is refused, or nothing came for too long.
func (s *Server) persist(ctx context.Context, alive time.Time, cause error, try func() error) error {
	for pause := s.config.Pause; ; pause = min(2*pause, longestPause) {
		var no *refused
		if errors.As(cause, &no) {
			return no.err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		waited := time.Since(alive)
		if waited+pause > s.config.Patience {
			return fmt.Errorf("%w for %s: %w", errPatience, waited.Round(time.Second), short(cause))
		}
		s.waits.begin(s.base.Host, short(cause), s.config.Patience)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		if cause = try(); cause == nil {
			return nil
		}
	}
}

// short leaves out the method and the URL, which the caller names.
func short(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("it sends nothing") // the watchdog's end of an attempt
	}
	return err
}

// waits tells once, for all files at once, that the server is waited for.
type waits struct {
	say   func(string)
	mu    sync.Mutex
	since time.Time // zero: it answers
}

func (w *waits) begin(host string, cause error, patience time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		return
	}
	w.since = time.Now()
	if w.say != nil {
		w.say(fmt.Sprintf("waiting for the server %s (%v), up to %s", host, cause, patience))
	}
}

// over is called whenever content comes.
func (w *waits) over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return
	}
	if w.say != nil {
		w.say(fmt.Sprintf("the server is back after %s", time.Since(w.since).Round(100*time.Millisecond)))
	}
	w.since = time.Time{}
}
