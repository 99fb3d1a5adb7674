package history

import (
	"context"
	"errors"
	"slices"
	"sync"

	"edeploy/server/api"
	"edeploy/server/internal/events"
	"edeploy/server/wire"

	"golang.org/x/sync/errgroup"
)

// writesAtOnce bounds the histories that are written at the same time.
const writesAtOnce = 64

// ErrMissed: more happened at once than could be written, and the event may be
// in no history.
var ErrMissed = errors.New("write history: more happens at once than can be written")

// Keeper writes the events of a stream into the histories of their machines.
// What happens to an address that is no known machine's is kept in memory until
// it is one's.
type Keeper struct {
	*Dir
	stream *events.Stream[api.Event]
	macs   func(id string) []string // addresses of a machine
	failed func(id string, err error)
	notes  *notes
	ended  chan struct{} // Run is over

	mu     sync.Mutex
	done   uint64           // number of the last event that was taken from the stream and written
	missed uint64           // events up to this one may not be written
	errs   map[uint64]error // of events after that
	grown  chan struct{}    // closed when done has grown
}

// NewKeeper writes nothing before Run. failed is called when a history cannot
// be written; id is "" when it may be any.
func NewKeeper(dir *Dir, stream *events.Stream[api.Event], macs func(id string) []string, failed func(id string, err error)) *Keeper {
	return &Keeper{Dir: dir, stream: stream, macs: macs, failed: failed, notes: newNotes(), ended: make(chan struct{}),
		errs: map[uint64]error{}, grown: make(chan struct{})}
}

// Run writes until ctx ends, then what is left, and returns.
func (k *Keeper) Run(ctx context.Context) {
	defer close(k.ended)
	for last := uint64(0); ; {
		newer, first := k.stream.Next(ctx, last)
		if len(newer) == 0 {
			return
		}
		errs := k.write(first, newer)
		if first > last+1 {
			k.failed("", ErrMissed)
		}
		k.tell(last, first, uint64(len(newer)), errs)
		last = first + uint64(len(newer)) - 1
	}
}

// tell wakes those who wait for these events.
func (k *Keeper) tell(last, first, count uint64, errs map[uint64]error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if first > last+1 {
		k.missed = first - 1
	}
	if len(k.errs)+len(errs) > maxNoted { // nobody asks for them
		k.missed, k.errs = last, map[uint64]error{}
	}
	for number, err := range errs {
		k.errs[number] = err
	}
	k.done = first + count - 1
	close(k.grown)
	k.grown = make(chan struct{})
}

// Await waits until the event with this number is in its history. When it is
// about a step that ended, it is on the disk then.
func (k *Keeper) Await(ctx context.Context, number uint64) error {
	for {
		done, grown, err := k.outcome(number)
		if done {
			return err
		}
		select {
		case <-grown:
		case <-k.ended:
			if done, _, err := k.outcome(number); done {
				return err
			}
			return errors.New("write history: the server is being stopped")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// outcome is what became of an event, once it is done.
func (k *Keeper) outcome(number uint64) (done bool, grown <-chan struct{}, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if number > k.done {
		return false, k.grown, nil
	}
	if number <= k.missed {
		return true, nil, ErrMissed
	}
	err = k.errs[number]
	delete(k.errs, number)
	return true, nil, err
}

// settle waits until all that happened so far is written. What could not be was
// told to failed.
func (k *Keeper) settle() { _ = k.Await(context.Background(), k.stream.Last()) }

// Tail is Dir.Tail, with all that happened so far.
func (k *Keeper) Tail(id string, n int) ([]api.HistoryLine, error) {
	k.settle()
	return k.Dir.Tail(id, n)
}

// Remove forgets a machine's history, with all that happened so far.
func (k *Keeper) Remove(id string) error {
	k.settle()
	return k.Dir.Remove(id)
}

// entry is one event on its way into a history.
type entry struct {
	number uint64
	line   api.HistoryLine
	sync   bool // it must be on the disk
}

// write writes events, those of each machine at once, and answers which of
// them could not be written.
func (k *Keeper) write(first uint64, all []api.Event) map[uint64]error {
	machines := map[string][]entry{}
	for i, e := range all {
		line := api.HistoryLine{Time: e.Time, Step: e.Step, Status: e.Status, Seconds: e.Seconds, Message: e.Message}
		switch {
		case e.Status == string(wire.StatusProgress):
		case e.Machine != "":
			for _, before := range k.notes.take(k.macs(e.Machine)) {
				machines[e.Machine] = append(machines[e.Machine], entry{line: before})
			}
			machines[e.Machine] = append(machines[e.Machine], entry{first + uint64(i), line, lasting(line)})
		case e.MAC != "":
			k.notes.add(e.MAC, line)
		}
	}
	var mu sync.Mutex
	errs := map[uint64]error{}
	var writers errgroup.Group
	writers.SetLimit(writesAtOnce)
	for id, entries := range machines {
		writers.Go(func() error {
			err := k.appendEntries(id, entries)
			if err == nil {
				return nil
			}
			k.failed(id, err)
			mu.Lock()
			defer mu.Unlock()
			for _, e := range entries {
				errs[e.number] = err
			}
			return nil
		})
	}
	_ = writers.Wait() // each has told its own
	return errs
}

func (k *Keeper) appendEntries(id string, entries []entry) error {
	lines := make([]api.HistoryLine, len(entries))
	for i, e := range entries {
		lines[i] = e.line
	}
	return k.Append(id, slices.ContainsFunc(entries, func(e entry) bool { return e.sync }), lines...)
}

// lasting: a machine has told how one of its steps ended. What the server itself
// decides is on the disk in the machine's record.
func lasting(l api.HistoryLine) bool {
	return l.Step != "match" && l.Status != "note" && l.Status != string(wire.StatusStarted)
}
