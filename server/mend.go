package server

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// asides are the files of the state directory that were put aside, until they
// are removed.
func (s *Server) asides() []Problem {
	var all []Problem
	at := func(pattern string) []string {
		found, _ := filepath.Glob(filepath.Join(s.config.StateDir, pattern)) // the pattern is good
		return found
	}
	for _, path := range at("machines/*.json.broken") {
		id := strings.TrimSuffix(filepath.Base(path), ".json.broken")
		all = append(all, Problem{File: path, Text: fmt.Sprintf("the record of machine %s was broken and was put aside as %s; since then it counts as installed and holds no profile: mend the file and put it back while edeployd is stopped, or edeployctl reinstall %s; then remove it", id, path, id)})
	}
	for _, path := range at("journal.broken*") {
		all = append(all, Problem{File: path, Text: fmt.Sprintf("%s was no journal of a change and was put aside: compare the counts and CMDB entries with the list of machines, then remove it", path)})
	}
	return all
}

// mend puts a broken record aside, as ID.json.broken, and writes in its place
// what keeps the machine's disk: it counts as installed until the operator says
// otherwise. The answer holds in memory also when it cannot be written.
func (m *machines) mend(doc store.Document, why error) (machine.Record, store.Version, error) {
	id := strings.TrimSuffix(strings.TrimPrefix(doc.Name, "machines/"), ".json")
	if !machine.ValidID(id) {
		return machine.Record{}, store.Absent, fmt.Errorf("machine record %s: %w", doc.Name, why)
	}
	aside := doc.Name + ".broken"
	r := salvage(id, doc.Text)
	r.Since = m.now()
	r.LastError = fmt.Sprintf("its record was broken and was put aside as %s", aside)
	text, err := r.Encode()
	if err == nil {
		err = m.putAside(aside, doc, text)
	}
	if err != nil {
		return r, doc.Version, fmt.Errorf("machine record %s: %w; it cannot be put aside: %w", doc.Name, why, err)
	}
	return r, store.VersionOf(text), nil
}

func (m *machines) putAside(aside string, doc store.Document, text []byte) error {
	was, err := versionOf(m.documents, aside)
	if err != nil {
		return err
	}
	return m.documents.Commit(store.Change{Name: aside, Was: was, Text: doc.Text}, store.Change{Name: doc.Name, Was: doc.Version, Text: text})
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
