package server

import (
	"context"
	"iter"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/wire"
)

// BootAction says what a machine boots now. It is found by the MAC address
// that asks and by its UUID, as its upload would find it (see
// machine.Index.Booting). A machine that nobody knows is to be installed.
func (s *Server) BootAction(mac, uuid string) wire.BootAction {
	r, ok, err := s.records.Index().Booting(mac, uuid)
	if err != nil {
		s.late.Refused(r.Section, "A machine asked what to boot, %v.", err)
	}
	if ok {
		s.activity.Booted(r.ID, r.BootAction(), s.config.Now())
		return r.BootAction()
	}
	return wire.BootInstall
}

// Known tells whether there is a record of the machine: it was installed here,
// has been in the agent, or an operator has added it. One whose identity is
// refused is known, too: BootAction decides about it.
func (s *Server) Known(mac, uuid string) bool {
	_, ok, err := s.records.Index().Booting(mac, uuid)
	return ok || err != nil
}

// BootDisks are the disks that the machine was installed on, the one with the
// boot loader first; none when nobody said.
func (s *Server) BootDisks(mac, uuid string) []wire.DiskID {
	r, _, _ := s.records.Index().Booting(mac, uuid)
	if r.BootDisk == "" {
		return nil
	}
	return r.Written()
}

// Loader is the loader that the machine is pinned to, one of api.Loaders; "":
// none.
func (s *Server) Loader(mac, uuid string) string {
	r, _, _ := s.records.Index().Booting(mac, uuid)
	return r.Loader
}

// Model is vendor and product of the machine, as it last said; "" is not known.
func (s *Server) Model(mac, uuid string) string {
	r, _, _ := s.records.Index().Booting(mac, uuid)
	return r.Model
}

// Tell takes an event of a boot service: about the machine with these MAC and
// UUID, or, without a MAC, about the service itself. It never waits.
func (s *Server) Tell(e api.Event) {
	e.Time, e.MAC = s.config.Now(), wire.NormalMAC(e.MAC)
	r, ok, _ := s.records.Index().Booting(e.MAC, e.UUID)
	if !ok {
		r.ID = ""
	}
	s.activity.Tell(r, e)
}

// BootSection is the deployment (section of edeploy.conf) that a machine
// belongs to: the one that the operator has set for it, else the default. The
// machine is known as in BootAction.
func (s *Server) BootSection(mac, uuid string) string {
	r, _, _ := s.records.Index().Booting(mac, uuid)
	return allocation.Section(s.site, r)
}

// Events are those after the one with this number, each with its own number; 0:
// from the first one. They come as they happen, until ctx ends. Nobody waits
// for a slow reader: of more than the last 4000 it misses the oldest, as their
// numbers show.
func (s *Server) Events(ctx context.Context, after uint64) iter.Seq2[uint64, api.Event] {
	return s.activity.Events(ctx, after)
}

// Problems are the mistakes in the configuration as it is now, what runs out,
// the machines that failed, then the last things that went wrong, newest last.
func (s *Server) Problems() []api.Problem { return s.problems.All() }

// BoundReached notes that a client has used up its share of something outside
// of this package. Anybody on the network can cause that, too.
func (s *Server) BoundReached(text string) { s.late.BoundReached(text) }
