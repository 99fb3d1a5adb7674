// Package records keeps the records of all machines: in memory as a
// machine.Index, and each as a document of a store.
package records

import (
	"context"
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
	revision  store.Revision           // of the documents; what came later is to be followed
	versions  map[string]store.Version // by id
	broken    map[string]error         // records that could not be read, by id
}

// Open reads all records. A broken one is put aside, see mend.
func Open(documents store.Store, now func() time.Time) (*Records, error) {
	r := &Records{documents: documents, now: now, versions: map[string]store.Version{}, broken: map[string]error{}}
	index := machine.NewIndex()
	ids, err := r.start()
	if err != nil {
		return nil, fmt.Errorf("read machine records: %w", err)
	}
	for _, id := range ids {
		r.read(index, id)
	}
	r.index.Store(index)
	return r, nil
}

// start notes the present revision and answers the ids of all records, those
// included that may be gone.
func (r *Records) start() ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revision = r.documents.Revision()
	names, err := r.documents.List(collection)
	ids := slices.Collect(maps.Keys(r.versions))
	for _, name := range names {
		if id := idOf(name); id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// idOf is the id of the record that a document has; "": it has none.
func idOf(document string) string {
	file, ok := strings.CutPrefix(document, collection+"/")
	id, isRecord := strings.CutSuffix(file, ".json")
	if !ok || !isRecord {
		return ""
	}
	return id
}

// Follow takes in what others who share the store make of records, until ctx
// ends. alone calls its argument when nobody commits; after an error it is asked
// again.
func (r *Records) Follow(ctx context.Context, alone func(func()) error) error {
	for ctx.Err() == nil {
		ids, err := r.others(ctx)
		if err != nil {
			return fmt.Errorf("follow machine records: %w", err)
		}
		for len(ids) > 0 && ctx.Err() == nil && alone(func() { r.readAgain(ids) }) != nil { // busy
		}
	}
	return nil
}

// others waits for changes, and answers the ids of those records that are not
// as this process has left them.
func (r *Records) others(ctx context.Context) ([]string, error) {
	changed, revision, err := r.documents.Watch(ctx, r.revision)
	if errors.Is(err, store.ErrCompacted) {
		return r.start()
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock() // after a commit that is on its way
	defer r.mu.Unlock()
	r.revision = revision
	is := map[string]store.Version{}
	for _, c := range changed {
		if id := idOf(c.Name); id != "" {
			is[id] = c.Version
		}
	}
	maps.DeleteFunc(is, func(id string, v store.Version) bool { return r.versions[id] == v })
	return slices.Collect(maps.Keys(is)), nil
}

// readAgain reads these records anew.
func (r *Records) readAgain(ids []string) {
	fresh := r.Index().Clone()
	for _, id := range ids {
		r.read(fresh, id)
	}
	r.index.Store(fresh)
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
	if err := r.commit(index, ids, others); err != nil {
		r.readAgain(ids)
		return err
	}
	if len(ids) > 0 {
		r.index.Store(index)
	}
	return nil
}

func (r *Records) commit(index *machine.Index, ids []string, others []store.Change) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	changes, err := r.changes(index, ids)
	if err != nil {
		return err
	}
	// The journal has the records first and the configuration directories after them.
	if err := r.documents.Commit(slices.Concat(changes, others)...); err != nil {
		return err
	}
	for i, id := range ids {
		if changes[i].Delete {
			delete(r.versions, id)
		} else {
			r.versions[id] = store.VersionOf(changes[i].Text)
		}
	}
	return nil
}

// changes are those of the records' documents, one for each id.
func (r *Records) changes(index *machine.Index, ids []string) ([]store.Change, error) {
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
