package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/lint"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/state"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// replacement is a wish to replace or remove configuration files together.
type replacement struct {
	deployment *deployment
	files      map[fileset.Name]string  // new texts
	remove     []fileset.Name           // must be there
	prune      bool                     // remove all other files of profiles
	expect     func(store.Version) bool // of the only file's version, for compare and swap; nil: whatever it is
	force      bool                     // store broken files, too
}

// brokenFiles refuses files that could not be used.
type brokenFiles struct {
	problems []api.Problem
	error    // a *refusal.Error
}

func (e *brokenFiles) Unwrap() error { return e.error }

// replace checks the new files and makes the change: all of it or nothing, in
// turn with the machines. CMDB entries that machines hold stay theirs. versions
// are those of the files that were given, as they are now, by name.
func (s *Server) replace(ctx context.Context, q replacement) (out api.Replaced, versions map[string]store.Version, err error) {
	warnings, err := q.check()
	if err != nil {
		return out, nil, err
	}
	_, err = s.decide(ctx, func(snapshot *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		r := &replacing{snapshot: snapshot, replacement: q, collection: allocation.Collection(q.deployment.name)}
		c, err := r.decide()
		out, versions = r.out, r.versions
		return allocation.Outcome{}, c, err
	}, alone, s.sectionsWith(q.deployment.ConfigDir)...)
	if err != nil {
		return api.Replaced{}, nil, err
	}
	out.Warnings = clipProblems(slices.Concat(warnings, out.Warnings, q.deployment.complaints(q.files, s.images())))
	s.config.Log.Info("configuration replaced", "deployment", q.deployment.name, "added", out.Added, "changed", out.Changed, "removed", out.Removed, "forced", q.force)
	return out, versions, nil
}

// sectionsWith are the deployments that share a configuration directory.
func (s *Server) sectionsWith(configDir string) []string {
	return slices.DeleteFunc(s.allSections(), func(name string) bool { return s.deployments[name].ConfigDir != configDir })
}

// check reads the new files; mistakes refuse the whole replacement, unless it
// is forced.
func (q replacement) check() (warnings []api.Problem, err error) {
	var broken []api.Problem
	for _, name := range sortedNames(maps.Keys(q.files)) {
		for _, p := range fileset.Check(name, q.files[name]) {
			found := api.Problem{Section: q.deployment.name, File: p.File, Line: p.Line, Column: p.Column, Text: p.Text, Warning: p.Warning || q.force}
			if found.Warning {
				warnings = append(warnings, found)
			} else {
				broken = append(broken, found)
			}
		}
	}
	for _, p := range q.scripts() {
		if p.Warning {
			warnings = append(warnings, p)
		} else {
			broken = append(broken, p)
		}
	}
	for _, name := range q.remove {
		if name.Kind == fileset.State && !q.force {
			broken = append(broken, api.Problem{Section: q.deployment.name, File: name.String(), Text: "state: without this file no machine gets anything"})
		}
	}
	if len(broken) > 0 {
		return nil, &brokenFiles{broken, refusal.New(refusal.Unusable, "nothing is changed: %s", broken[0].Text)}
	}
	return warnings, nil
}

// scripts are the mistakes in new configuration scripts, in the words of lint;
// what specs and CMDB give them is left to edeployctl, which sees all files.
func (q replacement) scripts() []api.Problem {
	var all []api.Problem
	for _, name := range sortedNames(maps.Keys(q.files)) {
		if name.Kind != fileset.Configure || len(fileset.Check(name, q.files[name])) > 0 {
			continue
		}
		for _, f := range lint.Script(name.String(), q.files[name]) {
			all = append(all, api.Problem{Section: q.deployment.name, File: f.File, Line: f.Line, Column: f.Column, Text: f.Where() + ": " + f.Text, Warning: q.force})
		}
	}
	return all
}

func sortedNames(names func(func(fileset.Name) bool)) []fileset.Name {
	return slices.SortedFunc(names, func(x, y fileset.Name) int { return cmp.Compare(x.String(), y.String()) })
}

// complaints are the present problems of the deployment about other files
// than those given, whose problems are known already.
func (d *deployment) complaints(given map[fileset.Name]string, images []wire.ImageRef) []api.Problem {
	return slices.DeleteFunc(slices.Concat(d.problems(), d.supplies(images, false)), func(p api.Problem) bool {
		for name := range given {
			if p.File != "" && strings.HasSuffix(p.File, "/"+name.String()) || strings.HasPrefix(p.Text, name.String()+":") {
				return true
			}
		}
		return false
	})
}

