// Package cmdb reads, expands, allocates and writes the entries of a profile's
// CMDB (reference section 7).
//
// The file is a list of dictionaries, or one call of generate that stands for
// such a list until the file is first written. An entry that a machine took
// has the key 'used' and, beside its own keys, everything the specs bound.
package cmdb

import (
	"errors"
	"strings"
	"sync"

	"edeploy/server/internal/literal"
)

// Errors of Allocate; the first two have the original's texts.
var (
	ErrNoEntry   = errors.New("No entry matched in the CMDB, aborting.") //lint:ignore ST1005 the original's text
	ErrExhausted = errors.New("No more entry in the CMDB, aborting.")    //lint:ignore ST1005 the original's text
	// ErrNoVariable: nothing tells machines apart, so that all would get the
	// first entry.
	ErrNoVariable = errors.New("a profile with a CMDB needs at least one variable in its specs")
)

// usedKey marks an entry that a machine took; its value does not matter.
const usedKey = "used"

var usedLookup = literal.KeyOf(usedKey)

// File is a parsed CMDB. It is never changed: changes make a new one. It is
// safe for concurrent use.
type File struct {
	name      string
	synthetic bool // the text is a generate call
	comments  bool // the text holds comments, which stay when an entry changes

	mu      sync.Mutex // of what Text fills in
	text    string     // "" until it is asked for
	entries []entry
}

type entry struct {
	dict       *literal.Dict
	start, end int    // its place in a text with comments
	rendered   string // as it stands in a written file; "" when not needed yet
}

// Parse reads the text of a CMDB; a generate call is expanded. The error is a
// *literal.Error.
func Parse(name, text string) (*File, error) {
	doc, err := literal.ParseCall(name, text, "generate")
	if err != nil {
		return nil, err
	}
	f := &File{name: name, text: text, comments: doc.Comments}
	if doc.Call != nil {
		f.synthetic = true
		return f, f.expand(doc)
	}
	if _, ok := doc.Node.Value.(literal.List); !ok {
		return nil, doc.ErrorAt(doc.Node.Start, "want a list of dictionaries or generate({...})")
	}
	for _, node := range doc.Node.Items {
		dict, ok := node.Value.(*literal.Dict)
		if !ok {
			return nil, doc.ErrorAt(node.Start, "want a dictionary, got %s", literal.Repr(node.Value))
		}
		f.entries = append(f.entries, entry{dict: dict, start: node.Start, end: node.End})
	}
	return f, nil
}

func (f *File) expand(doc *literal.Document) error {
	model, prefix, err := Arguments(doc)
	if err != nil {
		return err
	}
	entries, err := Generate(model.Value.(*literal.Dict), prefix)
	if err != nil {
		return doc.ErrorAt(model.Start, "%v", err)
	}
	for _, e := range entries {
		f.entries = append(f.entries, entry{dict: e})
	}
	return nil
}

// Arguments are those of a call: generate(model) or generate(model,
// prefix=TEXT). The model is a dictionary.
func Arguments(doc *literal.Document) (model literal.Node, prefix string, err error) {
	given := map[string]literal.Node{}
	for i, arg := range doc.Call.Args {
		if i > 1 {
			return model, "", doc.ErrorAt(arg.Start, "generate takes a model and a prefix")
		}
		given[[]string{"model", "prefix"}[i]] = arg
	}
	for _, k := range doc.Call.Keywords {
		if k.Name != "model" && k.Name != "prefix" {
			return model, "", doc.ErrorAt(k.Node.Start, "generate has no argument %s", k.Name)
		}
		given[k.Name] = k.Node
	}
	model, ok := given["model"]
	if !ok {
		return model, "", doc.ErrorAt(doc.Node.Start, "generate needs a dictionary")
	}
	if _, ok := model.Value.(*literal.Dict); !ok {
		return model, "", doc.ErrorAt(model.Start, "generate wants a dictionary, got %s", literal.Repr(model.Value))
	}
	node, ok := given["prefix"]
	if prefix, isText := node.Value.(string); isText || !ok {
		return model, prefix, nil
	}
	return model, "", doc.ErrorAt(node.Start, "the prefix of generate is a text, got %s", literal.Repr(node.Value))
}

// Len is the number of entries; a CMDB without any is no CMDB.
func (f *File) Len() int { return len(f.entries) }

// Entry is one entry; do not change it.
func (f *File) Entry(i int) *literal.Dict { return f.entries[i].dict }

// Used tells whether a machine took the entry.
func (f *File) Used(i int) bool {
	_, used := f.entries[i].dict.Lookup(usedLookup)
	return used
}

// Text is the file's text: as it was read, or as it is to be written. The
// latter is made when it is first asked for, so that of many changes in a row
// only the last is written out.
func (f *File) Text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.text == "" {
		f.render()
	}
	return f.text
}

// Original is the text to keep beside the file (NAME.cmdb.orig) when it is
// first rewritten: that of a generate call. It is "" for any other file.
func (f *File) Original() string {
	if f.synthetic {
		return f.text
	}
	return ""
}

// with is the file with one entry replaced. A file with comments keeps its
// text around the entry; any other is written as Python's pprint does.
func (f *File) with(i int, dict *literal.Dict) *File {
	if literal.Equal(f.entries[i].dict, dict) && !f.synthetic {
		return f
	}
	if f.comments && !f.synthetic {
		return f.splice(i, dict)
	}
	out := &File{name: f.name, entries: f.copyEntries()}
	out.entries[i] = entry{dict: dict}
	return out
}

func (f *File) copyEntries() []entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]entry(nil), f.entries...)
}

// splice replaces an entry in the text; the places of those behind it move.
func (f *File) splice(i int, dict *literal.Dict) *File {
	out := &File{name: f.name, comments: true, entries: f.copyEntries()}
	e := &out.entries[i]
	column := e.start - strings.LastIndexByte(f.text[:e.start], '\n') - 1
	now := literal.FormatAt(dict, column, 1)
	out.text = f.text[:e.start] + now + f.text[e.end:]
	shift := len(now) - (e.end - e.start)
	e.dict, e.end = dict, e.end+shift
	for j := i + 1; j < len(out.entries); j++ {
		out.entries[j].start += shift
		out.entries[j].end += shift
	}
	return out
}

// shortList is the width up to which pprint writes a list on one line.
const shortList = 80

// render writes the text as pprint.pprint does. Entries keep their rendered
// form, so that changing one entry of a long file is cheap.
func (f *File) render() {
	total := 0
	for i := range f.entries {
		e := &f.entries[i]
		if e.rendered == "" {
			e.rendered = literal.FormatAt(e.dict, 1, 1)
		}
		total += len(e.rendered)
	}
	if total <= 4*shortList {
		list := make(literal.List, len(f.entries))
		for i, e := range f.entries {
			list[i] = e.dict
		}
		f.text = literal.Format(list)
		return
	}
	var b strings.Builder
	b.Grow(total + 3*len(f.entries) + 2)
	b.WriteByte('[')
	for i, e := range f.entries {
		if i > 0 {
			b.WriteString(",\n ")
		}
		b.WriteString(e.rendered)
	}
	b.WriteString("]\n")
	f.text = b.String()
}
