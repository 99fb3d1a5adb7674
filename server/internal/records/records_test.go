package records_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/machine"
	"edeploy/server/internal/records"
	"edeploy/server/internal/store"
	"edeploy/server/wire"
)

// counted counts the documents that are read.
type counted struct {
	store.Store
	gets int
}

func (c *counted) Get(name string) (store.Document, error) {
	c.gets++
	return c.Store.Get(name)
}

func record(id string) machine.Record {
	return machine.Record{ID: id, Identity: wire.Identity{MACs: []string{strings.ReplaceAll(id, "-", ":")}}, State: machine.Unknown, Boot: machine.Auto}
}

const a, b, c = "52-54-00-00-00-0a", "52-54-00-00-00-0b", "52-54-00-00-00-0c"

// TestConflict: when an operator has edited a record, nothing is written; the
// records of the change are read again, and no others.
func TestConflict(t *testing.T) {
	documents := &counted{Store: store.NewMemory()}
	kept, err := records.Open(documents, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(change func(*machine.Index), ids ...string) error {
		next := kept.Index().Clone()
		change(next)
		return kept.Commit(next, ids, nil)
	}
	if err := commit(func(index *machine.Index) {
		for _, id := range []string{a, b, c} {
			index.Put(record(id))
		}
	}, a, b, c); err != nil {
		t.Fatal(err)
	}
	edited := record(a)
	edited.Boot = machine.Hold
	text, err := edited.Encode()
	if err != nil {
		t.Fatal(err)
	}
	was, err := store.VersionIn(documents, "machines/"+a+".json")
	if err != nil {
		t.Fatal(err)
	}
	if err := documents.Commit(store.Change{Name: "machines/" + a + ".json", Was: was, Text: text}); err != nil {
		t.Fatal(err)
	}
	documents.gets = 0
	change := func(index *machine.Index) {
		r, _ := index.Get(a)
		r.State = machine.Failed
		index.Put(r)
		index.Remove(b)
	}
	if err := commit(change, a, b); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("error %v, want a conflict", err)
	}
	if r, _ := kept.Index().Get(a); r.Boot != machine.Hold || r.State != machine.Unknown {
		t.Errorf("the edited record is %+v", r)
	}
	if _, ok := kept.Index().Get(b); !ok || documents.gets != 2 {
		t.Errorf("after a conflict of two records: the other one is known %v, %d documents read", ok, documents.gets)
	}
	if err := commit(change, a, b); err != nil {
		t.Fatal(err)
	}
	again, err := records.Open(documents, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := again.Index().Get(a); r.Boot != machine.Hold || r.State != machine.Failed || again.Index().Len() != 2 {
		t.Errorf("on the disk: %+v, %d records", r, again.Index().Len())
	}
}