// maxWarnings bounds what an answer tells.
const maxWarnings = 50

func clipProblems(all []api.Problem) []api.Problem {
	if len(all) > maxWarnings {
		more := len(all) - maxWarnings
		all = append(all[:maxWarnings:maxWarnings], api.Problem{Text: fmt.Sprintf("and %d more", more), Warning: true})
	}
	return all
}

// replacing is one replacement on its way.
type replacing struct {
	replacement
	snapshot   *allocation.Snapshot
	collection string
	out        api.Replaced
	versions   map[string]store.Version // of the files that were given, as they are now
	changes    []store.Change
	records    map[string]machine.Record // of machines whose entry has changed
}

// decide makes the whole change. It is asked again when a file was edited
// meanwhile.
func (r *replacing) decide() (allocation.Changes, error) {
	r.versions, r.records = map[string]store.Version{}, map[string]machine.Record{}
	for _, name := range sortedNames(maps.Keys(r.files)) {
		if err := r.put(name, r.files[name]); err != nil {
			return allocation.Changes{}, err
		}
	}
	doomed := r.remove
	if r.prune {
		var err error
		if doomed, err = r.others(); err != nil {
			return allocation.Changes{}, err
		}
	}
	for _, name := range doomed {
		if err := r.delete(name); err != nil {
			return allocation.Changes{}, err
		}
	}
	c := allocation.Changes{Documents: r.changes}
	for _, id := range slices.Sorted(maps.Keys(r.records)) {
		c.Records = append(c.Records, r.records[id])
	}
	return c, nil
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
	if r.expect != nil && !r.expect(doc.Version) {
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
	list := &r.out.Changed
	switch is.Version {
	case store.Absent:
		list = &r.out.Added
	case next:
		list = &r.out.Unchanged
	}
	*list = append(*list, name.String())
	r.versions[name.String()] = next
	r.change(name, store.Change{Was: is.Version, Text: []byte(text)})
	return nil
}

func (r *replacing) change(name fileset.Name, c store.Change) {
	c.Name = r.collection + "/" + name.String()
	r.changes = append(r.changes, c)
}

// others are the profiles' files that were not given: what prune removes. It
// leaves the state alone. An original is no file of its own: it goes when its
// CMDB goes.
func (r *replacing) others() ([]fileset.Name, error) {
	documents, err := r.snapshot.Documents.List(r.collection)
	if err != nil {
		return nil, refusal.New(refusal.Broken, "%v", err)
	}
	var all []fileset.Name
	for _, document := range documents {
		name, err := fileset.ParseName(strings.TrimPrefix(document, r.collection+"/"))
		_, given := r.files[name]
		if err == nil && !given && name.Kind != fileset.State && name.Kind != fileset.Original {
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
		return refusal.New(refusal.NoFile, "deployment %s has no file %s", r.deployment.name, name)
	}
	r.out.Removed = append(r.out.Removed, name.String())
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
	r.out.Removed = append(r.out.Removed, original.String())
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
		rec, _ := r.snapshot.Book.Get(h.ID)
		a := *rec.Allocation
		a.Before, a.After = literal.Repr(h.Before), literal.Repr(h.After)
		if a != *rec.Allocation {
			rec.Allocation = &a
			r.records[h.ID] = rec
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
	for _, rec := range r.snapshot.Book.All() {
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
	if rec.Allocation == nil {
		return false
	}
	d := r.snapshot.Site.Deployments[rec.Allocation.Section]
	return d != nil && d.ConfigDir == r.deployment.ConfigDir
}

// compareStates says what a new state file changes for machines: counts, and
// profiles that machines hold and that it has no more.
func (r *replacing) compareStates(before, after string) {
	next, err := state.Parse("state", after)
	if err != nil {
		return
	}
	for _, rec := range r.snapshot.Book.All() {
		if r.holds(rec) && next.Find(rec.Allocation.Profile) < 0 {
			r.warn("machine %s holds profile %s, which the new state does not have", rec.ID, rec.Allocation.Profile)
		}
	}
	if is, err := state.Parse("state", before); err == nil {
		r.out.Counts = countChanges(is, next)
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
	r.out.Warnings = append(r.out.Warnings, api.Problem{Section: r.deployment.name, Text: fmt.Sprintf(format, args...), Warning: true})
}
