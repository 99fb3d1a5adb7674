// Package filter decides which paths an upgrade leaves alone, in rsync's
// pattern language: the files `exclude` (as --exclude-from reads them) and
// `add_only` (as --include-from does) of upgrade metadata.
//
// A rule is one line: a pattern, or "- " or "+ " and a pattern. Blank lines and
// lines that begin with "#" or ";" are passed over; a line "!" forgets all rules
// before it. The first rule that matches a path decides; a path without one is
// included. A directory that is excluded hides all below it.
//
//	foo       the last element of the path is foo
//	/foo      foo at the top of the tree
//	a/foo     the path ends with the elements a/foo
//	foo/      directories only
//	*         anything without a slash
//	**        anything; a pattern with it matches the whole path, or its end after a slash
//	dir/***   dir and all below it
//	?         one character, not a slash
//	[a-z] [!a-z] [^a-z] [[:digit:]]  one of a class, never a slash
//	\         takes the next character literally, when the pattern has one of * ? [
//
// Source: rsync(1), "FILTER RULES" and "PATTERN MATCHING RULES".
package filter

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Limits of a rule file.
const (
	MaxBytes        = 1 << 20
	MaxPatternBytes = 4095 // rsync drops longer ones; here they are refused
)

// Action is what a rule does with the paths that it matches.
type Action bool

// The actions.
const (
	Exclude Action = false
	Include Action = true
)

// List is a list of rules. The zero value includes every path. It may be used
// from several goroutines at once.
type List struct {
	rules []rule
}

type rule struct {
	action  Action
	pattern pattern
}

// Parse reads rules; plain is what a line without "+ " or "- " does: Exclude
// for an `exclude` file, Include for `add_only`. Errors name the line.
func Parse(text string, plain Action) (List, error) {
	if len(text) > MaxBytes {
		return List{}, fmt.Errorf("%d bytes of rules, at most %d are taken", len(text), MaxBytes)
	}
	var list List
	number := 0
	// A carriage return ends a line too, which makes CRLF an empty line more.
	for line := range strings.SplitSeq(text, "\n") {
		number++
		for part := range strings.SplitSeq(line, "\r") {
			if err := list.add(part, plain); err != nil {
				return List{}, fmt.Errorf("line %d: %w", number, err)
			}
		}
	}
	return list, nil
}

func (l *List) add(line string, plain Action) error {
	switch {
	case line == "" || line[0] == '#' || line[0] == ';':
		return nil
	case line == "!":
		l.rules = nil
		return nil
	}
	r := rule{action: plain}
	text := line
	if after, ok := strings.CutPrefix(line, "- "); ok {
		r.action, text = Exclude, after
	} else if after, ok := strings.CutPrefix(line, "+ "); ok {
		r.action, text = Include, after
	}
	switch {
	case text == "":
		return fmt.Errorf("%q has no pattern", line)
	case len(text) > MaxPatternBytes:
		return fmt.Errorf("a pattern of %d bytes, at most %d are taken", len(text), MaxPatternBytes)
	case strings.IndexByte(text, 0) >= 0:
		return fmt.Errorf("%q has a zero byte", line)
	}
	r.pattern = compile(text)
	l.rules = append(l.rules, r)
	return nil
}

// Then is the list with other rules after its own.
func (l List) Then(other List) List {
	return List{rules: append(slices.Clone(l.rules), other.rules...)}
}

// Len is the number of rules.
func (l List) Len() int { return len(l.rules) }

// Excludes tells whether the rules exclude this path, a directory or not,
// leaving aside the directories it lies in. The root, ".", never is.
func (l List) Excludes(name string, dir bool) bool {
	if name == "." || name == "" {
		return false
	}
	for i := range l.rules {
		if l.rules[i].pattern.match(name, dir) {
			return l.rules[i].action == Exclude
		}
	}
	return false
}

// Hides tells whether the rules exclude this path or a directory above it.
func (l List) Hides(name string, dir bool) bool {
	for up := path.Dir(name); up != "." && up != "/"; up = path.Dir(up) {
		if l.Excludes(up, true) {
			return true
		}
	}
	return l.Excludes(name, dir)
}
