package server

import (
	"slices"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/store"
)

// draft is what the decisions of one turn make of the documents, before it is
// written: each decision sees what those before it have changed, and all of
// them are committed together.
type draft struct {
	server  *Server
	views   map[string]*view // by configuration directory
	order   []string         // directories
	records map[string]machine.Record
	changed []string       // ids
	removed []string       // ids
	files   []store.Change // further ones
	lost    []string       // ids whose histories go
}

func newDraft(s *Server) *draft {
	return &draft{server: s, views: map[string]*view{}, records: map[string]machine.Record{}}
}

// view is a deployment's configuration directory for one decision.
func (d *draft) view(of *deployment) *view { return newView(of, d.views[of.ConfigDir]) }

// accept takes on what a decision has made: its records and views.
func (d *draft) accept(records []machine.Record, views ...*view) {
	for _, v := range views {
		if d.views[v.ConfigDir] == nil {
			d.order = append(d.order, v.ConfigDir)
		}
		d.views[v.ConfigDir] = v
	}
	for _, r := range records {
		d.removed = slices.DeleteFunc(d.removed, func(id string) bool { return id == r.ID })
		if _, ok := d.records[r.ID]; !ok {
			d.changed = append(d.changed, r.ID)
		}
		d.records[r.ID] = r
		d.server.machines.drafted.put(r)
	}
}

// remove takes records out.
func (d *draft) remove(ids ...string) {
	for _, id := range ids {
		d.server.machines.drafted.remove(id)
		if _, ok := d.records[id]; ok {
			delete(d.records, id)
			d.changed = slices.DeleteFunc(d.changed, func(changed string) bool { return changed == id })
		}
		if _, ok := d.server.machines.get(id); ok && !slices.Contains(d.removed, id) {
			d.removed = append(d.removed, id)
		}
	}
}

// removeForGood removes records together with their histories.
func (d *draft) removeForGood(ids ...string) {
	d.remove(ids...)
	d.lost = append(d.lost, ids...)
}

// add takes on a whole change.
func (d *draft) add(c change) {
	d.accept(c.put)
	d.remove(c.remove...)
	d.files = append(d.files, c.files...)
}

// change is all that the decisions have made.
func (d *draft) change() (change, error) {
	c := change{remove: d.removed, files: d.files}
	for _, id := range d.changed {
		c.put = append(c.put, d.records[id])
	}
	for _, dir := range d.order {
		files, err := d.views[dir].changes(d.server.documents)
		if err != nil {
			return change{}, err
		}
		c.files = append(c.files, files...)
	}
	return c, nil
}

// kept is called when the change is on the disk.
func (d *draft) kept() {
	for _, dir := range d.order {
		v := d.views[dir]
		v.keep()
		for _, text := range v.edits() {
			d.server.problem(v.name, "%s", text)
		}
	}
	for _, id := range d.lost {
		if _, known := d.server.machines.get(id); known {
			continue
		}
		d.server.progress.remove(id)
		d.server.booted.remove(id)
		d.server.explanations.finish(id)
		if err := d.server.history.Remove(id); err != nil {
			d.server.problem("", "%v", err)
		}
	}
}
