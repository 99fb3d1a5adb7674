package ladder

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"edeploy/pxe/internal/firmware"
)

// entry is what is remembered of a firmware; nil: nothing.
func (l *Ladder) entry(f Firmware) *entry {
	if e := l.known[f]; e != nil {
		return e
	}
	return l.strangers[f]
}

// add remembers one more firmware. Known machines have their own places, which
// strangers cannot take; of strangers the last ones are remembered.
func (l *Ladder) add(f Firmware, now time.Time) *entry {
	if len(l.strangers) >= MaxStrangers+MaxStrangers/4 {
		l.sort()
		l.displace()
	}
	e := &entry{heard: now}
	l.put(f, e)
	return e
}

func (l *Ladder) put(f Firmware, e *entry) {
	if l.conf.Known(f.MAC) && len(l.known) < MaxKnown {
		l.known[f] = e
		return
	}
	l.strangers[f] = e
}

// sort moves machines that have become known, or have been forgotten.
func (l *Ladder) sort() {
	for f, e := range l.strangers {
		if l.conf.Known(f.MAC) && len(l.known) < MaxKnown {
			delete(l.strangers, f)
			l.known[f] = e
			l.dirty = true
		}
	}
	for f, e := range l.known {
		if !l.conf.Known(f.MAC) {
			delete(l.known, f)
			l.strangers[f] = e
		}
	}
}

// displace forgets the strangers that were heard longest ago.
func (l *Ladder) displace() {
	all := make([]Firmware, 0, len(l.strangers))
	for f := range l.strangers {
		all = append(all, f)
	}
	slices.SortFunc(all, func(x, y Firmware) int {
		return cmp.Or(l.strangers[x].heard.Compare(l.strangers[y].heard), strings.Compare(x.MAC, y.MAC))
	})
	for _, f := range all[:max(0, len(all)-MaxStrangers)] {
		l.remove(f, l.strangers[f])
	}
}

func (l *Ladder) remove(f Firmware, e *entry) {
	if e.open != nil {
		l.close(f, e)
	}
	delete(l.known, f)
	delete(l.strangers, f)
	l.dirty = true
}

// countEvery is how old the count of what works may be.
const countEvery = 5 * time.Second

// votes are, by what machines have in common, how many of them each loader works
// for. Only known machines count: a stranger says nothing about others.
type votes map[likeness]map[firmware.Loader]int

// likeness is what machines have in common, the kind of firmware and one more
// thing: the model, the maker of the card (the first three bytes of its
// address), or nothing.
type likeness struct {
	kind        firmware.Kind
	model, card string
}

// likenesses of a machine, the closest first.
func (l *Ladder) likenesses(f Firmware, uuid string) (all []likeness) {
	if model := l.conf.Model(f.MAC, uuid); model != "" {
		all = append(all, likeness{f.Kind, model, ""})
	}
	return append(all, likeness{f.Kind, "", f.MAC[:min(len(f.MAC), len("52:54:00"))]}, likeness{kind: f.Kind})
}

// hints are the loaders that work for most machines like this one, of the
// closest likeness first.
func (l *Ladder) hints(a Ask) (hints []firmware.Loader) {
	if now := l.conf.Now(); l.votes == nil || now.Sub(l.counted) >= countEvery {
		l.count()
		l.counted = now
	}
	for _, like := range l.likenesses(a.Firmware, a.UUID) {
		if best := l.votes.best(like, a.Rungs); best != "" {
			hints = append(hints, best)
		}
	}
	return hints
}

func (l *Ladder) count() {
	l.sort()
	l.votes = votes{}
	for f, e := range l.known {
		if e.Works == "" {
			continue
		}
		for _, like := range l.likenesses(f, e.uuid) {
			if l.votes[like] == nil {
				l.votes[like] = map[firmware.Loader]int{}
			}
			l.votes[like][e.Works]++
		}
	}
}

// best is the loader with most votes; of equals the lower rung.
func (v votes) best(like likeness, rungs []firmware.Loader) (best firmware.Loader) {
	for _, rung := range rungs {
		if n := v[like][rung]; n > v[like][best] {
			best = rung
		}
	}
	return best
}
