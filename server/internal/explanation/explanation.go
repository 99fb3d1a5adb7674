// Package explanation keeps why each machine got what it got at its last upload.
package explanation

import (
	"encoding/json"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/allocation"
	"edeploy/server/internal/history"
	"edeploy/server/internal/problems"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// Explanations are written when no upload is in work, and after maxDelay at the
// latest: making their files would halve the uploads that can be answered. What
// waits is bounded; what finds no room is written at once.
const (
	maxDelay        = 10 * time.Second
	maxWaitingBytes = 2 * wire.MaxHardwareBytes // of their descriptions, see upload.Weight
)

// Explanations are those of all machines, each beside its history. A kill loses
// what is not written yet; nothing depends on it.
type Explanations struct {
	history  *history.Dir
	problems *problems.List
	log      *slog.Logger
	uploads  atomic.Int64  // in work
	idle     chan struct{} // none is in work
	closing  chan struct{}
	ended    chan struct{}
	writing  sync.Mutex // held while one is taken out and written
	mu       sync.Mutex
	waiting  map[string]pending // by machine
	bytes    int
}

// New starts the goroutine that writes.
func New(history *history.Dir, problems *problems.List, log *slog.Logger) *Explanations {
	e := &Explanations{history: history, problems: problems, log: log, waiting: map[string]pending{},
		idle: make(chan struct{}, 1), closing: make(chan struct{}), ended: make(chan struct{})}
	go e.run()
	return e
}

// Close writes what waits.
func (e *Explanations) Close() error {
	close(e.closing)
	<-e.ended
	return nil
}

func (e *Explanations) run() {
	defer close(e.ended)
	late := time.NewTicker(maxDelay)
	defer late.Stop()
	for {
		select {
		case <-e.closing:
			e.finishAll()
			return
		case <-e.idle:
		case <-late.C:
		}
		e.finishAll()
	}
}

// Upload counts an upload that is in work.
func (e *Explanations) Upload() (over func()) {
	e.uploads.Add(1)
	return func() {
		if e.uploads.Add(-1) == 0 {
			select {
			case e.idle <- struct{}{}:
			default:
			}
		}
	}
}

// Add takes what became of an upload, about whose size bytes says what it holds
// on to. It replaces an older explanation of the machine.
func (e *Explanations) Add(out allocation.Outcome, bytes int, now time.Time) {
	id, p := out.Record.ID, newPending(out, bytes, now)
	if e.put(id, p) {
		return
	}
	e.writing.Lock()
	defer e.writing.Unlock()
	e.take(id) // an older one
	e.write(id, p)
}

// put lets one wait; false: there is no room.
func (e *Explanations) put(id string, p pending) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	bytes := e.bytes - e.waiting[id].bytes + p.bytes
	if bytes > maxWaitingBytes {
		return false
	}
	e.waiting[id], e.bytes = p, bytes
	return true
}

// take takes the explanation of a machine out.
func (e *Explanations) take(id string) (pending, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.waiting[id]
	delete(e.waiting, id)
	e.bytes -= p.bytes
	return p, ok
}

// finish writes the explanation of a machine, if it waits; when finish
// returns, no other is about to.
func (e *Explanations) finish(id string) {
	e.writing.Lock()
	defer e.writing.Unlock()
	if p, ok := e.take(id); ok {
		e.write(id, p)
	}
}

// finishAll writes what waits now.
func (e *Explanations) finishAll() {
	e.mu.Lock()
	ids := slices.Collect(maps.Keys(e.waiting))
	e.mu.Unlock()
	for _, id := range ids {
		e.finish(id)
	}
}

// write writes one. It runs on nobody's behalf, so a defect in it would end the
// server.
func (e *Explanations) write(id string, p pending) {
	defer func() {
		if defect := recover(); defect != nil {
			e.log.Error("defect", "machine", id, "panic", defect, "stack", string(debug.Stack()))
			e.problems.Add(p.Section, "The explanation of machine %s could not be written: the server has a defect, its log says where.", id)
		}
	}()
	text, err := json.Marshal(p.explain())
	if err == nil {
		err = e.history.Explain(id, append(text, '\n'))
	}
	if err != nil {
		e.problems.Add(p.Section, "%v", err)
	}
}

// Of is the explanation of a machine.
func (e *Explanations) Of(id string) (api.Explanation, error) {
	e.finish(id)
	var is api.Explanation
	text, err := e.history.Explanation(id)
	switch {
	case err != nil:
		return is, err
	case text == nil:
		return is, refusal.New(refusal.NoFile, "there is no explanation of machine %s: it has not uploaded its description, or the server was killed soon after", id)
	}
	return is, json.Unmarshal(text, &is)
}

// Forget removes the explanation of a machine.
func (e *Explanations) Forget(id string) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	e.take(id)
	return e.history.Unexplain(id)
}
