package history_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/events"
	"edeploy/server/internal/history"

	"github.com/google/go-cmp/cmp"
)

// keeper is one whose stream keeps so many events; every machine has its own id
// as its only address.
type keeper struct {
	*history.Keeper
	stream *events.Stream[api.Event]
	failed []string // ids
	stop   func()   // ends Run, once it was started
}

func newKeeper(t *testing.T, dir string, most int) *keeper {
	k := &keeper{stream: events.New[api.Event](most)}
	var mu sync.Mutex
	k.Keeper = history.NewKeeper(open(t, dir, 1<<20), k.stream, func(id string) []string { return []string{id} }, func(id string, err error) {
		mu.Lock()
		defer mu.Unlock()
		k.failed = append(k.failed, id)
	})
	return k
}

func (k *keeper) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() { k.Run(ctx) })
	k.stop = func() { cancel(); over.Wait() }
}

func note(machine, message string) api.Event {
	return api.Event{Time: noon, Machine: machine, Step: "boot", Status: "note", Message: message}
}

// TestKeeper: every event comes into the history of its machine; what was
// noted about its address before, with it; nothing that only runs.
func TestKeeper(t *testing.T) {
	k := newKeeper(t, t.TempDir(), 100)
	k.start()
	k.stream.Append(
		api.Event{Time: noon, MAC: "m1", Status: "note", Message: "a stranger"},
		api.Event{Time: noon, MAC: "m2", Status: "note", Message: "another"},
		api.Event{Time: noon, Name: "boot services", Status: "note", Message: "no machine can boot"},
		note("m1", "known"), note("m3", "other"),
		api.Event{Time: noon, Machine: "m1", Step: "transfer", Status: "progress"})
	number := k.stream.Append(api.Event{Time: noon, Machine: "m1", Step: "transfer", Status: "done", Seconds: 2})
	if err := k.Await(t.Context(), number); err != nil {
		t.Error(err)
	}
	k.stream.Append(note("m1", "last"))
	var got []string
	lines, err := k.Tail("m1", 9)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		got = append(got, l.Status+" "+l.Message)
	}
	if diff := cmp.Diff([]string{"note a stranger", "note known", "done ", "note last"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	k.stream.Append(note("m1", "before it is forgotten"))
	if err := k.Remove("m1"); err != nil {
		t.Error(err)
	}
	if lines, err := k.Tail("m1", 9); len(lines) > 0 || err != nil {
		t.Errorf("after Remove: %v, %v", lines, err)
	}
	number = k.stream.Append(note("m2", "at the end"))
	k.stop()
	if err := k.Await(t.Context(), number); err != nil {
		t.Errorf("what happened before the end: %v", err)
	}
	if err := k.Await(t.Context(), number+1); err == nil {
		t.Error("what happens after the end is written")
	}
}

// TestKeeperFails: whoever waits for an event hears that its history cannot be
// written, and nobody else.
func TestKeeperFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bad.log"), 0o755); err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, dir, 100)
	last := k.stream.Append(note("bad", "1"), note("good", "2"), note("bad", "3"))
	k.start()
	for i, want := range []bool{false, true, false} {
		if err := k.Await(t.Context(), last-2+uint64(i)); (err == nil) != want {
			t.Errorf("event %d: %v", i+1, err)
		}
	}
	k.stop()
	if diff := cmp.Diff([]string{"bad"}, k.failed); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestKeeperMisses: of more events than the stream keeps, those that are lost
// are not said to be written.
func TestKeeperMisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeper(t, t.TempDir(), 3)
		errs := make([]error, 10)
		var waiting sync.WaitGroup
		for i := range errs {
			number := k.stream.Append(note("m", fmt.Sprint(i)))
			waiting.Go(func() { errs[i] = k.Await(t.Context(), number) })
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := k.Await(impatient, 10); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before Run: %v", err)
		}
		k.start()
		waiting.Wait()
		k.stop()
		for i, err := range errs {
			if errors.Is(err, history.ErrMissed) != (i < 7) || err != nil && i >= 7 {
				t.Errorf("event %d: %v", i+1, err)
			}
		}
		if diff := cmp.Diff([]string{""}, k.failed); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}
