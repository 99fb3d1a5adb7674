package transaction_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/activity"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/explanation"
	"edeploy/server/internal/flock"
	"edeploy/server/internal/history"
	"edeploy/server/internal/machine"
	"edeploy/server/internal/problems"
	"edeploy/server/internal/records"
	"edeploy/server/internal/refusal"
	"edeploy/server/internal/store"
	"edeploy/server/internal/transaction"
	"edeploy/server/wire"
)

const id = "02-00-00-00-00-01"

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// start starts a queue on one record, with a lock file.
func start(t *testing.T, wait time.Duration) (q *transaction.Queue, documents *store.Memory, lockFile string) {
	t.Helper()
	documents, log := store.NewMemory(store.Limits{}), slog.New(slog.NewTextHandler(t.Output(), nil))
	text, err := machine.Record{ID: id, Identity: wire.Identity{MACs: []string{"02:00:00:00:00:01"}}, State: machine.Unknown, Boot: machine.Auto, Name: "0"}.Encode()
	if err == nil {
		err = documents.Commit(store.Change{Name: "machines/" + id + ".json", Text: text})
	}
	if err != nil {
		t.Fatal(err)
	}
	known, err := records.Open(documents, now)
	if err != nil {
		t.Fatal(err)
	}
	histories, err := history.Open(t.TempDir(), 32<<10)
	if err != nil {
		t.Fatal(err)
	}
	late := problems.NewList(log, now)
	doing := activity.New(histories, known.Index, late, log)
	why := explanation.New(histories, late, log)
	stop := doing.Start()
	lockFile = filepath.Join(t.TempDir(), "lock")
	q = &transaction.Queue{Site: &allocation.Site{Deployments: map[string]*allocation.Deployment{"SERVER": {Name: "SERVER", LockFile: lockFile}}, MaxMachines: 10},
		Records: known, Store: documents, Explanations: why, Activity: doing, Late: late, Now: now, Log: log}
	q.Start(wait)
	t.Cleanup(func() {
		if err := errors.Join(q.Close(), stop(), why.Close(), histories.Close()); err != nil {
			t.Error(err)
		}
	})
	return q, documents, lockFile
}

// count adds one to the number that the record's name is.
func count(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
	r, _ := s.Machines.Get(id)
	n, err := strconv.Atoi(r.Name)
	if err != nil {
		return allocation.Outcome{}, allocation.Changes{}, err
	}
	r.Name = strconv.Itoa(n + 1)
	return allocation.Outcome{Record: r, Lines: []api.HistoryLine{{Time: now(), Step: "boot", Status: "note", Message: "now " + r.Name}}}, allocation.Changes{Records: []machine.Record{r}}, nil
}

// stored is the record in the store.
func stored(t *testing.T, documents *store.Memory) (machine.Record, store.Version) {
	t.Helper()
	doc, err := documents.Get("machines/" + id + ".json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := machine.Decode(doc.Text)
	if err != nil {
		t.Fatal(err)
	}
	return r, doc.Version
}

// TestInTurn: decisions that come at the same time each see what those before
// have made. What is answered is stored, and in the history.
func TestInTurn(t *testing.T) {
	const many = 100
	q, documents, _ := start(t, time.Minute)
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			out, err := q.Decide(t.Context(), count, i%7 == 0, []string{"SERVER"}[:i%2]...)
			if err != nil {
				t.Error(err)
				return
			}
			mine, _ := strconv.Atoi(out.Record.Name)
			doc, err := documents.Get("machines/" + id + ".json")
			if err != nil {
				t.Error(err)
				return
			}
			r, err := machine.Decode(doc.Text)
			if is, _ := strconv.Atoi(r.Name); err != nil || is < mine {
				t.Errorf("answered %d while %d is stored (%v)", mine, is, err)
			}
		})
	}
	all.Wait()
	if r, _ := stored(t, documents); r.Name != strconv.Itoa(many) {
		t.Errorf("%s of %d decisions are left", r.Name, many)
	}
	lines, err := q.Activity.History.Tail(id, 2*many)
	if err != nil || len(lines) != many {
		t.Errorf("%d lines of history, want %d (%v)", len(lines), many, err)
	}
}

