// Package literal reads and writes Python literals: the text of the state,
// specs and CMDB files (reference section 7.7). Files are data: lists, tuples,
// dictionaries, strings, numbers, True, False, None, comments, and for CMDB
// files one call of a named function whose arguments are data again. Nothing
// is evaluated.
//
// Why not Starlark, which runs the configuration scripts: these files hold
// things that Starlark does not know (the string prefixes u and b, adjacent
// strings, which is how Python 3's pprint breaks long ones, Python 2's long
// integers), and whoever replaces one entry of a file while the comments
// around it stay needs the exact place of every element.
package literal

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of one file.
const (
	MaxBytes  = 32 << 20
	MaxDepth  = 100
	MaxValues = 2_000_000
)

// Error is a problem in a file, at a place.
type Error struct {
	File         string
	Line, Column int // from 1; the column counts characters
	Offset       int // of the same place, in bytes
	Message      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Node is a value with its place in the text.
type Node struct {
	Value      Value
	Start, End int    // byte offsets in the text
	Items      []Node // elements of a list or tuple; values of a dictionary, in order of appearance
}

// Call is a call of the one function that a file may hold.
type Call struct {
	Args     []Node
	Keywords []Keyword
}

// Keyword is an argument given by name.
type Keyword struct {
	Name string
	Node Node
}

// Document is a parsed file: a value, or a call.
type Document struct {
	File     string // name for errors
	Text     string
	Node     Node  // the value, or the place of the call
	Call     *Call // not nil for a call
	Comments bool  // the text holds at least one comment
	// Directives are the first comments that begin with "edeploy:": Python reads
	// past them. Their values are the texts behind it.
	Directives []Node
}

// maxDirectives bounds Document.Directives.
const maxDirectives = 16

// Parse reads one value; blanks, line breaks and comments around it are
// allowed. The error is an *Error.
func Parse(file, text string) (*Document, error) { return ParseCall(file, text, "") }

// ParseCall reads one value or one call of the function, whose arguments are
// values.
func ParseCall(file, text, function string) (*Document, error) {
	p := &parser{doc: &Document{File: file, Text: text}, text: text, function: function}
	if err := p.document(); err != nil {
		return nil, err
	}
	return p.doc, nil
}

// ErrorAt is an Error about the text at a byte offset.
func (d *Document) ErrorAt(offset int, format string, args ...any) *Error {
	line, column := d.Position(offset)
	return &Error{d.File, line, column, offset, fmt.Sprintf(format, args...)}
}

// Position is the line and the column, from 1, of a byte offset.
func (d *Document) Position(offset int) (line, column int) {
	before := d.Text[:min(offset, len(d.Text))]
	return 1 + strings.Count(before, "\n"),
		1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
}
