package server

import (
	"context"
	"encoding/json"
	"net/http"

	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
	"edeploy/server/wire"
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
		s.answerError(w, refuse(errInput, "want a body such as {\"mac\": \"52:54:00:12:34:56\", \"machine\": \"\"}: %v", err))
		return
	}
	rec, err := s.add(r.Context(), body)
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusCreated, s.show(rec))
}

func (s *Server) add(ctx context.Context, q NewMachine) (machine.Record, error) {
	mac := wire.NormalMAC(q.MAC)
	if mac == "" {
		return machine.Record{}, refuse(errInput, "%q is no MAC address", clipText(q.MAC, 100))
	}
	var now machine.Admission
	err := s.together(ctx, func(d *draft) (err error) {
		if now, err = s.decideAddition(d, mac, q.Machine); err != nil {
			return err
		}
		d.accept(append([]machine.Record{now.Record}, now.Others...))
		return nil
	})
	if err != nil {
		return machine.Record{}, err
	}
	words := "the operator says that " + mac + " is a machine of its own, to be installed"
	if q.Machine != "" {
		words = "the operator says that it has the adapter " + mac
	}
	s.record(now.Record, history.Line{Time: s.config.Now(), Step: "boot", Status: "note", Message: words})
	return now.Record, nil
}

// decideAddition is for who has the turn.
func (s *Server) decideAddition(d *draft, mac, owner string) (machine.Admission, error) {
	known := s.machines.drafted
	if owner != "" {
		r, err := known.named(owner)
		if err != nil {
			return machine.Admission{}, err
		}
		now, err := known.join(r, mac)
		if err != nil {
			return now, refuseIdentity("add "+mac, err)
		}
		return now, nil
	}
	now := known.own(mac)
	if now.New {
		if err := s.makeRoom(d); err != nil {
			return now, err
		}
		now.Record.Since = s.config.Now()
	}
	return now, nil
}
