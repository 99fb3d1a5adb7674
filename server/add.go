package server

import (
	"encoding/json"
	"net/http"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/refusal"
)

// NewMachine is the operator's word about a MAC address: it belongs to a known
// machine, or is a machine of its own, which is to be installed.
type NewMachine struct {
	MAC     string `json:"mac"`
	Machine string `json:"machine,omitempty"` // that has the adapter; "": it is a machine of its own
}

// addMachine answers POST /api/v1/machines.
func (s *Server) addMachine(w http.ResponseWriter, r *http.Request) {
	var body NewMachine
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAPIBytes)).Decode(&body); err != nil {
		s.answerError(w, refusal.New(refusal.Input, "want a body such as {\"mac\": \"52:54:00:12:34:56\", \"machine\": \"\"}: %v", err))
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
