package admission

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"edeploy/server/share"

	"golang.org/x/time/rate"
)

// Bound is a number of places with a share for each peer. That one of the two
// is used up is said to who gets no place, and to the operator.
type Bound struct {
	what   string
	places *share.Places[netip.Addr]
	warn   func(format string, args ...any)
	said   rate.Sometimes
}

// NewBound makes total places, perPeer of them for each peer at most. What is
// their name in the sentences that warn gets, at most one a minute; nil:
// nobody.
func NewBound(what string, total, perPeer int, warn func(format string, args ...any)) *Bound {
	if warn == nil {
		warn = func(string, ...any) {}
	}
	return &Bound{what, share.New[netip.Addr](total, perPeer), warn, rate.Sometimes{Interval: time.Minute}}
}

// Take waits for a place until ctx ends, or for the time patience. The caller
// gives it back with leave.
func (b *Bound) Take(ctx context.Context, peer netip.Addr, patience time.Duration) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	leave, err = b.places.Wait(ctx, peer)
	if full, ok := errors.AsType[*share.Full](err); ok {
		err = b.used(full, peer)
	}
	return leave, err
}

// used tells the operator that there was no place, and answers what the peer is
// told.
func (b *Bound) used(up *share.Full, peer netip.Addr) error {
	err := fmt.Errorf("all %d places for %s are taken: ask again later", up.Most, b.what)
	if up.OfPeer {
		err = fmt.Errorf("%s has its share of %s already (%d at once): ask again later", peer, b.what, up.Most)
	}
	b.said.Do(func() { b.warn("%v", err) })
	return err
}
