package ladder

import (
	"slices"

	"edeploy/pxe/internal/firmware"
)

// History is what is remembered about the loaders of one machine.
type History struct {
	Works  firmware.Loader   // the last one that brought the machine to the agent; "": none did
	Failed []firmware.Loader // those that did not, since then or since all were tried
	Slips  int               // how often in a row Works did not
}

// maxSlips is how often in a row the loader that works may fail: once is a
// power button, or a network that was away.
const maxSlips = 1

// Next is the loader that the machine is offered: the one that works, else the
// first hint, else the first rung; without those that failed. rungs are those
// that there are, in their order; the result is "" when there are none.
func (h History) Next(rungs, hints []firmware.Loader) firmware.Loader {
	order := slices.Concat([]firmware.Loader{h.Works}, hints, rungs)
	order = slices.DeleteFunc(order, func(l firmware.Loader) bool { return !slices.Contains(rungs, l) })
	for _, l := range order {
		if !slices.Contains(h.Failed, l) {
			return l
		}
	}
	if len(order) == 0 {
		return ""
	}
	return order[0]
}

// Fail is the history after a loader has not brought the machine to the agent.
// When all have failed, all are tried again.
func (h History) Fail(l firmware.Loader, rungs []firmware.Loader) History {
	if l == h.Works && h.Slips < maxSlips {
		h.Slips++
		return h
	}
	if !slices.Contains(h.Failed, l) {
		h.Failed = append(slices.Clip(h.Failed), l)
	}
	for _, rung := range rungs {
		if !slices.Contains(h.Failed, rung) {
			return h
		}
	}
	h.Failed = nil
	return h
}