// TestRefusedChangesNothing: a decision that is an error leaves no trace but
// what it has to tell the operator.
func TestRefusedChangesNothing(t *testing.T) {
	q, documents, _ := start(t, time.Minute)
	_, before := stored(t, documents)
	no := refusal.New(refusal.Conflict, "not so")
	_, err := q.Decide(t.Context(), func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		out, c, _ := count(s)
		out.Notes = []allocation.Note{{Kind: allocation.Loss, Text: "look at this"}}
		return out, c, no
	}, transaction.Together)
	if !errors.Is(err, refusal.Conflict) {
		t.Errorf("%v", err)
	}
	if _, after := stored(t, documents); after != before {
		t.Error("it has changed something")
	}
	lines, _ := q.Activity.History.Tail(id, 10)
	if told := (&problems.Finder{Site: &allocation.Site{}, Records: q.Records, Documents: q.Store, Late: q.Late}).All(); len(lines) != 0 || len(told) != 1 || told[0].Text != "look at this" {
		t.Errorf("%d lines of history; told %v", len(lines), told)
	}
}

// TestEditedMeanwhile: what somebody has written into the record between the
// decision's reading and its writing is seen by the decision made anew, not
// lost.
func TestEditedMeanwhile(t *testing.T) {
	q, documents, _ := start(t, time.Minute)
	asked := 0
	_, err := q.Decide(t.Context(), func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		if asked++; asked == 1 {
			r, was := stored(t, documents)
			r.Name, r.Host = "41", "edited"
			text, err := r.Encode()
			if err == nil {
				err = documents.Commit(store.Change{Name: "machines/" + id + ".json", Was: was, Text: text})
			}
			if err != nil {
				return allocation.Outcome{}, allocation.Changes{}, err
			}
		}
		return count(s)
	}, transaction.Together)
	if r, _ := stored(t, documents); err != nil || asked != 2 || r.Name != "42" || r.Host != "edited" {
		t.Errorf("asked %d times (%v): %+v", asked, err, r)
	}
}

// TestForgets: a machine that is removed for good loses history and explanation;
// one that comes back in the same group does not.
func TestForgets(t *testing.T) {
	q, documents, _ := start(t, time.Minute)
	decide := func(d transaction.Decision) {
		t.Helper()
		if _, err := q.Decide(t.Context(), d, transaction.Together); err != nil {
			t.Fatal(err)
		}
	}
	decide(count)
	gone := allocation.Changes{Removed: []string{id}, Lost: []string{id}}
	decide(func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		r, _ := s.Machines.Get(id)
		both := gone
		both.Records = []machine.Record{r}
		return allocation.Outcome{}, both, nil
	})
	if lines, _ := q.Activity.History.Tail(id, 10); len(lines) != 1 {
		t.Errorf("the one that came back has %d lines", len(lines))
	}
	decide(func(*allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
		return allocation.Outcome{}, gone, nil
	})
	if lines, _ := q.Activity.History.Tail(id, 10); len(lines) != 0 {
		t.Errorf("the one that is gone has %d lines", len(lines))
	}
	if _, err := documents.Get("machines/" + id + ".json"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("its record: %v", err)
	}
}

// TestBusy: who has no turn in time, and who comes when the queue is closed, is
// told to ask again, and nothing is decided.
func TestBusy(t *testing.T) {
	q, documents, lockFile := start(t, time.Second)
	lock, err := flock.Take(t.Context(), lockFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Decide(t.Context(), count, transaction.Together, "SERVER"); !errors.Is(err, refusal.Busy) {
		t.Errorf("with the lock held: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, err := q.Decide(context.Background(), func(s *allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) {
			close(entered)
			<-leave
			return count(s)
		}, transaction.Together)
		first <- err
	}()
	<-entered
	if _, err := q.Decide(t.Context(), count, transaction.Together); !errors.Is(err, refusal.Busy) || !strings.Contains(err.Error(), "no turn within") {
		t.Errorf("behind a slow one: %v", err)
	}
	if n := q.Waiting(); n != 0 {
		t.Errorf("%d wait though they were told to ask again", n)
	}
	close(leave)
	if err := <-first; err != nil {
		t.Errorf("the slow one: %v", err)
	}
	if r, _ := stored(t, documents); r.Name != "1" {
		t.Errorf("%s decisions were made, want 1", r.Name)
	}
}

// TestDefect: a decision that panics does so for who asked, and for nobody else.
func TestDefect(t *testing.T) {
	q, documents, _ := start(t, time.Minute)
	func() {
		defer func() {
			if v := recover(); fmt.Sprint(v) != "defect" {
				t.Errorf("panics with %v", v)
			}
		}()
		_, _ = q.Decide(t.Context(), func(*allocation.Snapshot) (allocation.Outcome, allocation.Changes, error) { panic("defect") }, transaction.Together)
	}()
	if _, err := q.Decide(t.Context(), count, transaction.Together); err != nil {
		t.Error(err)
	}
	if r, _ := stored(t, documents); r.Name != "1" {
		t.Errorf("afterwards %s", r.Name)
	}
}
