package server

import (
	"fmt"
	"regexp"
	"strings"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// mendRecords puts broken records aside before they are read, as ID.json.broken,
// and writes in their place what keeps the machines' disks: they count as
// installed until the operator says otherwise. What cannot be mended is left
// out and named, and keeps nobody from starting.
func (s *Server) mendRecords() {
	names, err := s.documents.List("machines")
	if err != nil {
		return // load says so
	}
	for _, name := range names {
		id, ok := strings.CutSuffix(strings.TrimPrefix(name, "machines/"), ".json")
		doc, err := s.documents.Get(name)
		if !ok || err != nil {
			continue
		}
		if _, err := decodeRecord(name, doc.Text); err == nil || !machine.ValidID(id) {
			continue
		}
		aside, err := s.mend(id, doc)
		if err != nil {
			s.problem("", "Broken record of machine %s: %v", id, err)
			continue
		}
		s.problem("", "The record of machine %s was broken and was put aside as %s. The machine boots its own disk and holds no profile: mend the file and put it back while edeployd is stopped, or edeployctl reinstall %s",
			id, aside, id)
	}
}

// mend replaces a broken record.
func (s *Server) mend(id string, doc store.Document) (aside string, err error) {
	aside = doc.Name + ".broken"
	was, err := s.versionOf(aside)
	if err != nil {
		return "", err
	}
	r := salvage(id, doc.Text)
	r.Since = s.config.Now()
	r.LastError = fmt.Sprintf("its record was broken and was put aside as %s", aside)
	text, err := r.Encode()
	if err != nil {
		return "", err
	}
	return aside, s.documents.Commit(store.Change{Name: aside, Was: was, Text: doc.Text}, store.Change{Name: doc.Name, Was: doc.Version, Text: text})
}

var (
	macText  = regexp.MustCompile(`\b([0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b`)
	uuidText = regexp.MustCompile(`"uuid":\s*"([0-9a-fA-F-]{36})"`)
)

// salvage makes a record of what a broken one still tells: addresses and UUID.
func salvage(id string, text []byte) machine.Record {
	r := machine.Record{ID: id, State: machine.Installed, Boot: machine.Auto}
	seen := map[string]bool{}
	for _, word := range append([]string{id}, macText.FindAllString(string(text), 4*machine.MaxMACs)...) {
		if mac := wire.NormalMAC(macText.FindString(word)); mac != "" && !seen[mac] && len(r.MACs) < machine.MaxMACs {
			seen[mac] = true
			r.MACs = append(r.MACs, mac)
		}
	}
	if found := uuidText.FindSubmatch(text); found != nil {
		r.UUID = strings.ToLower(string(found[1]))
	}
	return r
}
