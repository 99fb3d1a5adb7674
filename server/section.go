package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"
)

// BootSection is the deployment (section of edeploy.conf) that a machine
// belongs to: the one that the operator has set for it, else the default. The
// machine is known as in BootAction.
func (s *Server) BootSection(mac, uuid string) string {
	r, _, _ := s.machines.booting(mac, uuid)
	return s.sectionOf(r)
}

func (s *Server) sectionOf(r machine.Record) string {
	if r.BootSection != "" {
		return r.BootSection
	}
	return s.config.BootSection
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

// admitSection finds the deployment of an upload. Where there are several, a
// machine has no choice: it gets the one that it belongs to, and may name that
// or the default one, which every boot names that does not know better.
func (s *Server) admitSection(named string, is wire.Identity) (*deployment, error) {
	if len(s.deployments) == 1 {
		return s.deployments[named], nil
	}
	r, _, err := s.machines.find(is)
	if err != nil {
		return nil, refuseIdentity("hardware description", err)
	}
	section := s.sectionOf(r)
	if named != section && named != s.config.BootSection && named != upload.DefaultSection {
		who := "a machine that is not known yet"
		if r.ID != "" {
			who = "machine " + r.ID
		}
		return nil, refuse(errForbidden, "%s belongs to deployment %s and may not choose %s: the operator can set it", who, section, named)
	}
	d := s.deployments[section]
	if d == nil {
		return nil, refuse(errInput, "edeploy.conf has no section %q", section)
	}
	return d, nil
}

// putSection sets the deployment that a machine belongs to. A MAC address that
// is not known yet becomes known.
func (s *Server) putSection(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Section string `json:"section"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAPIBytes)).Decode(&body); err != nil {
		s.answerError(w, refuse(errInput, "want a body such as {\"section\": \"LAB\"}: %v", err))
		return
	}
	if body.Section != "" && s.deployments[body.Section] == nil {
		s.answerError(w, refuse(errInput, "edeploy.conf has no section %q", clipText(body.Section, 100)))
		return
	}
	rec, err := s.setSection(r.Context(), r.PathValue("id"), body.Section)
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusOK, s.show(rec))
}

func (s *Server) setSection(ctx context.Context, name, section string) (machine.Record, error) {
	var r machine.Record
	err := s.together(ctx, func(d *draft) error {
		known, err := s.knownOrNew(d, name)
		if err != nil {
			return err
		}
		r = known
		r.BootSection = section
		d.accept([]machine.Record{r})
		return nil
	})
	if err != nil {
		return r, err
	}
	words := "the operator gives it the deployment " + section
	if section == "" {
		words = "the operator gives it the default deployment, " + s.config.BootSection
	}
	s.record(r, history.Line{Time: s.config.Now(), Step: "boot", Status: "note", Message: words})
	return r, nil
}

// knownOrNew finds a machine, or makes a record of a MAC address; for who has
// the turn.
func (s *Server) knownOrNew(d *draft, name string) (machine.Record, error) {
	known := s.machines.drafted
	r, err := known.named(name)
	mac := wire.NormalMAC(name)
	if mac == "" || err == nil {
		return r, err
	}
	if err := s.makeRoom(d); err != nil {
		return machine.Record{}, err
	}
	noticed, err := known.notice(wire.Identity{MACs: []string{mac}})
	if err != nil {
		return machine.Record{}, refuseIdentity("set section", err)
	}
	noticed.Record.Since = s.config.Now()
	return noticed.Record, nil
}
