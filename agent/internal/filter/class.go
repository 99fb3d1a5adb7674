package filter

import (
	"regexp"
	"slices"
	"strings"
)

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
	if !slices.Contains(classes, name) {
		return false
	}
	class := regexp.MustCompile("[[:" + name + ":]]")
	for c := range r.members {
		r.members[c] = r.members[c] || class.MatchString(string(rune(c)))
	}
	r.at += 2 + end + 1
	r.previous = 0
	return true
}

// classes are those of the C locale, isalpha(3).
var classes = []string{"alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"}
