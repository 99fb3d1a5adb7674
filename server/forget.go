package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/store"
)

// Forgotten is a machine that an operator has forgotten, and what that has
// made free. It can be taken back.
type Forgotten struct {
	ID          string    `json:"id"`
	DisplayName string    `json:"display_name"`
	MACs        []string  `json:"macs"`
	State       string    `json:"state"` // that it was in
	Section     string    `json:"section,omitempty"`
	Profile     string    `json:"profile,omitempty"` // that it held
	Counted     bool      `json:"counted,omitempty"` // it gave one count back
	CMDB        string    `json:"cmdb,omitempty"`    // the entry that it gave back, in Python syntax
	Entry       any       `json:"entry,omitempty"`   // the same as JSON
	Time        time.Time `json:"forgotten"`
}

// keptAside is the document of a forgotten machine.
type keptAside struct {
	Forgotten time.Time      `json:"forgotten"`
	Record    machine.Record `json:"record"`
}

// maxForgotten is how many forgotten machines can be taken back.
const maxForgotten = 200

// errUnknownMachine: no record has that name.
var errUnknownMachine = errors.New("no such machine")

func forgottenName(id string) string { return "forgotten/" + id + ".json" }

// shown is the public form.
func (k keptAside) shown() Forgotten {
	r := k.Record
	f := Forgotten{ID: r.ID, DisplayName: displayName(r), MACs: r.MACs, State: string(r.State), Time: k.Forgotten}
	if a := r.Allocation; a != nil {
		f.Section, f.Profile, f.Counted = a.Section, a.Profile, a.Counted
		f.CMDB, f.Entry = a.Before, plainValues(a.Before)
	}
	return f
}

// frees says in words what forgetting a machine makes free.
func frees(r machine.Record) string {
	a := r.Allocation
	if a == nil {
		return "it holds no profile"
	}
	free := []string{"profile " + a.Profile}
	if a.Counted {
		free = append(free, "one count")
	}
	if a.After != "" {
		free = append(free, "the CMDB entry "+clipText(a.Before, 300))
	}
	if len(free) == 1 {
		return free[0] + " becomes free for others"
	}
	return strings.Join(free[:len(free)-1], ", ") + " and " + free[len(free)-1] + " become free for others"
}

// forget removes a machine's record; what it holds is given back. The record
// is kept aside, so that the machine can be taken back.
func (s *Server) forget(ctx context.Context, name string, force bool) (Forgotten, error) {
	var aside keptAside
	err := s.await(ctx, &errand{alone: true, sections: normal(s.allSections()), decide: func(d *draft) error {
		r, err := s.machines.drafted.named(name)
		if err != nil {
			return err
		}
		if r.State == machine.Installed && !force {
			return refuse(errConflict, "machine %s (%s) is installed and may be running: when it is forgotten, %s, and it is installed again when it boots from the network. If that is wanted: edeployctl forget --force %s",
				r.ID, displayName(r), frees(r), r.ID)
		}
		aside = keptAside{Forgotten: s.config.Now(), Record: r}
		return s.decideForgetting(d, aside)
	}})
	if err != nil {
		return Forgotten{}, err
	}
	id := aside.Record.ID
	s.progress.remove(id)
	s.booted.remove(id)
	s.explanations.finish(id)
	s.record(aside.Record, history.Line{Time: aside.Forgotten, Step: "boot", Status: "note", Message: "the operator forgets it: " + frees(aside.Record)})
	return aside.shown(), s.history.Unexplain(id)
}

func (s *Server) decideForgetting(d *draft, aside keptAside) error {
	r := aside.Record
	if r.Allocation != nil {
		views, err := s.release(d, r)
		if err != nil {
			return err
		}
		d.accept(nil, views...)
	}
	text, err := json.MarshalIndent(aside, "", "  ")
	if err != nil {
		return fmt.Errorf("keep machine %s aside: %w", r.ID, err)
	}
	was, err := versionOf(s.documents, forgottenName(r.ID))
	if err != nil {
		return err
	}
	d.remove(r.ID)
	d.files = append(d.files, store.Change{Name: forgottenName(r.ID), Was: was, Text: append(text, '\n')})
	return s.dropOldest(d, r.ID)
}

// versionOf is the present version of a document.
func versionOf(documents store.Store, name string) (store.Version, error) {
	doc, err := documents.Get(name)
	if errors.Is(err, store.ErrNotExist) {
		return store.Absent, nil
	}
	return doc.Version, err
}

// dropOldest removes the forgotten machines beyond the bound, when another one
// comes.
func (s *Server) dropOldest(d *draft, coming string) error {
	infos, err := s.documents.Infos("forgotten")
	if err != nil {
		return err
	}
	infos = slices.DeleteFunc(infos, func(is store.Info) bool { return is.Name == forgottenName(coming) })
	slices.SortFunc(infos, func(a, b store.Info) int { return a.Modified.Compare(b.Modified) })
	for _, is := range infos[:max(0, len(infos)-maxForgotten+1)] {
		was, err := versionOf(s.documents, is.Name)
		if err != nil {
			return err
		}
		d.files = append(d.files, store.Change{Name: is.Name, Was: was, Delete: true})
		d.lost = append(d.lost, strings.TrimSuffix(path.Base(is.Name), ".json"))
	}
	return nil
}

