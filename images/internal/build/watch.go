package build

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// watch reads mmdebstrap's messages as they come and tells the phases of the
// build and, while packages are installed, how many of them are.
type watch struct {
	observe func(Event)
	partial []byte
	last    []string // lines, for the error message
	event   Event
}

func newWatch(observe func(Event)) *watch { return &watch{observe: observe} }

const tailLines = 25

func (w *watch) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	for {
		end := bytes.IndexAny(w.partial, "\r\n")
		if end < 0 {
			break
		}
		w.line(string(w.partial[:end]))
		w.partial = w.partial[end+1:]
	}
	if len(w.partial) > 64<<10 {
		w.partial = nil
	}
	return len(p), nil
}

var newlyInstalled = regexp.MustCompile(`^\d+ upgraded, (\d+) newly installed`)

func (w *watch) line(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	w.last = append(w.last, line)
	if len(w.last) > tailLines {
		w.last = w.last[1:]
	}
	next := w.event
	if info, ok := strings.CutPrefix(line, "I: "); ok {
		if phase := phaseOf(info); phase != "" {
			next = Event{Phase: phase}
		}
	}
	if m := newlyInstalled.FindStringSubmatch(line); m != nil {
		next.Total, _ = strconv.Atoi(m[1])
		next.Done = 0
	}
	if strings.HasPrefix(line, "Setting up ") && next.Total > 0 {
		next.Done = min(next.Done+1, next.Total)
	}
	if next != w.event {
		w.event = next
		w.observe(next)
	}
}

// phaseOf names the long steps of mmdebstrap by the start of its message.
func phaseOf(info string) string {
	for _, p := range []struct{ start, phase string }{
		{"running apt-get update", "update"},
		{"downloading packages", "download"},
		{"extracting archives", "extract"},
		{"installing essential", "install essential packages"},
		{"installing remaining", "install packages"},
		{"running --setup-hook", "prepare the tree"},
		{"running --customize-hook", "customize"},
		{"cleaning", "clean up"},
		{"creating tarball", "write tree"},
	} {
		if strings.HasPrefix(info, p.start) {
			return p.phase
		}
	}
	return ""
}

// ownWords are lines that say nothing about why a build failed: progress, and
// what mmdebstrap says about commands of its own.
var ownWords = regexp.MustCompile(`^(I: |\(Reading database |Chrooting into |E: (setup failed|mmdebstrap failed|command failed|run_\w+ failed)\b)`)

// cause is the last thing that was said, and what was said before it.
func (w *watch) cause() (last, before string) {
	lines := slices.DeleteFunc(slices.Clone(w.last), ownWords.MatchString)
	if len(lines) == 0 {
		return "mmdebstrap failed", strings.Join(w.last, "\n")
	}
	const shown = 8
	end := len(lines) - 1
	return lines[end], strings.Join(lines[max(end-shown, 0):end], "\n")
}
