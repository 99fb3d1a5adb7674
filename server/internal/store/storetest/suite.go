// Package storetest is the suite that every store.Store passes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"edeploy/server/internal/store"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Run runs the suite. open answers an empty store with the collections "a"
// and "b".
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for name, test := range map[string]func(*testing.T, store.Store){
		"absent documents":     absent,
		"make, change, remove": lifeCycle,
		"all or none":          allOrNone,
		"bad names":            badNames,
		"too large":            tooLarge,
		"listing":              listing,
		"infos":                infos,
		"own copies":           ownCopies,
		"counting in parallel": counting,
		"versions":             versions,
		"watch":                watch,
		"a slow watcher":       slowWatcher,
		"watching in parallel": watchCounting,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func absent(t *testing.T, s store.Store) {
	if _, err := s.Get("a/none"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Get of an absent document: got %v, want ErrNotExist", err)
	}
	if err := s.Commit(store.Change{Name: "a/none", Was: store.VersionOf(nil), Text: []byte("x")}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("change of an absent document: got %v, want ErrConflict", err)
	}
	if err := s.Commit(); err != nil {
		t.Errorf("empty commit: %v", err)
	}
}

func lifeCycle(t *testing.T, s store.Store) {
	mustCommit(t, s, store.Change{Name: "a/x", Text: []byte("one")})
	one := mustGet(t, s, "a/x", "one")
	mustCommit(t, s, store.Change{Name: "a/x", Was: one, Text: []byte("two")})
	two := mustGet(t, s, "a/x", "two")
	if err := s.Commit(store.Change{Name: "a/x", Was: one, Text: []byte("three")}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("change of an old version: got %v, want ErrConflict", err)
	}
	if err := s.Commit(store.Change{Name: "a/x", Was: one, Delete: true}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("removal of an old version: got %v, want ErrConflict", err)
	}
	mustCommit(t, s, store.Change{Name: "a/x", Was: two, Delete: true})
	if _, err := s.Get("a/x"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Get after the removal: got %v, want ErrNotExist", err)
	}
	mustCommit(t, s, store.Change{Name: "a/x", Text: nil})
	mustGet(t, s, "a/x", "")
}

func allOrNone(t *testing.T, s store.Store) {
	mustCommit(t, s, store.Change{Name: "a/x", Text: []byte("x")}, store.Change{Name: "b/y", Text: []byte("y")})
	x := mustGet(t, s, "a/x", "x")
	err := s.Commit(
		store.Change{Name: "a/x", Was: x, Text: []byte("x2")},
		store.Change{Name: "a/new", Text: []byte("new")},
		store.Change{Name: "b/y", Was: x, Text: []byte("y2")})
	if !errors.Is(err, store.ErrConflict) {
		t.Fatalf("got %v, want ErrConflict", err)
	}
	mustGet(t, s, "a/x", "x")
	mustGet(t, s, "b/y", "y")
	if _, err := s.Get("a/new"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("a refused commit made a document: %v", err)
	}
}

func badNames(t *testing.T, s store.Store) {
	for _, name := range []string{"", "a", "a/", "/x"} {
		if err := s.Commit(store.Change{Name: name, Text: []byte("x")}); err == nil {
			t.Errorf("commit of %q: no error", name)
		}
		if _, err := s.Get(name); err == nil {
			t.Errorf("get of %q: no error", name)
		}
	}
	if err := s.Commit(store.Change{Name: "a/x", Text: []byte("1")}, store.Change{Name: "a/x", Text: []byte("2")}); err == nil {
		t.Error("the same document twice in one commit: no error")
	}
}

func tooLarge(t *testing.T, s store.Store) {
	if err := s.Commit(store.Change{Name: "a/x", Text: make([]byte, store.MaxDocumentBytes+1)}); err == nil {
		t.Error("no error")
	}
}

func listing(t *testing.T, s store.Store) {
	mustCommit(t, s, store.Change{Name: "a/2", Text: []byte("2")}, store.Change{Name: "a/1", Text: []byte("1")}, store.Change{Name: "b/3", Text: []byte("3")})
	got, err := s.List("a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/1", "a/2"}, got); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

func infos(t *testing.T, s store.Store) {
	before := time.Now().Add(-time.Minute) // a file system's clock is not exactly ours
	mustCommit(t, s, store.Change{Name: "a/2", Text: []byte("two")}, store.Change{Name: "a/1", Text: []byte("1")}, store.Change{Name: "b/3", Text: []byte("3")})
	mustCommit(t, s, store.Change{Name: "a/1", Was: store.VersionOf([]byte("1")), Text: []byte("longer")})
	got, err := s.Infos("a")
	if err != nil {
		t.Fatal(err)
	}
	for i, is := range got {
		if is.Modified.Before(before) || is.Modified.After(time.Now().Add(time.Minute)) {
			t.Errorf("%s was modified %s", is.Name, is.Modified)
		}
		got[i].Modified = time.Time{}
	}
	if diff := cmp.Diff([]store.Info{{Name: "a/1", Bytes: 6}, {Name: "a/2", Bytes: 3}}, got); diff != "" {
		t.Errorf("Infos (-want +got):\n%s", diff)
	}
}

func ownCopies(t *testing.T, s store.Store) {
	text := []byte("text")
	mustCommit(t, s, store.Change{Name: "a/x", Text: text})
	text[0] = 'T'
	got, err := s.Get("a/x")
	if err != nil {
		t.Fatal(err)
	}
	got.Text[1] = 'E'
	mustGet(t, s, "a/x", "text")
}

func versions(t *testing.T, s store.Store) {
	is := func(want store.Version) {
		t.Helper()
		if got, err := s.Version("a/x"); got != want || err != nil {
			t.Errorf("version %.9s, %v, want %.9s", got, err, want)
		}
	}
	is(store.Absent)
	mustCommit(t, s, store.Change{Name: "a/x", Text: []byte("1")})
	is(store.VersionOf([]byte("1")))
	mustCommit(t, s, store.Change{Name: "a/x", Was: store.VersionOf([]byte("1")), Text: []byte("2")})
	is(store.VersionOf([]byte("2")))
	mustCommit(t, s, store.Change{Name: "a/x", Was: store.VersionOf([]byte("2")), Delete: true})
	is(store.Absent)
}

// watch: every commit is told once, in order, from any revision on; what was
// refused is not.
func watch(t *testing.T, s store.Store) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	start := s.Revision()
	x := store.VersionOf([]byte("x"))
	mustCommit(t, s, store.Change{Name: "a/x", Text: []byte("x")})
	if err := s.Commit(store.Change{Name: "a/y", Text: []byte("y")}, store.Change{Name: "a/x", Text: []byte("no")}); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("got %v, want ErrConflict", err)
	}
	middle := s.Revision()
	mustCommit(t, s, store.Change{Name: "b/y", Text: []byte("x")}, store.Change{Name: "a/x", Was: x, Delete: true})
	end := s.Revision()
	all := []store.Changed{{Name: "a/x", Version: x}, {Name: "b/y", Version: x}, {Name: "a/x", Version: store.Absent}}
	for after, want := range map[store.Revision][]store.Changed{start: all, middle: all[1:], end: nil} {
		got, last, err := s.Watch(over, after)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil || last != end {
			t.Errorf("after %d: up to %d, want %d, %v (-want +got):\n%s", after, last, end, err, diff)
		}
	}
	if _, _, err := s.Watch(over, end+1); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("after a revision that does not exist yet: %v, want ErrCompacted", err)
	}
	waited := make(chan []store.Changed)
	go func() {
		got, _, _ := s.Watch(t.Context(), end)
		waited <- got
	}()
	mustCommit(t, s, store.Change{Name: "a/z", Text: []byte("x")})
	if diff := cmp.Diff([]store.Changed{{Name: "a/z", Version: x}}, <-waited); diff != "" {
		t.Errorf("whoever waits gets (-want +got):\n%s", diff)
	}
}

