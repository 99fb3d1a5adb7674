package server

import (
	"context"
	"net/http"
	"time"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/machine"
)

// Forgotten is a machine that an operator has forgotten, and what that has
// made free. It can be taken back.
type Forgotten struct {
	ID          string    `json:"id"`
	DisplayName string    `json:"display_name"`
	MACs        []string  `json:"macs"`
	State       string    `json:"state"` // that it was in
	Section     string    `json:"section,omitempty"`
	Profile     string    `json:"profile,omitempty"` // that it held
	Counted     bool      `json:"counted,omitempty"` // it gave one count back
	CMDB        string    `json:"cmdb,omitempty"`    // the entry that it gave back, in Python syntax
	Entry       any       `json:"entry,omitempty"`   // the same as JSON
	Time        time.Time `json:"forgotten"`
}

// shownForgotten is the public form.
func shownForgotten(f allocation.Forgotten) Forgotten {
	r := f.Record
	shown := Forgotten{ID: r.ID, DisplayName: r.DisplayName(), MACs: r.MACs, State: string(r.State), Time: f.Time}
	if a := r.Allocation; a != nil {
		shown.Section, shown.Profile, shown.Counted = a.Section, a.Profile, a.Counted
		shown.CMDB, shown.Entry = a.Before, plainValues(a.Before)
	}
	return shown
}

// forget removes a machine's record; what it holds is given back.
func (s *Server) forget(ctx context.Context, name string, force bool) (Forgotten, error) {
	out, err := s.decide(ctx, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Forget(snapshot, name, force)
	}, alone, s.allSections()...)
	if err != nil {
		return Forgotten{}, err
	}
	s.dropProgress(out.Record.ID)
	return shownForgotten(allocation.Forgotten{Time: out.Lines[0].Time, Record: out.Record}), s.history.Unexplain(out.Record.ID)
}

// restore takes a forgotten machine back, with what it held.
func (s *Server) restore(ctx context.Context, name string) (machine.Record, error) {
	out, err := s.decide(ctx, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Restore(snapshot, name)
	}, alone, s.allSections()...)
	return out.Record, err
}

// deleteMachine answers DELETE /api/v1/machines/{id}.
func (s *Server) deleteMachine(w http.ResponseWriter, r *http.Request) {
	gone, err := s.forget(r.Context(), r.PathValue("id"), r.URL.Query().Get("force") == "1")
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusOK, gone)
}

// restoreMachine answers POST /api/v1/machines/{id}/restore.
func (s *Server) restoreMachine(w http.ResponseWriter, r *http.Request) {
	rec, err := s.restore(r.Context(), r.PathValue("id"))
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusOK, s.show(rec))
}

// listForgotten answers GET /api/v1/forgotten.
func (s *Server) listForgotten(w http.ResponseWriter, r *http.Request) {
	kept, broken, err := allocation.ReadForgotten(s.documents)
	s.tellNotes(broken)
	if err != nil {
		s.answerError(w, err)
		return
	}
	all := []Forgotten{}
	for _, k := range kept {
		all = append(all, shownForgotten(k))
	}
	answerJSON(w, http.StatusOK, all)
}
