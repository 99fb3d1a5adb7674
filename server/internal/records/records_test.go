package records_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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

// TestFollow: what another process makes of records is known without a restart,
// also when more has happened than the store tells.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		documents := store.NewMemory(store.Limits{})
		mine, err := records.Open(documents, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		other, err := records.Open(documents, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		turns, resume := 0, make(chan struct{}, 1)
		ctx, stop := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer stop()
		go mine.Follow(ctx, func(read func()) error {
			<-resume
			if turns++; turns == 1 {
				return errors.New("busy")
			}
			read()
			return nil
		})
		commit := func(of *records.Records, ids ...string) {
			t.Helper()
			next := of.Index().Clone()
			for _, id := range ids {
				if _, known := next.Get(id); known {
					next.Remove(id)
				} else {
					next.Put(record(id))
				}
			}
			if err := of.Commit(next, ids, nil); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		knows := func(want ...string) {
			t.Helper()
			var got []string
			for _, r := range mine.Index().All() {
				got = append(got, r.ID)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("known: %v, want %v", got, want)
			}
		}
		commit(mine, a)
		if turns > 0 {
			t.Error("it follows itself")
		}
		commit(other, b)
		resume <- struct{}{}
		synctest.Wait()
		knows(a)
		resume <- struct{}{}
		synctest.Wait()
		knows(a, b)
		commit(other, b) // removed; mine is not asked yet
		for n := range 5000 {
			was, err := documents.Version("other/x")
			if err != nil {
				t.Fatal(err)
			}
			if err := documents.Commit(store.Change{Name: "other/x", Was: was, Text: fmt.Append(nil, n)}); err != nil {
				t.Fatal(err)
			}
		}
		commit(other, c)
		for range 3 {
			resume <- struct{}{}
			synctest.Wait()
		}
		knows(a, c)
	})
}

// TestConflict: when an operator has edited a record, nothing is written; the
// records of the change are read again, and no others.
func TestConflict(t *testing.T) {
	documents := &counted{Store: store.NewMemory(store.Limits{})}
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
	was, err := documents.Version("machines/" + a + ".json")
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
