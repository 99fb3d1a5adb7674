// Package ladder finds out which loader brings a machine's firmware to the
// agent, and remembers it.
//
// A loader is tried when DHCP confirms it to the firmware. It works when the
// machine then has its script, and the agent when the script says so; it has
// failed when the firmware asks DHCP again, or nothing is heard for Patience.
// The next loader of the list, the next rung, is offered then. A machine that
// nothing is remembered of begins with the loader that works for most machines
// of its model.
package ladder

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"edeploy/pxe/internal/firmware"
)

// Times of an attempt.
const (
	// Patience is how long a machine may take from one step to the next, loader,
	// script, agent: a slow disk of 200 MB over 1 MB/s takes less.
	Patience = 5 * time.Minute
	// Settle is how soon firmware may ask DHCP anew without having tried the
	// loader: a lost answer, or the next of its boot entries.
	Settle = 5 * time.Second
)

// Bounds of what is remembered.
const (
	MaxStrangers = 1024    // machines that are not Known, the last ones
	MaxKnown     = 1 << 16 // those that are
)

// Config of a ladder.
type Config struct {
	File  string                           // where it is kept; "": in memory only
	Known func(mac string) bool            // whether the machine is one of ours
	Model func(mac, uuid string) string    // vendor and product; "" when nobody knows
	Say   func(mac, uuid, sentence string) // what belongs into the machine's history
	Log   *slog.Logger
	Now   func() time.Time
}

// Firmware is one firmware of a machine that asks what to load.
type Firmware struct {
	MAC  string // of the card that asks
	Kind firmware.Kind
}

// Ask is a request of a firmware.
type Ask struct {
	Firmware
	UUID        string
	Transaction [4]byte // the same in all requests of one try
	First       bool    // it begins a try, or repeats the beginning
	Last        bool    // after the answer it loads what it was named
	Rungs       []firmware.Loader
}

// attempt is a loader that was named to the firmware and has not been heard of
// further.
type attempt struct {
	loader      firmware.Loader
	rungs       []firmware.Loader
	uuid        string
	transaction [4]byte
	at          time.Time // of the last step
	script      bool      // the machine has its script
}

// entry is a firmware that something is remembered of.
type entry struct {
	History
	uuid  string
	open  *attempt // nil: none
	heard time.Time
}

// Ladder is safe for concurrent use.
type Ladder struct {
	conf Config

	mu        sync.Mutex
	known     map[Firmware]*entry // of machines that are Known
	strangers map[Firmware]*entry
	open      map[string][]Firmware // MAC address or UUID -> firmware with an open attempt
	votes     votes
	counted   time.Time
	dirty     bool
}

// Offer is the loader for a firmware that asks; "" when there is no rung.
func (l *Ladder) Offer(a Ask) firmware.Loader {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.conf.Now()
	e := l.entry(a.Firmware)
	if e != nil && e.open != nil {
		age := now.Sub(e.open.at)
		goesOn := !a.First || age < Settle || e.open.transaction == a.Transaction
		if goesOn && age < Patience && slices.Contains(a.Rungs, e.open.loader) {
			return e.open.loader
		}
		l.failed(a.Firmware, e, "the firmware asks again")
	}
	var h History
	if e != nil {
		h = e.History
	}
	next := h.Next(a.Rungs, l.hints(a))
	if (a.Last || next == firmware.LoaderHTTP) && next != "" { // that one is never confirmed
		l.try(a, next, now)
	}
	return next
}

// try opens an attempt.
func (l *Ladder) try(a Ask, loader firmware.Loader, now time.Time) {
	e := l.entry(a.Firmware)
	if e == nil {
		e = l.add(a.Firmware, now)
	}
	e.heard, e.uuid = now, a.UUID
	e.open = &attempt{loader: loader, rungs: a.Rungs, uuid: a.UUID, transaction: a.Transaction, at: now}
	for _, name := range names(a.MAC, a.UUID) {
		l.open[name] = append(slices.Clip(l.open[name]), a.Firmware)
	}
}

func names(mac, uuid string) []string {
	if uuid == "" {
		return []string{mac}
	}
	return []string{mac, uuid}
}

// close ends an attempt.
func (l *Ladder) close(f Firmware, e *entry) {
	for _, name := range names(f.MAC, e.open.uuid) {
		left := slices.DeleteFunc(slices.Clone(l.open[name]), func(other Firmware) bool { return other == f })
		if l.open[name] = left; len(left) == 0 {
			delete(l.open, name)
		}
	}
	e.open = nil
}

// failed notes that a loader has not brought the machine to the agent.
func (l *Ladder) failed(f Firmware, e *entry, why string) {
	a := e.open
	l.close(f, e)
	e.History = e.Fail(a.loader, a.rungs)
	l.dirty = true
	what := "did not bring it to its script"
	if a.script {
		what = "brought it to its script and not to the agent"
	}
	next := e.Next(a.rungs, l.hints(Ask{Firmware: f, UUID: e.uuid, Rungs: a.rungs}))
	l.say(f.MAC, e.uuid, fmt.Sprintf("the loader %s %s: %s; next: %s", a.loader, what, why, next))
}

// Script notes that a machine has its script; done: which brings it no further.
func (l *Ladder) Script(mac, uuid string, done bool) { l.reached(mac, uuid, done, true) }

// Agent notes that a machine has the agent, or is in an installed system.
func (l *Ladder) Agent(mac, uuid string) { l.reached(mac, uuid, true, false) }

// reached finds the open attempts of a machine: by the card that was heard, and
// only when there are none by its UUID, since a loader may use another card.
func (l *Ladder) reached(mac, uuid string, done, script bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.open[mac]
	if len(all) == 0 && uuid != "" {
		all = l.open[uuid]
	}
	for _, f := range all {
		e := l.entry(f)
		if !script && !e.open.script {
			continue // heard of otherwise: it tells nothing about the loader
		}
		e.open.script, e.open.at = true, l.conf.Now()
		if done {
			l.works(f, e)
		}
	}
}

// works notes that a loader has brought the machine to the agent.
func (l *Ladder) works(f Firmware, e *entry) {
	loader := e.open.loader
	l.close(f, e)
	if e.Works == loader && e.Slips == 0 && len(e.Failed) == 0 {
		return
	}
	if e.Works != loader {
		l.say(f.MAC, e.uuid, "the loader "+string(loader)+" works, and is remembered")
	}
	e.History = History{Works: loader}
	l.dirty = true
}

// say tells about a machine without making anybody wait.
func (l *Ladder) say(mac, uuid, sentence string) {
	if l.conf.Say != nil {
		l.conf.Say(mac, uuid, sentence)
	}
}

// Of is what is remembered about a firmware, and what it is offered next; ""
// when nothing is remembered.
func (l *Ladder) Of(f Firmware, rungs []firmware.Loader) (h History, next firmware.Loader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(f)
	if e == nil {
		return h, ""
	}
	return e.History, e.Next(rungs, l.hints(Ask{Firmware: f, UUID: e.uuid, Rungs: rungs}))
}

// expire ends the attempts of which nothing was heard for Patience.
func (l *Ladder) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.conf.Now()
	for _, all := range l.open {
		for _, f := range all {
			if e := l.entry(f); e != nil && e.open != nil && now.Sub(e.open.at) >= Patience {
				l.failed(f, e, "nothing was heard of it for "+Patience.String())
			}
		}
	}
}