// slowWatcher: commits wait for nobody, and who has missed some is told so.
func slowWatcher(t *testing.T, s store.Store) {
	start := s.Revision()
	mustCommit(t, s, store.Change{Name: "a/x", Text: []byte("0")})
	const commits, documents = 21, 101 // more than a store keeps
	was := map[int]store.Version{}
	for n := range commits {
		changes := make([]store.Change, documents)
		text := strconv.AppendInt(nil, int64(n), 10)
		for i := range changes {
			changes[i] = store.Change{Name: fmt.Sprintf("b/%d", i), Was: was[i], Text: text}
			was[i] = store.VersionOf(text)
		}
		mustCommit(t, s, changes...)
	}
	if _, _, err := s.Watch(t.Context(), start); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("after %d changes: %v, want ErrCompacted", commits*documents, err)
	}
}

// watchCounting: a watcher sees the last of what many writers make.
func watchCounting(t *testing.T, s store.Store) {
	seen := make(chan error)
	start := s.Revision()
	go func() {
		var is store.Version
		for after := start; is != store.VersionOf([]byte("80")); {
			changed, last, err := s.Watch(t.Context(), after)
			if err != nil {
				seen <- err
				return
			}
			is, after = changed[len(changed)-1].Version, last
		}
		seen <- nil
	}()
	counting(t, s)
	if err := <-seen; err != nil {
		t.Error(err)
	}
}

// counting: many writers that retry lose no increment.
func counting(t *testing.T, s store.Store) {
	const writers, rounds = 8, 10
	mustCommit(t, s, store.Change{Name: "a/count", Text: []byte("0")})
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range rounds {
				if err := increment(s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	mustGet(t, s, "a/count", fmt.Sprint(writers*rounds))
}

func increment(s store.Store) error {
	for {
		is, err := s.Get("a/count")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(is.Text))
		if err != nil {
			return err
		}
		err = s.Commit(store.Change{Name: "a/count", Was: is.Version, Text: strconv.AppendInt(nil, int64(n+1), 10)})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

func mustCommit(t *testing.T, s store.Store, changes ...store.Change) {
	t.Helper()
	if err := s.Commit(changes...); err != nil {
		t.Fatal(err)
	}
}

func mustGet(t *testing.T, s store.Store, name, want string) store.Version {
	t.Helper()
	got, err := s.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Text) != want {
		t.Fatalf("%s: got %q, want %q", name, got.Text, want)
	}
	return got.Version
}
