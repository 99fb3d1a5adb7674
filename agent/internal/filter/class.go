package filter

import "strings"

// parseSet reads a class from behind its "[": the bytes it matches, and the
// length of its text with the "]". Nil means that the class does not end or
// names an unknown [:class:].
func parseSet(text string) (members *[256]bool, length int) {
	r := &setReader{text: text}
	if r.here() == '!' || r.here() == '^' {
		r.negated = true
		r.at++
	}
	// The first character is a member even if it is "]".
	for first := true; first || r.here() != ']'; first = false {
		if !r.member() {
			return nil, 0
		}
	}
	for c := range r.members {
		r.members[c] = r.members[c] != r.negated
	}
	r.members['/'] = false
	return &r.members, r.at + 1
}

type setReader struct {
	text     string
	at       int
	negated  bool
	previous byte // what a range begins with; 0: nothing
	members  [256]bool
}

// here is the byte at the reading position; 0 at the end.
func (r *setReader) here() byte { return r.ahead(0) }

func (r *setReader) ahead(n int) byte {
	if r.at+n >= len(r.text) {
		return 0
	}
	return r.text[r.at+n]
}

// member reads a byte, a range or a [:class:].
func (r *setReader) member() bool {
	switch c := r.here(); {
	case c == 0:
		return false
	case c == '-' && r.previous != 0 && r.ahead(1) != 0 && r.ahead(1) != ']':
		r.at++
		return r.rangeTo()
	case c == '[' && r.ahead(1) == ':':
		return r.named()
	default:
		return r.one()
	}
}

// literal reads a byte, which a backslash may precede.
func (r *setReader) literal() (byte, bool) {
	if r.here() == '\\' {
		r.at++
	}
	c := r.here()
	r.at++
	return c, c != 0
}

func (r *setReader) one() bool {
	c, ok := r.literal()
	r.members[c] = true
	r.previous = c
	return ok
}

func (r *setReader) rangeTo() bool {
	last, ok := r.literal()
	for c := int(r.previous); c <= int(last); c++ {
		r.members[c] = true
	}
	r.previous = 0
	return ok
}

// named reads "[:alpha:]". Without the ":]" the "[" is a member like others.
func (r *setReader) named() bool {
	rest := r.text[r.at+2:]
	end := strings.IndexByte(rest, ']')
	if end < 0 {
		return false
	}
	name, ok := strings.CutSuffix(rest[:end], ":")
	if !ok {
		return r.one()
	}
	class, known := classes[name]
	for c := range r.members {
		r.members[c] = r.members[c] || known && class(byte(c))
	}
	r.at += 2 + end + 1
	r.previous = 0
	return known
}

// classes are the character classes of the C locale, isalpha(3).
var classes = map[string]func(byte) bool{
	"alnum":  func(c byte) bool { return isLetter(c) || isDigit(c) },
	"alpha":  isLetter,
	"blank":  func(c byte) bool { return c == ' ' || c == '\t' },
	"cntrl":  func(c byte) bool { return c < ' ' || c == 0x7f },
	"digit":  isDigit,
	"graph":  isGraph,
	"lower":  isLower,
	"print":  func(c byte) bool { return isGraph(c) || c == ' ' },
	"punct":  func(c byte) bool { return isGraph(c) && !isLetter(c) && !isDigit(c) },
	"space":  func(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' },
	"upper":  isUpper,
	"xdigit": func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' },
}

func isLower(c byte) bool  { return c >= 'a' && c <= 'z' }
func isUpper(c byte) bool  { return c >= 'A' && c <= 'Z' }
func isLetter(c byte) bool { return isLower(c) || isUpper(c) }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isGraph(c byte) bool  { return c > ' ' && c < 0x7f }
