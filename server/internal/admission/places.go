// Package admission bounds what the network can use up of the server at once:
// a number of places with a share for each peer, and a rate of each peer.
package admission

import (
	"context"
	"errors"
	"time"

	"edeploy/server/internal/refusal"
	"edeploy/server/share"
)

// Places are a number of things that may go on at once, with a share for each
// peer.
type Places struct {
	what   string // that goes on, such as "uploads"
	wait   time.Duration
	shared *share.Places[string]
}

// NewPlaces are free; what goes on there is a word such as "uploads". Who wants
// one waits so long at most.
func NewPlaces(what string, total int, wait time.Duration) *Places {
	return &Places{what, wait, share.New[string](total, 0)}
}

// Enter waits for a place, until ctx ends or the wait is over: then it is
// refused as busy.
func (p *Places) Enter(ctx context.Context, peer string) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	leave, err = p.shared.Wait(ctx, peer)
	if full, ok := errors.AsType[*share.Full](err); ok && full.OfPeer {
		return nil, refusal.New(refusal.Busy, "the server is busy with %d %s of %s, its share: ask again", full.Most, p.what, peer)
	} else if ok {
		return nil, refusal.New(refusal.Busy, "the server is busy with %d %s: ask again", full.Most, p.what)
	}
	return leave, nil
}
