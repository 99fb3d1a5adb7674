package images

import (
	"net/http"

	"edeploy/server/api"
	"edeploy/server/wire"
)

func (s *Server) upgrades(w http.ResponseWriter, r *http.Request, list func() ([]api.Upgrade, error)) {
	if !allow(w, r, http.MethodGet) {
		return
	}
	upgrades, err := list()
	s.answer(w, upgrades, err)
}

// upgrade answers for the metadata of one upgrade.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, from wire.ImageRef, to string) {
	if !allow(w, r, http.MethodGet, http.MethodPut, http.MethodDelete) {
		return
	}
	switch r.Method {
	case http.MethodPut:
		if leave, ok := s.admit(w, r); ok {
			defer leave()
			s.putUpgrade(w, r, from, to)
		}
	case http.MethodDelete:
		if err := s.catalog.DeleteUpgrade(from, to); err != nil {
			s.fail(w, err)
			return
		}
		s.log.Info("upgrade deleted", "role", from.Role, "from", from.Version, "to", to, "peer", r.RemoteAddr)
		w.WriteHeader(http.StatusNoContent)
	default:
		u, err := s.catalog.Upgrade(from, to)
		s.answer(w, u, err)
	}
}

// putUpgrade takes a tar of the metadata. If-None-Match: * (RFC 9110 section
// 13.1.2) keeps another upgrade from being replaced.
func (s *Server) putUpgrade(w http.ResponseWriter, r *http.Request, from wire.ImageRef, to string) {
	u, err := s.catalog.PutUpgrade(r.Context(), from, to, uploaded{r.Body}, r.Header.Get("If-None-Match") == "*")
	if err != nil {
		s.log.Warn("put upgrade", "role", from.Role, "from", from.Version, "to", to, "peer", r.RemoteAddr, "err", err)
		s.fail(w, err)
		return
	}
	s.log.Info("upgrade published", "role", from.Role, "from", from.Version, "to", to, "state", string(u.State), "peer", r.RemoteAddr)
	status := http.StatusOK
	if u.State == api.UpgradeNew {
		status = http.StatusCreated
	}
	writeJSON(w, status, u)
}
