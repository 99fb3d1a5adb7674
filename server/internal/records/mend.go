package records

import (
	"fmt"
	"regexp"
	"strings"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// mend puts a broken record aside, as ID.json.broken, and writes in its place
// what keeps the machine's disk: it counts as installed until the operator says
// otherwise. The answer holds in memory also when it cannot be written.
func (r *Records) mend(doc store.Document, why error) (machine.Record, store.Version, error) {
	id := strings.TrimSuffix(strings.TrimPrefix(doc.Name, collection+"/"), ".json")
	if !machine.ValidID(id) {
		return machine.Record{}, store.Absent, fmt.Errorf("machine record %s: %w", doc.Name, why)
	}
	aside := doc.Name + ".broken"
	is := salvage(id, doc.Text)
	is.Since = r.now()
	is.LastError = fmt.Sprintf("its record was broken and was put aside as %s", aside)
	text, err := is.Encode()
	if err == nil {
		err = r.putAside(aside, doc, text)
	}
	if err != nil {
		return is, doc.Version, fmt.Errorf("machine record %s: %w; it cannot be put aside: %w", doc.Name, why, err)
	}
	return is, store.VersionOf(text), nil
}

func (r *Records) putAside(aside string, doc store.Document, text []byte) error {
	was, err := r.documents.Version(aside)
	if err != nil {
		return err
	}
	return r.documents.Commit(store.Change{Name: aside, Was: was, Text: doc.Text}, store.Change{Name: doc.Name, Was: doc.Version, Text: text})
}

// Aside are the ids of the machines whose broken records were put aside, until
// somebody removes those.
func (r *Records) Aside() (ids []string) {
	names, _ := r.documents.List(collection) // of those that cannot be listed, nothing is known
	for _, name := range names {
		if file, ok := strings.CutSuffix(name, ".json.broken"); ok {
			ids = append(ids, strings.TrimPrefix(file, collection+"/"))
		}
	}
	return ids
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
