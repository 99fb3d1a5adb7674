package server

import (
	"context"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// arrives counts a machine that is not known yet: one peer must not make
// machines known faster than they are looked at.
func (s *Server) arrives(peer string, is wire.Identity) error {
	if _, known, err := s.records.Book().Find(is); known || err != nil {
		return nil // the decision says what is wrong
	}
	if !s.arrivals.Take(peer, s.config.Now()) {
		return refusal.New(refusal.Busy, "%s has made %d machines known within a minute, as many as it may: ask again", peer, s.config.Limits.NewPerPeer)
	}
	return nil
}

// forgetStrangers forgets all machines that nobody needs, and answers how
// many.
func (s *Server) forgetStrangers(ctx context.Context) (int, error) {
	n := 0
	_, err := s.decide(ctx, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		c := allocation.ForgetStrangers(snapshot)
		n = len(c.Removed)
		return allocation.Outcome{}, c, nil
	}, alone)
	return n, err
}
