package literal

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// parser is a recursive descent parser over the text; pos is the next byte.
type parser struct {
	doc      *Document
	text     string
	function string
	pos      int
	depth    int
	values   int
}

func (p *parser) document() error {
	if len(p.text) > MaxBytes {
		return p.errorAt(0, "file is larger than %d bytes", MaxBytes)
	}
	if strings.HasPrefix(p.text, "\ufeff") {
		p.pos = len("\ufeff")
	}
	p.blanks()
	if p.pos == len(p.text) {
		return p.errorAt(p.pos, "file is empty")
	}
	if err := p.valueOrCall(); err != nil {
		return err
	}
	p.blanks()
	if p.pos < len(p.text) {
		if p.text[p.pos] == ',' && p.doc.Call == nil {
			return p.errorAt(p.pos, "comma after the end of the value")
		}
		return p.errorAt(p.pos, "%s after the end of the value", p.next())
	}
	return nil
}

func (p *parser) valueOrCall() error {
	start := p.pos
	if p.function != "" && p.word() == p.function {
		p.pos += len(p.function)
		p.blanks()
		if !p.take('(') {
			return p.errorAt(p.pos, "want %q after %s, got %s", "(", p.function, p.next())
		}
		call, err := p.arguments()
		p.doc.Call, p.doc.Node = call, Node{Start: start, End: p.pos}
		return err
	}
	node, err := p.value()
	p.doc.Node = node
	return err
}

// arguments reads the arguments of the call, behind its parenthesis.
func (p *parser) arguments() (*Call, error) {
	call := new(Call)
	err := p.sequence(')', "call", func() error {
		name := p.word()
		after := p.pos + len(name)
		for after < len(p.text) && (p.text[after] == ' ' || p.text[after] == '\t') {
			after++
		}
		if name == "" || after == len(p.text) || p.text[after] != '=' {
			node, err := p.value()
			call.Args = append(call.Args, node)
			return err
		}
		p.pos = after + 1
		p.blanks()
		node, err := p.value()
		call.Keywords = append(call.Keywords, Keyword{name, node})
		return err
	})
	return call, err
}

func (p *parser) value() (Node, error) {
	if p.pos == len(p.text) {
		return Node{}, p.errorAt(p.pos, "want a value, got the end of the file")
	}
	p.values++
	if p.values > MaxValues {
		return Node{}, p.errorAt(p.pos, "file holds more than %d values", MaxValues)
	}
	start := p.pos
	var node Node
	var err error
	switch c := p.text[p.pos]; {
	case c == '[' || c == '(' || c == '{':
		node, err = p.container(c)
	case c == '\'' || c == '"' || p.stringPrefix() > 0:
		node.Value, err = p.strings()
	case c >= '0' && c <= '9' || c == '.' || c == '-' || c == '+':
		node.Value, err = p.number()
	default:
		node.Value, err = p.constant()
	}
	if node.Start == 0 && node.End == 0 {
		node.Start, node.End = start, p.pos
	}
	return node, err
}

func (p *parser) container(open byte) (Node, error) {
	if p.depth++; p.depth > MaxDepth {
		return Node{}, p.errorAt(p.pos, "nested deeper than %d levels", MaxDepth)
	}
	defer func() { p.depth-- }()
	p.pos++
	switch open {
	case '[':
		items, _, err := p.items(']', "list")
		return Node{Value: List(values(items)), Items: items}, err
	case '(':
		items, comma, err := p.items(')', "tuple")
		if len(items) == 1 && !comma {
			// Parentheses around a value are no tuple.
			return Node{Value: items[0].Value, Items: items[0].Items}, err
		}
		return Node{Value: Tuple(values(items)), Items: items}, err
	}
	return p.dict()
}

func values(nodes []Node) []Value {
	out := make([]Value, len(nodes))
	for i, n := range nodes {
		out[i] = n.Value
	}
	return out
}

// items reads values up to the closing character and tells whether there was
// a comma.
func (p *parser) items(closing byte, kind string) (nodes []Node, comma bool, err error) {
	err = p.sequence(closing, kind, func() error {
		node, err := p.value()
		nodes = append(nodes, node)
		if err == nil {
			p.blanks()
			comma = p.pos < len(p.text) && p.text[p.pos] == ','
		}
		return err
	})
	return nodes, comma, err
}

