package server

import (
	"context"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/machine"
	"edeploy/server/wire"
)

// BootAction says what a machine boots now. It is found by the MAC address
// that asks and by its UUID, as its upload would find it (see
// machine.Book.Booting). A machine that nobody knows is to be installed.
func (s *Server) BootAction(mac, uuid string) wire.BootAction {
	r, ok, err := s.records.Book().Booting(mac, uuid)
	if err != nil {
		s.refused(r.Section, "A machine asked what to boot, %v.", err)
	}
	if ok {
		s.booted.set(r.ID, r.BootAction(), s.config.Now())
		return r.BootAction()
	}
	return wire.BootInstall
}

// BootDisk is the disk that the machine was installed on; "" when nobody said.
func (s *Server) BootDisk(mac, uuid string) wire.DiskID {
	r, _, _ := s.records.Book().Booting(mac, uuid)
	return r.BootDisk
}

// Tell takes an event of a boot service: about the machine with these MAC and
// UUID, or about the service itself. It never waits.
func (s *Server) Tell(e api.Event) {
	e.Time = s.config.Now()
	e.MAC = wire.NormalMAC(e.MAC)
	if r, ok, _ := s.records.Book().Booting(e.MAC, e.UUID); ok {
		e.Machine, e.Name = r.ID, r.DisplayName()
		s.booted.say(r.ID, e.Message)
	}
	s.events.Append(e)
}

// record tells what happened to a machine, and waits until its history has it.
// That it cannot be written is no reason to stop anything; it becomes a problem.
func (s *Server) record(ctx context.Context, r machine.Record, lines []api.HistoryLine) {
	all := make([]api.Event, len(lines))
	for i, l := range lines {
		all[i] = api.Event{Time: l.Time, Machine: r.ID, Name: r.DisplayName(), Step: l.Step, Status: l.Status, Message: l.Message, Seconds: l.Seconds}
	}
	_ = s.history.Await(ctx, s.events.Append(all...))
}

// BootSection is the deployment (section of edeploy.conf) that a machine
// belongs to: the one that the operator has set for it, else the default. The
// machine is known as in BootAction.
func (s *Server) BootSection(mac, uuid string) string {
	r, _, _ := s.records.Book().Booting(mac, uuid)
	return allocation.Section(s.site, r)
}
