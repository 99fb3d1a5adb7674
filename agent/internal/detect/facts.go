package detect

import (
	"errors"
	"log/slog"
	"strconv"
	"strings"

	"edeploy/server/wire"
)

// facts is a description under construction.
type facts struct {
	list wire.Hardware
	left wire.Hardware // what was left out: facts for the end of the list
}

// add appends a fact unless its value is not known, which some firmware writes
// as "unknown".
func (f *facts) add(category, id, field, value string) {
	if value = tidy(value); value != "" && value != "unknown" {
		f.list = append(f.list, wire.Fact{Category: category, ID: id, Field: field, Value: value})
	}
}

// exact appends a fact whose value may begin with a blank.
func (f *facts) exact(category, id, field, value string) {
	f.list = append(f.list, wire.Fact{Category: category, ID: id, Field: field, Value: value})
}

// count appends a number.
func (f *facts) count(category, id, field string, n int) {
	f.add(category, id, field, strconv.Itoa(n))
}

// skipped notes why a probe, or part of one, is not in the description.
func (f *facts) skipped(probe string, problem error, log *slog.Logger) {
	if problem == nil {
		return
	}
	log.Warn("hardware is left out", "part", probe, "error", problem)
	for line := range strings.SplitSeq(problem.Error(), "\n") {
		f.left = append(f.left, wire.Fact{Category: "system", ID: "detection", Field: "skipped", Value: tidy(probe + ": " + line)})
	}
}

func (f *facts) collectSkipped() { f.list = append(f.list, f.left...) }

// tidy drops the padding and control characters of firmware texts.
func tidy(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "")))
}

// decimal writes a count or size.
func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// unless is err, but nil where it is one of those that say that nothing is there.
func unless(err error, absent ...error) error {
	for _, target := range absent {
		if errors.Is(err, target) {
			return nil
		}
	}
	return err
}
