package server

import (
	"encoding/json"
	"fmt"
	"net/http"

	"edeploy/server/internal/allocation"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/upload"
)

// BootSection is the deployment (section of edeploy.conf) that a machine
// belongs to: the one that the operator has set for it, else the default. The
// machine is known as in BootAction.
func (s *Server) BootSection(mac, uuid string) string {
	r, _, _ := s.records.Book().Booting(mac, uuid)
	return allocation.Section(s.site, r)
}

// defaultSection completes Config.BootSection; a set one must exist.
func defaultSection(config Config) (string, error) {
	switch {
	case config.BootSection != "":
		if _, ok := config.Deployments[config.BootSection]; !ok {
			return "", fmt.Errorf("boot section %s: edeploy.conf has no such section", config.BootSection)
		}
		return config.BootSection, nil
	case len(config.Deployments) == 1:
		for name := range config.Deployments {
			return name, nil
		}
	}
	return upload.DefaultSection, nil
}

// putSection sets the deployment that a machine belongs to. A MAC address that
// is not known yet becomes known.
func (s *Server) putSection(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Section string `json:"section"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAPIBytes)).Decode(&body); err != nil {
		s.answerError(w, refusal.New(refusal.Input, "want a body such as {\"section\": \"LAB\"}: %v", err))
		return
	}
	if body.Section != "" && s.deployments[body.Section] == nil {
		s.answerError(w, refusal.New(refusal.Input, "edeploy.conf has no section %q", refusal.Clip(body.Section, 100)))
		return
	}
	out, err := s.decide(r.Context(), func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.SetSection(snapshot, r.PathValue("id"), body.Section)
	}, together)
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusOK, s.show(out.Record))
}
