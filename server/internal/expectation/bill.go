// Package expectation knows what hardware a machine should have: a bill of
// materials, made from a good machine, and what another machine has otherwise.
//
// A bill is a file NAME.bill, a Python literal as the files beside it are:
//
//	{'ignore': [('network', '*', 'speed')],
//	 'facts': [
//	  ('disk', 'sda', 'size', '480'),
//	  ('memory', 'bank:0', 'size', '17179869184'),
//	 ]}
//
// All facts of a machine that identify its hardware (Identifies) must be in the
// bill, and the other way round, but for those that ignore names; "*" in it
// stands for any text. Names of disks and network adapters are the kernel's and
// may change places.
package expectation

import (
	"fmt"
	"slices"
	"strings"

	"edeploy/server/internal/literal"
	"edeploy/server/wire"
)

// Bounds of the patterns of a bill.
const (
	maxIgnored = 1000
	maxWild    = 50 // with a "*": each is tried on each fact
)

// Pattern names facts by category, id and field; "*" stands for any text.
type Pattern struct{ Category, ID, Field string }

// exact: it names one property.
func (p Pattern) exact() bool { return !strings.Contains(p.Category+p.ID+p.Field, "*") }

func (p Pattern) matches(f wire.Fact) bool {
	return glob(p.Category, f.Category) && glob(p.ID, f.ID) && glob(p.Field, f.Field)
}

// glob: "a*c" is "abc". Each part is looked for once, so it takes no longer
// than the texts are.
func glob(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	for ok {
		var part string
		if part, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(text, part)
		}
		_, text, ok = strings.Cut(text, part)
	}
	return false
}

// Bill is what a machine should be made of. It is not changed when it is made.
type Bill struct {
	Ignore     []Pattern
	Facts      wire.Hardware
	components []component
}

// New is the bill of a machine like this one.
func New(h wire.Hardware, ignore []Pattern) *Bill {
	facts := Of(h).without(ignore)
	return &Bill{ignore, facts, assemble(facts)}
}

// Text is the file.
func (b *Bill) Text() string {
	var text strings.Builder
	text.WriteString("{'ignore': [")
	for i, p := range b.Ignore {
		if i > 0 {
			text.WriteString(",\n            ")
		}
		text.WriteString(tuple(p.Category, p.ID, p.Field))
	}
	text.WriteString("],\n 'facts': [\n")
	for _, f := range b.Facts {
		text.WriteString("  " + tuple(f.Category, f.ID, f.Field, f.Text()) + ",\n")
	}
	return text.String() + " ]}\n"
}

func tuple(texts ...string) string {
	var t literal.Tuple
	for _, text := range texts {
		t = append(t, text)
	}
	return literal.Repr(t)
}

// Parse reads a bill. The error is a *literal.Error.
func Parse(file, text string) (*Bill, error) {
	doc, err := literal.Parse(file, text)
	if err != nil {
		return nil, err
	}
	dict, ok := doc.Node.Value.(*literal.Dict)
	if !ok || dict.Len() != len(doc.Node.Items) {
		return nil, doc.ErrorAt(doc.Node.Start, "want a dictionary with 'facts' and 'ignore', each once")
	}
	var ignore []Pattern
	var facts wire.Hardware
	for i, key := range dict.Keys() {
		node := doc.Node.Items[i]
		switch key {
		case "ignore":
			err = rows(doc, node, 3, maxIgnored, func(t []string) { ignore = append(ignore, Pattern{t[0], t[1], t[2]}) })
		case "facts":
			err = rows(doc, node, 4, wire.MaxFacts, func(t []string) {
				facts = append(facts, wire.Fact{Category: t[0], ID: t[1], Field: t[2], Value: t[3]})
			})
		default:
			err = doc.ErrorAt(node.Start, "a bill has no %s: want 'facts' and 'ignore'", literal.Repr(key))
		}
		if err != nil {
			return nil, err
		}
	}
	if wild := slices.DeleteFunc(slices.Clone(ignore), Pattern.exact); len(wild) > maxWild {
		return nil, doc.ErrorAt(doc.Node.Start, "'ignore' has more than %d patterns with a *", maxWild)
	}
	b := New(facts, ignore)
	if len(b.Facts) == 0 {
		return nil, doc.ErrorAt(doc.Node.Start, "the bill has no facts that are compared, so no machine could equal it")
	}
	return b, nil
}

// rows reads a list of tuples of so many texts.
func rows(doc *literal.Document, node literal.Node, width, most int, take func([]string)) error {
	want := fmt.Sprintf("want a list of tuples of %d texts", width)
	if !isList(node) {
		return doc.ErrorAt(node.Start, "%s", want)
	}
	if len(node.Items) > most {
		return doc.ErrorAt(node.Start, "the list has more than %d lines", most)
	}
	for _, row := range node.Items {
		if !isList(row) || len(row.Items) != width {
			return doc.ErrorAt(row.Start, "%s", want)
		}
		texts := make([]string, width)
		for i, item := range row.Items {
			text, ok := item.Value.(string)
			if !ok && i < 3 {
				return doc.ErrorAt(item.Start, "%s", want)
			}
			if texts[i] = text; !ok {
				texts[i] = literal.Text(item.Value)
			}
		}
		take(texts)
	}
	return nil
}

func isList(node literal.Node) bool {
	switch node.Value.(type) {
	case literal.List, literal.Tuple:
		return true
	}
	return false
}
