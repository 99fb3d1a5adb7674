package server

import (
	"slices"
	"sync"

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

// Note adds what a boot service has to say to a machine's history. Words about
// a machine that is not known yet are kept in memory until it is.
func (s *Server) Note(mac, uuid, message string) {
	line := api.HistoryLine{Time: s.config.Now(), Step: "boot", Status: "note", Message: message}
	if r, ok, _ := s.records.Book().Booting(mac, uuid); ok {
		s.booted.say(r.ID, message)
		s.record(r, line)
		return
	}
	mac = wire.NormalMAC(mac)
	s.notes.add(mac, line)
	s.tell(api.Event{Time: line.Time, Name: mac, Step: line.Step, Status: line.Status, Message: message})
}

// record adds lines to a machine's history and tells them. That the history
// cannot be written is no reason to stop anything; it becomes a problem.
func (s *Server) record(r machine.Record, lines ...api.HistoryLine) {
	if err := s.history.Append(r.ID, false, s.notes.take(r.MACs, lines...)...); err != nil {
		s.problem(r.Section, "%v", err)
	}
	for _, l := range lines {
		s.tell(api.Event{Time: l.Time, Machine: r.ID, Name: r.DisplayName(), Step: l.Step, Status: l.Status, Message: l.Message, Seconds: l.Seconds})
	}
}

// Bounds of the notes about machines that are not known: any device on the
// network can cause some.
const (
	maxNoted     = 1000
	notesPerName = 10
)

// noteTable keeps the last words about MAC addresses that nobody knows.
type noteTable struct {
	mu    sync.Mutex
	notes map[string][]api.HistoryLine
	order []string // of arrival
}

func newNoteTable() *noteTable { return &noteTable{notes: map[string][]api.HistoryLine{}} }

func (t *noteTable) add(mac string, line api.HistoryLine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mac == "" {
		return
	}
	if _, ok := t.notes[mac]; !ok {
		t.order = append(t.order, mac)
	}
	all := append(t.notes[mac], line)
	t.notes[mac] = all[max(0, len(all)-notesPerName):]
	if len(t.order) > maxNoted {
		delete(t.notes, t.order[0])
		t.order = t.order[1:]
	}
}

// take answers the lines with what was noted about these addresses before
// them, and forgets the notes.
func (t *noteTable) take(macs []string, lines ...api.HistoryLine) []api.HistoryLine {
	t.mu.Lock()
	defer t.mu.Unlock()
	var before []api.HistoryLine
	for _, mac := range macs {
		if noted, ok := t.notes[mac]; ok {
			before = append(before, noted...)
			delete(t.notes, mac)
			t.order = slices.DeleteFunc(t.order, func(s string) bool { return s == mac })
		}
	}
	return append(before, lines...)
}

// BootSection is the deployment (section of edeploy.conf) that a machine
// belongs to: the one that the operator has set for it, else the default. The
// machine is known as in BootAction.
func (s *Server) BootSection(mac, uuid string) string {
	r, _, _ := s.records.Book().Booting(mac, uuid)
	return allocation.Section(s.site, r)
}
