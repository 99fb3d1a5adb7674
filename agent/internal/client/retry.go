package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// retry calls try until it succeeds, is refused for good, or the patience is
// over. It logs what it waits for.
func (c *Client) retry(ctx context.Context, what string, try func(context.Context) error) error {
	patience := cmp.Or(c.Patience, time.Hour)
	longest := cmp.Or(c.LongestPause, 10*time.Second)
	pause := cmp.Or(c.FirstPause, time.Second)
	start := time.Now()
	for {
		err := try(ctx)
		if err == nil || !again(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		waited := time.Since(start)
		if waited+pause > patience {
			return fmt.Errorf("no answer for %s: %w", waited.Round(time.Second), cause(err))
		}
		c.log().Warn(fmt.Sprintf("%s: waiting for the server %s (%v), next try in %s, since %s",
			what, c.Args.Serv, cause(err), pause.Round(time.Millisecond), waited.Round(time.Second)))
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, longest)
	}
}

// again says whether another attempt may end better.
func again(err error) bool {
	var refused *Refused
	if errors.As(err, &refused) {
		return refused.temporary()
	}
	var bad *url.Error
	if errors.As(err, &bad) && bad.Op == "parse" {
		return false
	}
	return true
}

// cause leaves out what every line would repeat: the method and the URL.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
