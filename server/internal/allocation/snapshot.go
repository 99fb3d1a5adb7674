// Package allocation decides about machines: which profile one gets, gives back
// or takes again, which deployment it belongs to, what its reports and its
// operator make of it.
//
// Every decision is a function of a Snapshot and a request. It answers an
// Outcome, for those who asked, and Changes; nothing is changed before the
// caller applies them to the snapshot, and nothing is written here. An error is
// a *refusal.Error and means that there are no changes.
package allocation

import (
	"maps"
	"slices"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/assign"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/profile"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// Site is what the operator has set in edeploy.conf. It never changes.
type Site struct {
	Deployments map[string]*Deployment // by section
	Default     string                 // section of machines that the operator has given no other
	MaxMachines int                    // that are known
}

// Deployment is one section of edeploy.conf.
type Deployment struct {
	Name        string
	ConfigDir   string
	MetadataURL string          // handed to the agent as METADATA_URL; "": not
	PXEMngrURL  string          // handed on as PXEMNGR_URL; "": not
	Wipe        wire.WipePolicy // for data on disks that no installation has written; profiles may be stricter
	LockFile    string          // held while its documents change
	Collection  string          // of the store: its configuration directory
	Dir         *profile.Dir
}

// Sections are all sections, in their order.
func (s *Site) Sections() []string { return slices.Sorted(maps.Keys(s.Deployments)) }

// SectionsWith are those that have this configuration directory.
func (s *Site) SectionsWith(configDir string) []string {
	return slices.DeleteFunc(s.Sections(), func(name string) bool { return !s.sectionWith(name, configDir) })
}

// sectionWith: the section has this configuration directory.
func (s *Site) sectionWith(section, configDir string) bool {
	d := s.Deployments[section]
	return d != nil && d.ConfigDir == configDir
}

// Snapshot is all documents as a group of decisions sees them: as they were
// first read, with what the decisions before have made of them. It is for one
// goroutine.
type Snapshot struct {
	Site        *Site
	Time        time.Time      // of the decisions
	Machines    *machine.Index // records; Apply changes a clone
	Documents   store.Store    // others, to be read only
	cloned      bool
	directories map[string]*Directory // changed ones, by their path
	order       []string              // of their changes
	changed     []string              // ids of records
	lost        []string              // ids of machines
	documents   []store.Change        // others
}

// NewSnapshot has no changes yet.
func NewSnapshot(site *Site, now time.Time, index *machine.Index, documents store.Store) *Snapshot {
	return &Snapshot{Site: site, Time: now, Machines: index, Documents: documents, directories: map[string]*Directory{}}
}

// Changes are what one or more decisions make of the documents.
type Changes struct {
	Removed     []string         // ids of records; those go before the others come
	Records     []machine.Record // new or changed ones
	Lost        []string         // ids of machines whose histories go, if they do not come back
	Directories []*Directory     // configuration directories with changes
	Documents   []store.Change   // others
}

// Apply makes changes for the decisions that come after.
func (s *Snapshot) Apply(c Changes) {
	if !s.cloned && len(c.Removed)+len(c.Records) > 0 {
		s.Machines, s.cloned = s.Machines.Clone(), true
	}
	for _, id := range c.Removed {
		s.Machines.Remove(id)
		s.changed = append(s.changed, id)
	}
	for _, r := range c.Records {
		s.Machines.Put(r)
		s.changed = append(s.changed, r.ID)
	}
	for _, d := range c.Directories {
		if s.directories[d.ConfigDir] == nil {
			s.order = append(s.order, d.ConfigDir)
		}
		s.directories[d.ConfigDir] = d
	}
	s.lost = append(s.lost, c.Lost...)
	s.documents = append(s.documents, c.Documents...)
}

// ChangedRecords are the ids of the records that were changed or removed: the
// Index says which of it.
func (s *Snapshot) ChangedRecords() []string {
	return slices.Compact(slices.Sorted(slices.Values(s.changed)))
}

// ChangedDocuments are the other documents that were changed, those of the
// configuration directories included.
func (s *Snapshot) ChangedDocuments() ([]store.Change, error) {
	all := slices.Clone(s.documents)
	for _, dir := range s.order {
		files, err := s.directories[dir].changes(s.Documents)
		if err != nil {
			return nil, err
		}
		all = append(all, files...)
	}
	return all, nil
}

// Keep tells the configuration directories what is on the disk now, and
// answers what the operator should know about it.
func (s *Snapshot) Keep() []Note {
	var notes []Note
	for _, dir := range s.order {
		notes = append(notes, s.directories[dir].keep()...)
	}
	return notes
}

// Lost are the machines that are gone together with their histories.
func (s *Snapshot) Lost() []string {
	return slices.DeleteFunc(slices.Clone(s.lost), func(id string) bool {
		_, known := s.Machines.Get(id)
		return known
	})
}

// Outcome is what became of a request.
type Outcome struct {
	Record        machine.Record      // with the changes; ID "": nothing is known of the machine
	Configuration *wire.Configuration // nil: the machine gets none
	Refused       error               // why an allocation was refused, when that is noted in the record
	Decision      *assign.Decision    // the profile that fits; nil: none
	Tried         assign.Tries        // profiles that do not fit
	Lines         []api.HistoryLine   // for the machine's history
	Notes         []Note              // for the operator, also when there is an error
}

// NoteKind is how a note is told.
type NoteKind int

// The kinds.
const (
	Mistake NoteKind = iota // in a file; it is told as long as it is there
	Loss                    // something happened that the operator should look at
	Doubt                   // a machine was refused; any machine can cause it
)

// Note is a sentence for the operator.
type Note struct {
	Kind    NoteKind
	Section string
	Text    string
}

// word adds a line of the operator's doing to a record's history.
func word(s *Snapshot, r machine.Record, text string) Outcome {
	return Outcome{Record: r, Lines: []api.HistoryLine{{Time: s.Time, Step: "boot", Status: "note", Message: text}}}
}
