package match

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"edeploy/server/internal/literal"
	"edeploy/server/internal/refusal"
	"edeploy/server/wire"
)

// Limits of one specs file.
const (
	MaxSpecs = 1000    // lines
	MaxBytes = 1 << 20 // size
)

// Specs is a compiled specs file. It is not changed by matching and may be
// used by several goroutines.
type Specs struct {
	// Warnings are oddities that are no errors: lines that can never match,
	// unknown helpers taken as text.
	Warnings []*literal.Error
	// Bill is the bill of materials that a machine must equal (package
	// expectation), named by a comment that Python reads past:
	//	# edeploy: expect NAME
	// "": none. BillLine is its line.
	Bill     string
	BillLine int
	// Wipe is what the script may do to data that no installation of the machine
	// has written, by another comment:
	//	# edeploy: wipe ask
	Wipe wire.WipePolicy

	specs      []spec
	selections []selection
	names      []string // of the variables, as in the search: $$x is "$x"
	differs    bool     // some helper means more here than in the original
}

type spec struct {
	line   int
	text   string
	fields [4]field
	uses   []use
	whole  *[4]string // the tuple as text, for the comparison with whole facts; nil when a field is no text
	key    string     // equal for specs that accept the same facts, whatever their variables are called
	shape  string     // equal for specs that also have variables at the same fields
}

type use struct{ field, variable int }

// field is what one field of a fact must be.
type field struct {
	kind     fieldKind
	literal  string // for text
	original test   // for helper: as the original evaluates it; nil: it fails there
	sane     test   // for helper: as a reader expects it
	key      string
	source   string // as written, without the variable
	differs  bool   // it may mean more here than in the original
}

type fieldKind int

const (
	anything fieldKind = iota
	text
	bracketed // text that looks like a call; the original fails on it unless the whole spec is text
	helper
	nothing // can never match
)

// Compile reads the text of a specs file. The error is a *literal.Error that
// names file, line and column.
func Compile(file, text string) (*Specs, error) {
	if len(text) > MaxBytes {
		return nil, &literal.Error{File: file, Line: 1, Column: 1, Message: fmt.Sprintf("specs file is larger than %d bytes", MaxBytes)}
	}
	doc, err := literal.Parse(file, text)
	if err != nil {
		return nil, err
	}
	if !isSequence(doc.Node) {
		return nil, doc.ErrorAt(doc.Node.Start, "want a list of tuples of four texts")
	}
	if len(doc.Node.Items) > MaxSpecs {
		return nil, doc.ErrorAt(doc.Node.Start, "more than %d lines", MaxSpecs)
	}
	c := compiler{doc: doc, specs: &Specs{}, variables: make(map[string]int)}
	for _, node := range doc.Node.Items {
		if err := c.spec(node); err != nil {
			return nil, err
		}
	}
	return c.specs, c.directives()
}

// directives reads the comments that are meant for the server.
func (c *compiler) directives() error {
	for _, node := range c.doc.Directives {
		text, _ := node.Value.(string)
		words := strings.Fields(text)
		switch {
		case len(words) > 0 && words[0] == "wipe":
			policy, err := wire.ParseWipePolicy(strings.Join(words[1:], " "))
			if err != nil || len(words) != 2 {
				return c.doc.ErrorAt(node.Start, "edeploy: wipe wants yes, ask or refuse")
			}
			c.specs.Wipe = c.specs.Wipe.Stricter(policy)
		case len(words) > 0 && words[0] == "disks":
			if err := c.selection(node, strings.TrimSpace(strings.TrimPrefix(text, "disks"))); err != nil {
				return err
			}
		case len(words) == 0 || words[0] != "expect":
			c.specs.Warnings = append(c.specs.Warnings, c.doc.ErrorAt(node.Start, "edeploy: %s says nothing here: want edeploy: expect NAME, edeploy: wipe ask, or edeploy: disks $disk, order=size", short(text)))
		case len(words) != 2:
			return c.doc.ErrorAt(node.Start, "edeploy: expect wants the name of one bill of materials")
		case c.specs.Bill != "" && c.specs.Bill != words[1]:
			return c.doc.ErrorAt(node.Start, "the profile expects %s already: it has one bill of materials", short(c.specs.Bill))
		default:
			c.specs.Bill = words[1]
			c.specs.BillLine, _ = c.doc.Position(node.Start)
		}
	}
	return nil
}

// Variables are the variables of a parsed specs file, each once, and which of
// them are written $$. A field such as $x=300 can never match, so it binds nothing.
func Variables(doc *literal.Document) (all []string, strict map[string]bool) {
	strict = map[string]bool{}
	add := func(text string) {
		name, ok := strings.CutPrefix(text, "$")
		name, expression, assigned := strings.Cut(name, "=")
		if !ok || assigned && !strings.HasSuffix(expression, ")") {
			return
		}
		plain, isStrict := strings.CutPrefix(name, "$")
		if strict[plain] = strict[plain] || isStrict; !slices.Contains(all, plain) {
			all = append(all, plain)
		}
	}
	for _, node := range doc.Directives {
		text, _ := node.Value.(string)
		if words, ok := strings.CutPrefix(text, "disks "); ok {
			for _, part := range splitArguments(words) {
				add(strings.TrimSpace(part))
			}
		}
	}
	for _, line := range doc.Node.Items {
		for _, field := range line.Items {
			text, _ := field.Value.(string)
			add(text)
		}
	}
	maps.DeleteFunc(strict, func(_ string, is bool) bool { return !is })
	return all, strict
}

