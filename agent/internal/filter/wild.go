package filter

import (
	"slices"
	"strings"
)

// kind is what a token of a wildcard pattern matches.
type kind uint8

const (
	literal kind = iota // one certain byte
	single              // "?": one byte, not a slash
	set                 // "[...]": one byte of a class, not a slash
	star                // "*": any bytes but slashes
	deep                // "**": any bytes
)

type token struct {
	kind kind
	byte byte
	set  *[256]bool
}

func (t token) accepts(c byte) bool {
	switch t.kind {
	case literal:
		return c == t.byte
	case single:
		return c != '/'
	case set:
		return t.set[c]
	}
	return false
}

// wild is a wildcard pattern.
type wild struct {
	tokens []token
	broken bool // an open class or a backslash at the end: matches nothing

	// Literal bytes at both ends refuse most paths at once.
	prefix, suffix string
}

func parseWild(text string) *wild {
	w := parseTokens(text)
	for _, t := range w.tokens {
		if t.kind != literal {
			break
		}
		w.prefix += string([]byte{t.byte})
	}
	for _, t := range slices.Backward(w.tokens) {
		if t.kind != literal {
			break
		}
		w.suffix = string([]byte{t.byte}) + w.suffix
	}
	return w
}

func parseTokens(text string) *wild {
	w := &wild{}
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case '?':
			w.tokens = append(w.tokens, token{kind: single})
			i++
		case '*':
			n := 1
			for i+n < len(text) && text[i+n] == '*' {
				n++
			}
			k := star
			if n > 1 {
				k = deep
			}
			w.tokens = append(w.tokens, token{kind: k})
			i += n
		case '[':
			members, n := parseSet(text[i+1:])
			if members == nil {
				w.broken = true
				return w
			}
			w.tokens = append(w.tokens, token{kind: set, set: members})
			i += 1 + n
		case '\\':
			if i++; i == len(text) {
				w.broken = true
				return w
			}
			fallthrough
		default:
			w.tokens = append(w.tokens, token{kind: literal, byte: text[i]})
			i++
		}
	}
	return w
}

// match tells whether the whole text matches; anywhere lets the match begin
// after any slash as well. All ways are followed at once, which bounds the work
// by len(tokens) * len(text).
func (w *wild) match(text string, anywhere bool) bool {
	if w.broken || !strings.HasSuffix(text, w.suffix) || !anywhere && !strings.HasPrefix(text, w.prefix) {
		return false
	}
	now, next := newPlaces(w.tokens), newPlaces(w.tokens)
	now.add(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		next.reset()
		for _, at := range now.list {
			if at == len(w.tokens) {
				continue
			}
			switch t := w.tokens[at]; {
			case t.kind == deep, t.kind == star && c != '/':
				next.add(at)
			case t.accepts(c):
				next.add(at + 1)
			}
		}
		if anywhere && c == '/' {
			next.add(0)
		}
		if len(next.list) == 0 && !anywhere {
			return false
		}
		now, next = next, now
	}
	return now.has[len(w.tokens)]
}

// places is a set of positions in a pattern.
type places struct {
	tokens []token
	list   []int
	has    []bool
}

func newPlaces(tokens []token) *places {
	return &places{tokens: tokens, has: make([]bool, len(tokens)+1)}
}

func (p *places) reset() {
	for _, at := range p.list {
		p.has[at] = false
	}
	p.list = p.list[:0]
}

// add adds a position, and those behind stars, which may match nothing.
func (p *places) add(at int) {
	for ; !p.has[at]; at++ {
		p.has[at] = true
		p.list = append(p.list, at)
		if at == len(p.tokens) || p.tokens[at].kind != star && p.tokens[at].kind != deep {
			return
		}
	}
}
