package server

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// machines is the book of all machines together with its documents. Only who
// has the turn changes it; reading is free.
type machines struct {
	documents store.Store
	now       func() time.Time
	shelf            // what is on the disk
	drafted   *shelf // with what the decisions of this turn have made of it; for who has the turn
	versions  map[string]store.Version
	broken    []error // records that could not be read
}

// shelf is a book that many read.
type shelf struct {
	mu   sync.RWMutex
	book *machine.Book
}

func (m *shelf) put(r machine.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.book.Put(r)
}

// recordName is the name of a record's document.
func recordName(id string) string { return "machines/" + id + ".json" }

func (m *shelf) remove(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.book.Remove(id)
}

// load reads all records anew. A broken one is put aside, see mend.
func (m *machines) load() error {
	names, err := m.documents.List("machines")
	if err != nil {
		return fmt.Errorf("read machine records: %w", err)
	}
	book, drafted, versions := machine.NewBook(), machine.NewBook(), map[string]store.Version{}
	var broken []error
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		doc, err := m.documents.Get(name)
		var r machine.Record
		if err == nil {
			r, err = decodeRecord(name, doc.Text)
		}
		version := doc.Version
		if err != nil {
			if r, version, err = m.mend(store.Document{Name: name, Text: doc.Text, Version: doc.Version}, err); err != nil {
				broken = append(broken, err)
			}
		}
		if r.ID == "" {
			continue
		}
		book.Put(r)
		drafted.Put(r)
		versions[r.ID] = version
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.book, m.drafted, m.versions, m.broken = book, &shelf{book: drafted}, versions, broken
	return nil
}

func decodeRecord(name string, text []byte) (machine.Record, error) {
	r, err := machine.Decode(text)
	if err == nil && recordName(r.ID) != name {
		err = fmt.Errorf("it holds the record of %s", r.ID)
	}
	return r, err
}

// change is what one commit does.
type change struct {
	put    []machine.Record
	remove []string       // ids of records
	files  []store.Change // of configuration directories
}

// commit makes the change, all of it or nothing. After an error the records
// are read anew, because the change may have been made all the same.
func (m *machines) commit(c change) error {
	changes, records, err := m.encode(c)
	if err != nil {
		return err
	}
	if err := m.documents.Commit(changes...); err != nil {
		return errors.Join(err, m.load())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, r := range c.put {
		m.book.Put(r)
		m.versions[r.ID] = store.VersionOf(records[i])
	}
	for _, id := range c.remove {
		m.book.Remove(id)
		delete(m.versions, id)
	}
	return nil
}

// encode makes the documents. The record comes first in the journal's order
// and the files of the configuration directory after it.
func (m *machines) encode(c change) (changes []store.Change, records [][]byte, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, r := range c.put {
		text, err := r.Encode()
		if err != nil {
			return nil, nil, err
		}
		records = append(records, text)
		changes = append(changes, store.Change{Name: recordName(r.ID), Was: m.versions[r.ID], Text: text})
	}
	for _, id := range c.remove {
		changes = append(changes, store.Change{Name: recordName(id), Was: m.versions[id], Delete: true})
	}
	return append(changes, c.files...), records, nil
}

// all, get and the others read the book.

func (m *shelf) all() []machine.Record {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.All()
}

// ids are those of all machines, sorted.
func (m *shelf) ids() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.IDs()
}

func (m *shelf) len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Len()
}

// get finds a machine by its id.
func (m *shelf) get(id string) (machine.Record, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Get(id)
}

// named finds the machine that an operator means: by its id, by one of its MAC
// addresses, or by its name as lists show it.
func (m *shelf) named(word string) (machine.Record, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	found := m.book.Named(word, displayName)
	switch len(found) {
	case 0:
		return machine.Record{}, refuse(errUnknownMachine, "no machine is known as %s", clipText(word, 100))
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, r := range found[:min(len(found), maxNamed)] {
		ids = append(ids, r.ID)
	}
	return machine.Record{}, refuse(errConflict, "%d machines are called %s: say which, %s", len(found), clipText(word, 100), strings.Join(ids, " "))
}

// isNew: no record has this id.
func (m *shelf) isNew(r machine.Record) bool {
	_, known := m.get(r.ID)
	return !known
}

// strangers are the ids of the machines that nobody needs, oldest first.
func (m *shelf) strangers() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Strangers()
}

// maxNamed bounds the ids that a refusal lists.
const maxNamed = 10

func (m *shelf) own(mac string) machine.Admission {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Own(mac)
}

func (m *shelf) join(r machine.Record, mac string) (machine.Admission, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Join(r, mac)
}

func (m *shelf) byMAC(mac string) (machine.Record, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.ByMAC(mac)
}

func (m *shelf) booting(mac, uuid string) (machine.Record, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Booting(mac, uuid)
}

func (m *shelf) admit(is wire.Identity) (machine.Admission, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Admit(is)
}

func (m *shelf) find(is wire.Identity) (machine.Record, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Find(is)
}

func (m *shelf) notice(is wire.Identity) (machine.Admission, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.book.Notice(is)
}

// heldByOthers answers whether a CMDB entry of a profile is held by another
// machine than id.
func (m *shelf) heldByOthers(id string, sections func(string) bool) func(profile, entry string) bool {
	var held map[[2]string]bool // made when it is first asked for
	return func(profile, entry string) bool {
		if held == nil {
			held = map[[2]string]bool{}
			for _, r := range m.all() {
				if a := r.Allocation; a != nil && r.ID != id && a.After != "" && sections(a.Section) {
					held[[2]string{a.Profile, a.After}] = true
				}
			}
		}
		return held[[2]string{profile, entry}]
	}
}

func (m *machines) brokenRecords() []error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.broken
}
