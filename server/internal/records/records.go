// Package records keeps the records of all machines: in memory as a
// machine.Index, and each as a document of a store.
package records

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/store"
)

// collection of the store.
const collection = "machines"

// Records are those of one store. Anybody may read; one goroutine commits.
type Records struct {
	documents store.Store
	now       func() time.Time
	index     atomic.Pointer[machine.Index] // never changed, only replaced
	mu        sync.Mutex
	versions  map[string]store.Version // by id
	broken    map[string]error         // records that could not be read, by id
}

// Open reads all records. A broken one is put aside, see mend.
func Open(documents store.Store, now func() time.Time) (*Records, error) {
	r := &Records{documents: documents, now: now, versions: map[string]store.Version{}, broken: map[string]error{}}
	names, err := documents.List(collection)
	if err != nil {
		return nil, fmt.Errorf("read machine records: %w", err)
	}
	index := machine.NewIndex()
	for _, name := range names {
		if file, ok := strings.CutSuffix(name, ".json"); ok {
			r.read(index, strings.TrimPrefix(file, collection+"/"))
		}
	}
	r.index.Store(index)
	return r, nil
}

// Index is all records as they are on the disk. It must not be changed.
func (r *Records) Index() *machine.Index { return r.index.Load() }

// Broken are the errors of records that could not be read.
func (r *Records) Broken() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []error
	for _, id := range slices.Sorted(maps.Keys(r.broken)) {
		all = append(all, r.broken[id])
	}
	return all
}

// documentName is the name of a record's document.
func documentName(id string) string { return collection + "/" + id + ".json" }

// read reads one record anew.
func (r *Records) read(index *machine.Index, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.broken, id)
	delete(r.versions, id)
	name := documentName(id)
	doc, err := r.documents.Get(name)
	if errors.Is(err, store.ErrNotExist) {
		index.Remove(id)
		return
	}
	var is machine.Record
	if err == nil {
		is, err = decode(name, doc.Text)
	}
	version := doc.Version
	if err != nil {
		if is, version, err = r.mend(store.Document{Name: name, Text: doc.Text, Version: doc.Version}, err); err != nil {
			r.broken[id] = err
		}
	}
	if is.ID != "" {
		index.Put(is)
		r.versions[id] = version
	}
}

func decode(name string, text []byte) (machine.Record, error) {
	r, err := machine.Decode(text)
	if err == nil && documentName(r.ID) != name {
		err = fmt.Errorf("it holds the record of %s", r.ID)
	}
	return r, err
}

// Commit makes the records with these ids what they are in the index, together
// with changes of other documents: all of it or nothing. After an error these
// records are read anew, because somebody has edited one, or the change may
// have been made all the same.
func (r *Records) Commit(index *machine.Index, ids []string, others []store.Change) error {
	changes, err := r.changes(index, ids)
	if err != nil {
		return err
	}
	// The journal has the records first and the configuration directories after them.
	if err := r.documents.Commit(slices.Concat(changes, others)...); err != nil {
		fresh := r.Index().Clone()
		for _, id := range ids {
			r.read(fresh, id)
		}
		r.index.Store(fresh)
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, id := range ids {
		if changes[i].Delete {
			delete(r.versions, id)
		} else {
			r.versions[id] = store.VersionOf(changes[i].Text)
		}
	}
	r.index.Store(index)
	return nil
}

// changes are those of the records' documents, one for each id.
func (r *Records) changes(index *machine.Index, ids []string) ([]store.Change, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]store.Change, len(ids))
	for i, id := range ids {
		all[i] = store.Change{Name: documentName(id), Was: r.versions[id], Delete: true}
		if is, ok := index.Get(id); ok {
			text, err := is.Encode()
			if err != nil {
				return nil, err
			}
			all[i].Text, all[i].Delete = text, false
		}
	}
	return all, nil
}