func (p *parser) dict() (Node, error) {
	d := new(Dict)
	node := Node{Value: d}
	err := p.sequence('}', "dictionary", func() error {
		start := p.pos
		key, err := p.value()
		if err != nil {
			return err
		}
		if !hashable(key.Value) {
			return p.errorAt(start, "a list or a dictionary cannot be a key")
		}
		p.blanks()
		if !p.take(':') {
			return p.errorAt(p.pos, "want %q after the key %s, got %s", ":", shorten(Repr(key.Value)), p.next())
		}
		p.blanks()
		item, err := p.value()
		node.Items = append(node.Items, item)
		d.Set(key.Value, item.Value)
		return err
	})
	return node, err
}

func hashable(v Value) bool {
	switch v := v.(type) {
	case List, *Dict:
		return false
	case Tuple:
		return !slices.ContainsFunc(v, func(item Value) bool { return !hashable(item) })
	}
	return true
}

// sequence reads elements separated by commas up to the closing character; a
// comma before it is allowed.
func (p *parser) sequence(closing byte, kind string, element func() error) error {
	opened := p.pos - 1
	for {
		p.blanks()
		if p.take(closing) {
			return nil
		}
		if p.pos == len(p.text) {
			return p.errorAt(opened, "%s is never closed: %q is missing", kind, string(closing))
		}
		if err := element(); err != nil {
			return err
		}
		p.blanks()
		if p.take(',') || p.pos < len(p.text) && p.text[p.pos] == closing {
			continue
		}
		if p.pos == len(p.text) {
			return p.errorAt(opened, "%s is never closed: %q is missing", kind, string(closing))
		}
		return p.errorAt(p.pos, "want a comma or %q, got %s", string(closing), p.next())
	}
}

// constant reads True, False or None.
func (p *parser) constant() (Value, error) {
	word := p.word()
	switch word {
	case "":
		return nil, p.errorAt(p.pos, "want a value, got %s", p.next())
	case "None":
		p.pos += len(word)
		return nil, nil
	case "True", "False":
		p.pos += len(word)
		return word == "True", nil
	}
	if rest := strings.TrimLeft(p.text[p.pos+len(word):], " \t"); strings.HasPrefix(rest, "(") {
		return nil, p.errorAt(p.pos, "%s(...) is a call: only data is allowed here", shorten(word))
	}
	return nil, p.errorAt(p.pos, "%s is not a value: text needs quotes", shorten(word))
}

func (p *parser) word() string {
	end := p.pos
	for end < len(p.text) {
		c := p.text[end]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && c < utf8.RuneSelf && (c < '0' || c > '9' || end == p.pos) {
			break
		}
		end++
	}
	return p.text[p.pos:end]
}

func (p *parser) take(c byte) bool {
	if p.pos < len(p.text) && p.text[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// blanks skips blanks, line breaks, continuation lines and comments.
func (p *parser) blanks() {
	for p.pos < len(p.text) {
		switch rest := p.text[p.pos:]; {
		case strings.IndexByte(" \t\r\n\f", rest[0]) >= 0:
			p.pos++
		case strings.HasPrefix(rest, "\\\n"):
			p.pos += 2
		case strings.HasPrefix(rest, "\\\r\n"):
			p.pos += 3
		case rest[0] == '#':
			line, _, _ := strings.Cut(rest, "\n")
			p.comment(line)
			p.pos += len(line)
		default:
			return
		}
	}
}

// comment notes a comment. Blanks may be skipped twice: it is noted once.
func (p *parser) comment(line string) {
	p.doc.Comments = true
	text, ok := strings.CutPrefix(strings.TrimSpace(line[1:]), "edeploy:")
	known := p.doc.Directives
	if !ok || len(known) == maxDirectives || len(known) > 0 && known[len(known)-1].Start >= p.pos {
		return
	}
	p.doc.Directives = append(known, Node{Value: strings.TrimSpace(text), Start: p.pos, End: p.pos + len(line)})
}

// next names what stands at the position, for messages.
func (p *parser) next() string {
	if p.pos >= len(p.text) {
		return "the end of the file"
	}
	if word := p.word(); word != "" {
		return shorten(word)
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
	return `"` + string(r) + `"`
}

func shorten(s string) string {
	const most = 60
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

func (p *parser) errorAt(offset int, format string, args ...any) error {
	return p.doc.ErrorAt(offset, format, args...)
}
