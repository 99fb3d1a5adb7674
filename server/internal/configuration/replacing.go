package configuration

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/state"
	"edeploy/server/internal/store"
)

// Result is what became of a replacement.
type Result struct {
	api.Replaced
	Versions map[string]store.Version // of the files that were given, as they are now, by name
}

// replacing is one replacement on its way.
type replacing struct {
	Replacement
	Result
	snapshot   *allocation.Snapshot
	collection string
	sections   []string // that have this directory
	changes    allocation.Changes
}

// Decide makes the whole change. With an error there is none.
func (q Replacement) Decide(snapshot *allocation.Snapshot) (Result, allocation.Changes, error) {
	r := &replacing{Replacement: q, Result: Result{Versions: map[string]store.Version{}}, snapshot: snapshot,
		collection: q.Deployment.Collection, sections: snapshot.Site.SectionsWith(q.Deployment.ConfigDir)}
	err := r.decide()
	return r.Result, r.changes, err
}

func (r *replacing) decide() error {
	for _, name := range r.names() {
		if err := r.put(name, r.Files[name]); err != nil {
			return err
		}
	}
	removed := r.Remove
	if r.Prune {
		var err error
		if removed, err = r.others(); err != nil {
			return err
		}
	}
	for _, name := range removed {
		if err := r.delete(name); err != nil {
			return err
		}
	}
	return nil
}

// get reads a file as it is now; the version says whether there is one.
func (r *replacing) get(name fileset.Name) (store.Document, error) {
	doc, err := r.snapshot.Documents.Get(r.collection + "/" + name.String())
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return doc, refusal.New(refusal.Broken, "%v", err)
	}
	return doc, nil
}

// getExpected is get for a file that was given: it must have the version that
// the operator has seen.
func (r *replacing) getExpected(name fileset.Name) (store.Document, error) {
	doc, err := r.get(name)
	if err != nil {
		return doc, err
	}
	if r.Expect != nil && !r.Expect(doc.Version) {
		if doc.Version == store.Absent {
			return doc, refusal.New(refusal.Precondition, "%s is not there any more: look again before you replace it", name)
		}
		return doc, refusal.New(refusal.Precondition, "%s was changed since you have read it: read it again before you replace it", name)
	}
	return doc, nil
}

// put replaces one file.
func (r *replacing) put(name fileset.Name, text string) error {
	is, err := r.getExpected(name)
	if err != nil {
		return err
	}
	switch name.Kind {
	case fileset.CMDB:
		if text, err = r.adopt(name.Profile, text); err != nil {
			return err
		}
	case fileset.State:
		r.compareStates(string(is.Text), text)
	}
	next := store.VersionOf([]byte(text))
	list := &r.Changed
	switch is.Version {
	case store.Absent:
		list = &r.Added
	case next:
		list = &r.Unchanged
	}
	*list = append(*list, name.String())
	r.Versions[name.String()] = next
	r.change(name, store.Change{Was: is.Version, Text: []byte(text)})
	return nil
}

func (r *replacing) change(name fileset.Name, c store.Change) {
	c.Name = r.collection + "/" + name.String()
	r.changes.Documents = append(r.changes.Documents, c)
}

// others are the profiles' files that were not given: what prune removes. It
// leaves state and authorized_keys alone. An original is no file of its own: it goes when its
// CMDB goes.
func (r *replacing) others() ([]fileset.Name, error) {
	documents, err := r.snapshot.Documents.List(r.collection)
	if err != nil {
		return nil, refusal.New(refusal.Broken, "%v", err)
	}
	var all []fileset.Name
	for _, document := range documents {
		name, err := fileset.ParseName(strings.TrimPrefix(document, r.collection+"/"))
		_, given := r.Files[name]
		if err == nil && !given && name.Profile != "" && name.Kind != fileset.Original {
			all = append(all, name)
		}
	}
	return all, nil
}

