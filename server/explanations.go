package server

import (
	"encoding/json"
	"runtime/debug"
	"sync"
	"time"

	"edeploy/server/internal/allocation"
	"edeploy/server/wire"
)

// Explanations are written when nobody waits for an upload, and after leisure
// at the latest. What waits for it is bounded; what finds no room is written
// before its upload is answered.
const (
	leisure        = 10 * time.Second
	maxUntoldBytes = 2 * wire.MaxHardwareBytes // of their descriptions, see weigh
	uploadBytes    = 4 << 10                   // of an upload without its facts
	factBytes      = 64                        // of a fact without its texts
)

// explanations are those that are not written yet. A kill loses them; nothing
// depends on them.
type explanations struct {
	mu      sync.Mutex
	waiting map[string]waitingExplanation // by machine
	order   []string                      // machines
	bytes   int
	came    chan struct{} // the first one waits
	calm    chan struct{} // no upload is in work
	writing sync.Mutex    // held while one is taken out and written
	write   func(id string, u untold)
}

type waitingExplanation struct {
	untold
	bytes int
}

func newExplanations(write func(id string, u untold)) *explanations {
	return &explanations{waiting: map[string]waitingExplanation{}, write: write,
		came: make(chan struct{}, 1), calm: make(chan struct{}, 1)}
}

// add takes an explanation, which replaces an older one of the machine.
func (e *explanations) add(id string, u untold, bytes int) {
	if e.room(id, waitingExplanation{u, bytes}) {
		signal(e.came)
		return
	}
	e.writing.Lock()
	defer e.writing.Unlock()
	e.take(id) // an older one
	e.write(id, u)
}

func (e *explanations) room(id string, w waitingExplanation) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	old, again := e.waiting[id]
	if e.bytes-old.bytes+w.bytes > maxUntoldBytes {
		return false
	}
	if !again {
		e.order = append(e.order, id)
	}
	e.waiting[id] = w
	e.bytes += w.bytes - old.bytes
	return true
}

// take takes the explanation of a machine out.
func (e *explanations) take(id string) (untold, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w, ok := e.waiting[id]
	delete(e.waiting, id)
	e.bytes -= w.bytes
	return w.untold, ok
}

// next is the machine that has waited longest; "" when there is none.
func (e *explanations) next() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.order) > 0 {
		id := e.order[0]
		e.order = e.order[1:]
		if _, ok := e.waiting[id]; ok {
			return id
		}
	}
	return ""
}

// finish writes the explanation of a machine, if it waits; when finish
// returns, no other is about to.
func (e *explanations) finish(id string) {
	e.writing.Lock()
	defer e.writing.Unlock()
	if u, ok := e.take(id); ok {
		e.write(id, u)
	}
}

// finishAll writes what waits, until pause says that there is something better
// to do.
func (e *explanations) finishAll(pause func() bool) {
	for !pause() {
		id := e.next()
		if id == "" {
			return
		}
		e.finish(id)
	}
}

// run writes at leisure until closing is closed, then all.
func (e *explanations) run(closing <-chan struct{}, busy func() bool) {
	for {
		select {
		case <-closing:
			e.finishAll(func() bool { return false })
			return
		case <-e.came:
		}
		late := time.NewTimer(leisure)
		select {
		case <-closing:
		case <-late.C:
			e.finishAll(func() bool { return false })
		case <-e.calm:
			e.finishAll(busy)
		}
		late.Stop()
		if e.left() {
			signal(e.came)
		}
	}
}

func (e *explanations) left() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.waiting) > 0
}

// signal says something that may have been said already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// weigh is about what an upload, or an explanation, holds on to.
func weigh(h wire.Hardware) int {
	bytes := uploadBytes
	for _, f := range h {
		bytes += factBytes + len(f.Category) + len(f.ID) + len(f.Field)
		if text, ok := f.Value.(string); ok {
			bytes += len(text)
		}
	}
	return bytes
}

// keepExplanation puts it beside the machine's history, soon.
func (s *Server) keepExplanation(out allocation.Outcome, h wire.Hardware) {
	s.explanations.add(out.Record.ID, newUntold(out, s.config.Now()), weigh(h))
}

// writeExplanation writes one. It runs on nobody's behalf, so a defect in it
// would end the server.
func (s *Server) writeExplanation(id string, u untold) {
	defer func() {
		if defect := recover(); defect != nil {
			s.config.Log.Error("defect", "machine", id, "panic", defect, "stack", string(debug.Stack()))
			s.late.Add(u.Section, "The explanation of machine %s could not be written: the server has a defect, its log says where.", id)
		}
	}()
	text, err := json.Marshal(u.tell())
	if err == nil {
		err = s.history.Explain(id, append(text, '\n'))
	}
	if err != nil {
		s.late.Add(u.Section, "%v", err)
	}
}

// explanationOf is the text of the explanation; nil: there is none.
func (s *Server) explanationOf(id string) ([]byte, error) {
	s.explanations.finish(id)
	return s.history.Explanation(id)
}
