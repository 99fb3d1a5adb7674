// Package refusal is an answer that gives nothing: one clear sentence, perhaps
// with a list under it, for the console of a machine or an operator. Its kind
// says why in a word; over HTTP it becomes the status.
package refusal

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Kind is why there is nothing; errors.Is tells the kinds apart.
type Kind string

// The kinds.
const (
	Input          Kind = "bad input"
	NoMatch        Kind = "nothing fits"
	Conflict       Kind = "not now, not so"
	Unusable       Kind = "cannot be worked with"
	Forbidden      Kind = "not allowed"
	Broken         Kind = "the configuration is broken"
	Busy           Kind = "busy"
	TooLarge       Kind = "too large"
	NoFile         Kind = "no such file"
	NoSpace        Kind = "no room on the disk"
	UnknownMachine Kind = "no such machine"
	Precondition   Kind = "another version" // a file is not the version that the operator has seen
)

func (k Kind) Error() string { return string(k) }

// Error is a refusal.
type Error struct {
	kind     Kind
	sentence error
}

// New makes a refusal; what the format wraps with %w can be told by errors.Is.
func New(kind Kind, format string, args ...any) error {
	return &Error{kind, fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return e.sentence.Error() }

// Unwrap answers the kind and what the sentence wraps.
func (e *Error) Unwrap() []error { return []error{e.kind, e.sentence} }

// Unwritable is the kind of a refusal because of an error of the file system.
// Room may be made at any time: whoever asks again may get it.
func Unwritable(err error) Kind {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return NoSpace
	}
	return Broken
}

// Clip cuts a text that somebody else has written.
func Clip(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