func isSequence(node literal.Node) bool {
	switch node.Value.(type) {
	case literal.List, literal.Tuple:
		return true
	}
	return false
}

type compiler struct {
	doc       *literal.Document
	specs     *Specs
	variables map[string]int
}

func (c *compiler) spec(node literal.Node) error {
	if !isSequence(node) {
		return c.doc.ErrorAt(node.Start, "want a tuple of four texts, got %s (is a comma missing before it?)", short(literal.Repr(node.Value)))
	}
	if len(node.Items) != 4 {
		return c.doc.ErrorAt(node.Start, "tuple has %d fields, want 4 (category, id, field, value)", len(node.Items))
	}
	line, _ := c.doc.Position(node.Start)
	s := spec{line: line, text: c.doc.Text[node.Start:node.End], whole: new([4]string)}
	var key strings.Builder
	for i, item := range node.Items {
		f, variable, err := c.field(item)
		if err != nil {
			return err
		}
		if variable != "" {
			s.uses = append(s.uses, use{i, c.variable(variable[1:])})
		}
		t, ok := item.Value.(string)
		if f.source = t; !ok {
			s.whole, f.source = nil, literal.Text(item.Value)
		} else if s.whole != nil {
			s.whole[i] = t
		}
		if _, expression, assigned := strings.Cut(t, "="); variable != "" && assigned {
			f.source = expression
		}
		s.fields[i] = f
	}
	s.settle()
	for _, f := range s.fields {
		fmt.Fprintf(&key, "%d:%s\x00", f.kind, f.key)
		c.specs.differs = c.specs.differs || f.differs
	}
	s.key = key.String()
	for _, u := range s.uses {
		fmt.Fprintf(&key, "%d", u.field)
	}
	s.shape = key.String()
	c.specs.specs = append(c.specs.specs, s)
	return nil
}

// settle decides what text in brackets means: in a spec that is all text it is
// text for the original too.
func (s *spec) settle() {
	allText := true
	for _, f := range s.fields {
		allText = allText && (f.kind == text || f.kind == bracketed)
	}
	for i := range s.fields {
		f := &s.fields[i]
		if f.kind != bracketed {
			continue
		}
		if f.kind = text; !allText {
			want := f.literal
			f.kind, f.differs = helper, true
			f.sane = func(v *value) bool { return v.text == want }
		}
	}
}

func (s *spec) binds() bool { return len(s.uses) > 0 }

func (c *compiler) variable(name string) int {
	n, ok := c.variables[name]
	if !ok {
		n = len(c.specs.names)
		c.variables[name] = n
		c.specs.names = append(c.specs.names, name)
	}
	return n
}

// field compiles one field; variable is the name with its dollar sign, or "".
func (c *compiler) field(node literal.Node) (f field, variable string, err error) {
	value, ok := node.Value.(string)
	if !ok {
		return c.plainField(node)
	}
	if !strings.HasPrefix(value, "$") {
		f, err = c.helperOrText(node, value)
		return f, "", err
	}
	name, expression, assigned := strings.Cut(value, "=")
	switch {
	case !assigned && !hasCallForm(value):
		return field{kind: anything}, value, nil
	case !assigned:
		c.warn(node, "%s can never match: a helper goes behind an equals sign, as in $x=gt(4)", value)
	case strings.Contains(expression, "="):
		c.warn(node, "%s can never match: it has more than one equals sign", value)
	case hasCallForm(expression) && knownHelper(callName(expression)):
		f, err = c.helperOrText(node, expression)
		return f, name, err
	default:
		c.warn(node, "%s can never match: %s is no helper (%s)", value, short(expression), helperNames)
	}
	return field{kind: nothing}, value, nil
}

// plainField compiles a number, True, False or None: it is compared as text.
func (c *compiler) plainField(node literal.Node) (field, string, error) {
	if _, isDict := node.Value.(*literal.Dict); isDict || isSequence(node) {
		return field{}, "", c.doc.ErrorAt(node.Start, "want a text, got %s", short(literal.Repr(node.Value)))
	}
	t := literal.Text(node.Value)
	return field{kind: helper, key: "plain " + t, sane: func(v *value) bool { return v.text == t }, differs: true}, "", nil
}

func (c *compiler) helperOrText(node literal.Node, expression string) (field, error) {
	if !hasCallForm(expression) {
		return field{kind: text, literal: expression, key: expression}, nil
	}
	name := callName(expression)
	if !knownHelper(name) {
		if looksLikeHelper(name) {
			c.warn(node, "%s is taken as text: there is no helper %s (%s)", expression, strings.TrimSpace(name), helperNames)
		}
		return field{kind: bracketed, literal: expression, key: expression}, nil
	}
	sane, err := parseCall(expression, 0)
	if err != nil {
		return field{}, c.doc.ErrorAt(node.Start, "%s: %v", short(expression), err)
	}
	f := field{kind: helper, key: sane.String()}
	if f.sane, err = sane.compile(); err != nil {
		return field{}, c.doc.ErrorAt(node.Start, "%s: %v", short(expression), err)
	}
	original, err := parseOriginalCall(expression, 0)
	if err == nil && original.String() == sane.String() {
		f.original = f.sane
		return f, nil
	}
	f.differs = true
	if err == nil {
		f.original, _ = original.compile()
		f.key += "\x01" + original.String()
	}
	return f, nil
}

func (c *compiler) warn(node literal.Node, format string, args ...any) {
	c.specs.Warnings = append(c.specs.Warnings, c.doc.ErrorAt(node.Start, format, args...))
}

func short(s string) string { return refusal.Clip(s, 60) }