// forgotten reads the forgotten machines, the last one first. One that cannot
// be read is left out and becomes a problem.
func (s *Server) forgotten() ([]keptAside, error) {
	names, err := s.documents.List("forgotten")
	if err != nil {
		return nil, err
	}
	var all []keptAside
	for _, name := range names {
		var k keptAside
		doc, err := s.documents.Get(name)
		if err == nil {
			err = json.Unmarshal(doc.Text, &k)
		}
		if err != nil {
			s.problem("", "Forgotten machine %s cannot be read: %v", name, err)
			continue
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b keptAside) int { return b.Forgotten.Compare(a.Forgotten) })
	return all, nil
}

// restore takes a forgotten machine back, with what it held: that must still
// be free. What the machine has reported meanwhile stays.
func (s *Server) restore(ctx context.Context, word string) (machine.Record, error) {
	var r machine.Record
	err := s.await(ctx, &errand{alone: true, sections: normal(s.allSections()), decide: func(d *draft) error {
		all, err := s.forgotten()
		if err != nil {
			return err
		}
		aside, err := chooseForgotten(all, word)
		if err != nil {
			return err
		}
		r, err = s.decideRestoring(d, aside)
		return err
	}})
	if err != nil {
		return r, err
	}
	s.record(r, history.Line{Time: s.config.Now(), Step: "boot", Status: "note", Message: "the operator takes it back, with what it held"})
	return r, nil
}

// chooseForgotten finds the machine that an operator means.
func chooseForgotten(all []keptAside, word string) (keptAside, error) {
	var found []keptAside
	var ids []string
	for _, k := range all {
		if machine.NewBook(k.Record).Named(word, displayName) != nil {
			found, ids = append(found, k), append(ids, k.Record.ID)
		}
	}
	switch len(found) {
	case 0:
		return keptAside{}, refuse(errUnknownMachine, "no forgotten machine is known as %s: GET /api/v1/forgotten lists them", clipText(word, 100))
	case 1:
		return found[0], nil
	}
	return keptAside{}, refuse(errConflict, "%d forgotten machines are called %s: say which, %s", len(found), clipText(word, 100), strings.Join(ids[:min(len(ids), maxNamed)], " "))
}

func (s *Server) decideRestoring(d *draft, aside keptAside) (machine.Record, error) {
	r := aside.Record
	known := s.machines.drafted
	for _, mac := range r.MACs {
		other, ok := known.byMAC(mac)
		switch {
		case !ok:
		case other.Allocation != nil:
			return r, refuse(errConflict, "machine %s has the address %s and holds profile %s since: forget it first, or leave it", other.ID, mac, other.Allocation.Profile)
		default: // it has come back as a stranger
			if other.Image.Role != "" {
				r.Image = other.Image
			}
			if other.State == machine.Installed {
				r.State, r.Since, r.LastError = other.State, other.Since, other.LastError
			}
			d.remove(other.ID)
		}
	}
	if _, taken := known.get(r.ID); taken {
		return r, refuse(errConflict, "another machine is known as %s: forget it first", r.ID)
	}
	if r.Allocation != nil {
		v, err := s.takeAgain(d, r)
		if err != nil {
			return r, err
		}
		d.accept(nil, v)
	}
	was, err := versionOf(s.documents, forgottenName(r.ID))
	if err != nil {
		return r, err
	}
	d.accept([]machine.Record{r})
	d.files = append(d.files, store.Change{Name: forgottenName(r.ID), Was: was, Delete: true})
	return r, nil
}

// takeAgain answers the configuration directory after a machine has taken
// again what it held.
func (s *Server) takeAgain(d *draft, r machine.Record) (*view, error) {
	a := r.Allocation
	of := s.deployments[a.Section]
	if of == nil {
		return nil, refuse(errConflict, "machine %s held profile %s of deployment %s, which edeploy.conf has no more", r.ID, a.Profile, a.Section)
	}
	v := d.view(of)
	files, err := assign.Restore(v, a.Holding, s.heldByOthers(r.ID, of.ConfigDir))
	if err != nil {
		return nil, refuse(errConflict, "machine %s cannot be taken back: %v", r.ID, err)
	}
	v.apply(files)
	return v, nil
}

// deleteMachine answers DELETE /api/v1/machines/{id}.
func (s *Server) deleteMachine(w http.ResponseWriter, r *http.Request) {
	gone, err := s.forget(r.Context(), r.PathValue("id"), r.URL.Query().Get("force") == "1")
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusOK, gone)
}

// restoreMachine answers POST /api/v1/machines/{id}/restore.
func (s *Server) restoreMachine(w http.ResponseWriter, r *http.Request) {
	rec, err := s.restore(r.Context(), r.PathValue("id"))
	if err != nil {
		s.answerError(w, err)
		return
	}
	answerJSON(w, http.StatusOK, s.show(rec))
}

// listForgotten answers GET /api/v1/forgotten.
func (s *Server) listForgotten(w http.ResponseWriter, r *http.Request) {
	kept, err := s.forgotten()
	if err != nil {
		s.answerError(w, err)
		return
	}
	all := []Forgotten{}
	for _, k := range kept {
		all = append(all, k.shown())
	}
	answerJSON(w, http.StatusOK, all)
}
