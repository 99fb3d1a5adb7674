package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"edeploy/agent/internal/retry"
)

// retry calls try until it succeeds, is refused for good, or the patience is
// over. It logs what it waits for.
func (c *Client) retry(ctx context.Context, what string, try func(context.Context) error) error {
	wait := retry.Policy{First: c.FirstPause, Longest: c.LongestPause, Limit: c.Patience}.Start()
	for {
		err := try(ctx)
		if err == nil || !again(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		pause, waited, ok := wait.Next()
		if !ok {
			return fmt.Errorf("no answer for %s: %w", waited.Round(time.Second), cause(err))
		}
		c.log().Warn(fmt.Sprintf("%s: waiting for the server %s (%v), next try in %s, since %s",
			what, c.Args.Serv, cause(err), pause.Round(time.Millisecond), waited.Round(time.Second)))
		if err := retry.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// again says whether another attempt may end better.
func again(err error) bool {
	var refused *Refused
	if errors.As(err, &refused) {
		return refused.Temporary()
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
