package server

import (
	"net/http"

	"edeploy/server/api"
	"edeploy/server/internal/machine"
	"edeploy/server/wire"
)

// historyShown is how many lines the API shows.
const historyShown = 500

// maxAPIBytes bounds the body of an API request.
const maxAPIBytes = 4 << 10

func (s *Server) operatorRoutes() []route {
	return []route{
		{"GET", "/api/v1/machines", s.listMachines},
		{"POST", "/api/v1/machines", s.addMachine},
		{"DELETE", "/api/v1/machines", s.deleteStrangers},
		{"GET", "/api/v1/machines/{id}", s.showMachine},
		{"GET", "/api/v1/machines/{id}/explanation", s.showExplanation},
		{"PUT", "/api/v1/machines/{id}/section", s.putSection},
		{"DELETE", "/api/v1/machines/{id}", s.deleteMachine},
		{"POST", "/api/v1/machines/{id}/restore", s.restoreMachine},
		{"GET", "/api/v1/forgotten", s.listForgotten},
		{"GET", "/api/v1/machines/{id}/hardware", s.showHardware},
		{"GET", "/api/v1/machines/{id}/logs", s.listLogs},
		{"GET", "/api/v1/machines/{id}/logs/{name}", s.showLog},
		{"PUT", "/api/v1/machines/{id}/boot", s.putBoot},
		{"GET", "/api/v1/config", s.listConfig},
		{"PUT", "/api/v1/config/{section}", s.putConfigFiles},
		{"GET", "/api/v1/config/{section}/{name}", s.showConfigFile},
		{"PUT", "/api/v1/config/{section}/{name}", s.putConfigFile},
		{"DELETE", "/api/v1/config/{section}/{name}", s.deleteConfigFile},
		{"GET", "/api/v1/version", s.showVersion},
		{"GET", "/api/v1/problems", s.showProblems},
	}
}

func (s *Server) showMachine(w http.ResponseWriter, r *http.Request) {
	rec, err := s.named(r.PathValue("id"))
	if err != nil {
		s.answerError(w, err)
		return
	}
	m := s.show(rec)
	lines, err := s.history.Tail(rec.ID, historyShown)
	if err != nil {
		s.late.Add(rec.Section, "%v", err)
	}
	m.History = lines
	answerJSON(w, http.StatusOK, m)
}

// show makes the public form of a record.
func (s *Server) show(r machine.Record) api.Machine {
	m := api.Machine{ID: r.ID, DisplayName: r.DisplayName(), MACs: r.MACs, FormerMACs: r.FormerMACs, UUID: r.UUID, Serial: r.Serial,
		Name: r.Name, Hardware: r.HardwareFile, Section: r.Section, BootSection: r.BootSection, State: string(r.State), Since: r.Since,
		Boot: string(r.Boot), NextBoot: r.BootAction(), LastError: r.LastError}
	if r.Image != (wire.ImageRef{}) {
		m.Image = &r.Image
	}
	if a := r.Allocation; a != nil {
		m.Allocation = &api.Allocation{Profile: a.Profile, Section: a.Section, Counted: a.Counted, Var: a.Var, Variables: plainValues(a.Var),
			CMDB: a.After, Entry: plainValues(a.After), Given: a.Given, Asked: a.Asked, Installed: a.Installed}
	}
	m.Now, m.Progress = s.activity.Of(r, s.config.Now())
	return m
}

func (s *Server) showVersion(w http.ResponseWriter, r *http.Request) {
	answer := api.Version{Version: s.config.Version, Protocol: wire.Protocol}
	if s.config.DHCPFirst.IsValid() {
		answer.DHCP = &api.AddressRange{First: s.config.DHCPFirst, Last: s.config.DHCPLast}
	}
	answerJSON(w, http.StatusOK, answer)
}

func (s *Server) showProblems(w http.ResponseWriter, r *http.Request) {
	answerJSON(w, http.StatusOK, s.Problems())
}
