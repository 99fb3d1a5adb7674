package allocation

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"edeploy/server/internal/assign"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
)

// Forgotten is the document of a machine that an operator has forgotten. It can
// be taken back.
type Forgotten struct {
	Time   time.Time      `json:"forgotten"`
	Record machine.Record `json:"record"`
}

// maxForgotten is how many forgotten machines can be taken back.
const maxForgotten = 200

// ForgottenName is the name of the document.
func ForgottenName(id string) string { return "forgotten/" + id + ".json" }

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
		free = append(free, "the CMDB entry "+refusal.Clip(a.Before, 300))
	}
	if len(free) == 1 {
		return free[0] + " becomes free for others"
	}
	return strings.Join(free[:len(free)-1], ", ") + " and " + free[len(free)-1] + " become free for others"
}

// Forget removes a machine's record; what it holds is given back. The record
// is kept aside, so that the machine can be taken back. One that is installed
// must be forced. It goes with no other decision.
func Forget(s *Snapshot, name string, force bool) (Outcome, Changes, error) {
	r, err := Named(s.Machines, name)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	if r.State == machine.Installed && !force {
		return Outcome{}, Changes{}, refusal.New(refusal.Conflict, "machine %s (%s) is installed and may be running: when it is forgotten, %s, and it is installed again when it boots from the network. If that is wanted: edeployctl forget --force %s",
			r.ID, r.DisplayName(), frees(r), r.ID)
	}
	out := word(s, r, "the operator forgets it: "+frees(r))
	c, err := keepAside(s, r)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	if r.Allocation != nil {
		if c.Directories, out.Notes, err = release(s, r); err != nil {
			return out, Changes{}, err
		}
	}
	c.Removed = []string{r.ID}
	return out, c, nil
}

// keepAside writes the document of a machine that is forgotten now, and
// removes the oldest beyond the bound.
func keepAside(s *Snapshot, r machine.Record) (Changes, error) {
	text, err := json.MarshalIndent(Forgotten{s.Time, r}, "", "  ")
	if err != nil {
		return Changes{}, fmt.Errorf("keep machine %s aside: %w", r.ID, err)
	}
	name := ForgottenName(r.ID)
	was, err := s.Documents.Version(name)
	if err != nil {
		return Changes{}, err
	}
	c := Changes{Documents: []store.Change{{Name: name, Was: was, Text: append(text, '\n')}}}
	infos, err := s.Documents.Infos("forgotten")
	if err != nil {
		return Changes{}, err
	}
	infos = slices.DeleteFunc(infos, func(is store.Info) bool { return is.Name == name })
	slices.SortFunc(infos, func(a, b store.Info) int { return a.Modified.Compare(b.Modified) })
	for _, is := range infos[:max(0, len(infos)-maxForgotten+1)] {
		was, err := s.Documents.Version(is.Name)
		if err != nil {
			return Changes{}, err
		}
		c.Documents = append(c.Documents, store.Change{Name: is.Name, Was: was, Delete: true})
		c.Lost = append(c.Lost, strings.TrimSuffix(path.Base(is.Name), ".json"))
	}
	return c, nil
}

// ReadForgotten reads the forgotten machines, the last one first. One that
// cannot be read is left out, and broken says so.
func ReadForgotten(documents store.Store) (all []Forgotten, broken []Note, err error) {
	names, err := documents.List("forgotten")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		var f Forgotten
		doc, err := documents.Get(name)
		if err == nil {
			err = json.Unmarshal(doc.Text, &f)
		}
		if err != nil {
			broken = append(broken, Note{Kind: Loss, Text: fmt.Sprintf("Forgotten machine %s cannot be read: %v", name, err)})
			continue
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Forgotten) int { return b.Time.Compare(a.Time) })
	return all, broken, nil
}

// Restore takes a forgotten machine back, with what it held: that must still
// be free. What the machine has reported meanwhile stays. It goes with no other
// decision.
func Restore(s *Snapshot, name string) (Outcome, Changes, error) {
	all, broken, err := ReadForgotten(s.Documents)
	if err != nil {
		return Outcome{}, Changes{}, err
	}
	f, err := chooseForgotten(all, name)
	if err != nil {
		return Outcome{Notes: broken}, Changes{}, err
	}
	r, c, err := restore(s, f.Record)
	if err != nil {
		return Outcome{Notes: broken}, Changes{}, err
	}
	out := word(s, r, "the operator takes it back, with what it held")
	out.Notes = broken
	return out, c, nil
}

// chooseForgotten finds the machine that an operator means.
func chooseForgotten(all []Forgotten, word string) (Forgotten, error) {
	var found []Forgotten
	var ids []string
	for _, k := range all {
		if machine.NewIndex(k.Record).Named(word) != nil {
			found, ids = append(found, k), append(ids, k.Record.ID)
		}
	}
	switch len(found) {
	case 0:
		return Forgotten{}, refusal.New(refusal.UnknownMachine, "no forgotten machine is known as %s: GET /api/v1/forgotten lists them", refusal.Clip(word, 100))
	case 1:
		return found[0], nil
	}
	return Forgotten{}, refusal.New(refusal.Conflict, "%d forgotten machines are called %s: say which, %s", len(found), refusal.Clip(word, 100), strings.Join(ids[:min(len(ids), maxNamed)], " "))
}

func restore(s *Snapshot, r machine.Record) (machine.Record, Changes, error) {
	var c Changes
	index := s.Machines.Clone() // without those that are replaced
	for _, mac := range r.MACs {
		other, ok := index.ByMAC(mac)
		switch {
		case !ok:
		case other.Allocation != nil:
			return r, c, refusal.New(refusal.Conflict, "machine %s has the address %s and holds profile %s since: forget it first, or leave it", other.ID, mac, other.Allocation.Profile)
		default: // it has come back as a stranger
			if other.Image.Role != "" {
				r.Image = other.Image
			}
			if other.State == machine.Installed {
				r.State, r.Since, r.LastError = other.State, other.Since, other.LastError
			}
			index.Remove(other.ID)
			c.Removed = append(c.Removed, other.ID)
		}
	}
	if _, taken := index.Get(r.ID); taken {
		return r, c, refusal.New(refusal.Conflict, "another machine is known as %s: forget it first", r.ID)
	}
	if r.Allocation != nil {
		d, err := takeAgain(s, r)
		if err != nil {
			return r, c, err
		}
		c.Directories = []*Directory{d}
	}
	was, err := s.Documents.Version(ForgottenName(r.ID))
	if err != nil {
		return r, c, err
	}
	c.Records = []machine.Record{r}
	c.Documents = []store.Change{{Name: ForgottenName(r.ID), Was: was, Delete: true}}
	return r, c, nil
}

// takeAgain answers the configuration directory after a machine has taken
// again what it held.
func takeAgain(s *Snapshot, r machine.Record) (*Directory, error) {
	a := r.Allocation
	of := s.Site.Deployments[a.Section]
	if of == nil {
		return nil, refusal.New(refusal.Conflict, "machine %s held profile %s of deployment %s, which edeploy.conf has no more", r.ID, a.Profile, a.Section)
	}
	d := s.Directory(of)
	files, err := assign.Restore(d, a.Holding, others(s, r.ID, of.ConfigDir))
	if err != nil {
		return nil, refusal.New(refusal.Conflict, "machine %s cannot be taken back: %v", r.ID, err)
	}
	d.Apply(files)
	return d, nil
}
