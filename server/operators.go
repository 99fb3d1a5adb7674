package server

import (
	"context"
	"net/http"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
)

// addMachine answers POST /api/v1/machines.
func (s *Server) addMachine(w http.ResponseWriter, r *http.Request) {
	var body api.NewMachine
	if !s.readJSON(w, r, &body, "{\"mac\": \"52:54:00:12:34:56\", \"machine\": \"\"}") {
		return
	}
	mac, err := allocation.ParseMAC(body.MAC)
	if err != nil {
		s.answerError(w, err)
		return
	}
	out, err := s.decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Add(snapshot, mac, body.Machine)
	}, together)
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusCreated, s.show(out.Record))
}

// putSection sets the deployment that a machine belongs to. A MAC address that
// is not known yet becomes known.
func (s *Server) putSection(w http.ResponseWriter, r *http.Request) {
	var body api.NewSection
	if !s.readJSON(w, r, &body, "{\"section\": \"LAB\"}") {
		return
	}
	if body.Section != "" && s.deployments[body.Section] == nil {
		s.answerError(w, refusal.New(refusal.Input, "edeploy.conf has no section %q", refusal.Clip(body.Section, 100)))
		return
	}
	out, err := s.decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.SetSection(snapshot, r.PathValue("id"), body.Section)
	}, together)
	s.answer(w, s.show(out.Record), err)
}

// shownForgotten is the public form.
func shownForgotten(f allocation.Forgotten) api.Forgotten {
	r := f.Record
	shown := api.Forgotten{ID: r.ID, DisplayName: r.DisplayName(), MACs: r.MACs, State: string(r.State), Time: f.Time}
	if a := r.Allocation; a != nil {
		shown.Section, shown.Profile, shown.Counted = a.Section, a.Profile, a.Counted
		shown.CMDB, shown.Entry = a.Before, plainValues(a.Before)
	}
	return shown
}

// forget removes a machine's record; what it holds is given back.
func (s *Server) forget(ctx context.Context, name string, force bool) (api.Forgotten, error) {
	out, err := s.decide(ctx, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Forget(snapshot, name, force)
	}, alone, s.allSections()...)
	if err != nil {
		return api.Forgotten{}, err
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
	s.answer(w, gone, err)
}

// restoreMachine answers POST /api/v1/machines/{id}/restore.
func (s *Server) restoreMachine(w http.ResponseWriter, r *http.Request) {
	rec, err := s.restore(r.Context(), r.PathValue("id"))
	s.answer(w, s.show(rec), err)
}

// listForgotten answers GET /api/v1/forgotten.
func (s *Server) listForgotten(w http.ResponseWriter, r *http.Request) {
	kept, broken, err := allocation.ReadForgotten(s.documents)
	s.late.Note(broken)
	if err != nil {
		s.answerError(w, err)
		return
	}
	all := []api.Forgotten{}
	for _, k := range kept {
		all = append(all, shownForgotten(k))
	}
	answerJSON(w, http.StatusOK, all)
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

// deleteStrangers answers DELETE /api/v1/machines?strangers=1.
func (s *Server) deleteStrangers(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("strangers") != "1" {
		s.answerError(w, refusal.New(refusal.Input, "only the machines that nobody needs are forgotten together: say ?strangers=1"))
		return
	}
	n, err := s.forgetStrangers(r.Context())
	s.answer(w, api.ForgottenStrangers{Forgotten: n}, err)
}

// putBoot answers PUT /api/v1/machines/{id}/boot.
func (s *Server) putBoot(w http.ResponseWriter, r *http.Request) {
	var body api.NewBoot
	if !s.readJSON(w, r, &body, "{\"action\": \"reinstall\"}") {
		return
	}
	boot, err := machine.ParseBoot(body.Action)
	if err != nil {
		s.answerError(w, refusal.New(refusal.Input, "%v", err))
		return
	}
	rec, err := s.setBoot(r.Context(), r.PathValue("id"), boot)
	s.answer(w, s.show(rec), err)
}

// setBoot sets what the operator wants a machine to boot.
func (s *Server) setBoot(ctx context.Context, name string, boot machine.Boot) (machine.Record, error) {
	out, err := s.decide(ctx, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.SetBoot(snapshot, name, boot)
	}, together)
	return out.Record, err
}
