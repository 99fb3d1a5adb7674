package server

import (
	"context"

	"edeploy/server/wire"
)

// arrives counts a machine that is not known yet: one peer must not make
// machines known faster than they are looked at.
func (s *Server) arrives(peer string, is wire.Identity) error {
	if _, known, err := s.machines.find(is); known || err != nil {
		return nil // the decision says what is wrong
	}
	if !s.arrivals.take(peer, s.config.Now()) {
		return refuse(errBusy, "%s has made %d machines known within a minute, as many as it may: ask again", peer, s.config.Limits.NewPerPeer)
	}
	return nil
}

// makeRoom makes room for one more machine: of those that nobody needs, some
// of the oldest go.
func (s *Server) makeRoom(d *draft) error {
	known, most := s.machines.drafted, s.config.Limits.Machines
	if known.len() < most {
		return nil
	}
	ids := known.strangers()
	if len(ids) == 0 {
		return refuse(errBusy, "the server knows %d machines and takes no more: forget some of them", known.len())
	}
	d.removeForGood(ids[:min(len(ids), max(1, most/64))]...)
	return nil
}

// forgetStrangers forgets all machines that nobody needs, and answers how
// many.
func (s *Server) forgetStrangers(ctx context.Context) (int, error) {
	n := 0
	err := s.await(ctx, &errand{alone: true, decide: func(d *draft) error {
		ids := s.machines.drafted.strangers()
		n = len(ids)
		d.removeForGood(ids...)
		return nil
	}})
	return n, err
}
