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
		s.config.Log.Warn("broken record put aside", "machine", id, "file", aside)
	}
}

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