// delete removes one file; a CMDB takes its generate call along.
func (r *replacing) delete(name fileset.Name) error {
	is, err := r.getExpected(name)
	if err != nil {
		return err
	}
	if is.Version == store.Absent {
		return refusal.New(refusal.NoFile, "deployment %s has no file %s", r.Deployment.Name, name)
	}
	r.Removed = append(r.Removed, name.String())
	r.change(name, store.Change{Was: is.Version, Delete: true})
	if name.Kind != fileset.CMDB {
		return nil
	}
	for _, h := range r.holders(name.Profile) {
		r.warn("machine %s holds an entry of %s, which is gone: nobody keeps others from its addresses now", h.ID, name)
	}
	original := fileset.Name{Kind: fileset.Original, Profile: name.Profile}
	if is, err = r.get(original); err != nil || is.Version == store.Absent {
		return err
	}
	r.Removed = append(r.Removed, original.String())
	r.change(original, store.Change{Was: is.Version, Delete: true})
	return nil
}

// adopt answers a new CMDB with the entries that machines hold taken in it,
// and notes their records.
func (r *replacing) adopt(profile, text string) (string, error) {
	name := fileset.Name{Kind: fileset.CMDB, Profile: profile}
	f, err := cmdb.Parse(name.String(), text)
	if err != nil {
		return text, nil // it is forced; the next good one adopts
	}
	adoption, err := fileset.Adopt(f, r.holders(profile))
	if err != nil {
		return "", err
	}
	for _, h := range adoption.Lost {
		r.warn("machine %s holds an entry that %s has not any more: it keeps its addresses, and gets another entry when it asks again", h.ID, name)
	}
	for _, h := range adoption.Moved {
		rec, _ := r.snapshot.Machines.Get(h.ID)
		a := *rec.Allocation
		a.Before, a.After = literal.Repr(h.Before), literal.Repr(h.After)
		if a != *rec.Allocation {
			rec.Allocation = &a
			r.changes.Records = append(r.changes.Records, rec)
		}
	}
	if call := f.Original(); call != "" && adoption.Text != text {
		original := fileset.Name{Kind: fileset.Original, Profile: profile}
		is, err := r.get(original)
		if err != nil {
			return "", err
		}
		r.change(original, store.Change{Was: is.Version, Text: []byte(call)})
	}
	return adoption.Text, nil
}

// holders are the machines that hold entries of a profile's CMDB in this
// directory.
func (r *replacing) holders(profile string) []fileset.Holder {
	var all []fileset.Holder
	for _, rec := range r.snapshot.Machines.All() {
		if !r.holds(rec) || rec.Allocation.Profile != profile || rec.Allocation.After == "" {
			continue
		}
		h, err := fileset.NewHolder(rec.ID, rec.Allocation.Before, rec.Allocation.After)
		if err != nil {
			r.warn("machine %s: %v", rec.ID, err)
			continue
		}
		all = append(all, h)
	}
	return all
}

// holds: the machine holds a profile of this directory.
func (r *replacing) holds(rec machine.Record) bool {
	return rec.Allocation != nil && slices.Contains(r.sections, rec.Allocation.Section)
}

// compareStates says what a new state file changes for machines: counts, and
// profiles that machines hold and that it has no more.
func (r *replacing) compareStates(before, after string) {
	next, err := state.Parse("state", after)
	if err != nil {
		return
	}
	for _, rec := range r.snapshot.Machines.All() {
		if r.holds(rec) && next.Find(rec.Allocation.Profile) < 0 {
			r.warn("machine %s holds profile %s, which the new state does not have", rec.ID, rec.Allocation.Profile)
		}
	}
	if is, err := state.Parse("state", before); err == nil {
		r.Counts = countChanges(is, next)
	}
}

// countChanges lists the profiles whose count changes.
func countChanges(before, after *state.State) []string {
	count := func(s *state.State, profile string) string {
		i := s.Find(profile)
		switch {
		case i < 0:
			return "none"
		case s.Pairs()[i].Unlimited:
			return "*"
		}
		return fmt.Sprint(s.Pairs()[i].Count)
	}
	var all []string
	seen := map[string]bool{}
	for _, pair := range slices.Concat(before.Pairs(), after.Pairs()) {
		was, is := count(before, pair.Profile), count(after, pair.Profile)
		if was != is && !seen[pair.Profile] {
			all = append(all, fmt.Sprintf("%s: %s -> %s", pair.Profile, was, is))
		}
		seen[pair.Profile] = true
	}
	return all
}

func (r *replacing) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, api.Problem{Section: r.Deployment.Name, Text: fmt.Sprintf(format, args...), Warning: true})
}
