package filter

import (
	"regexp"
	"strings"
)

// scope says where in a path a pattern has to match.
type scope uint8

const (
	inName     scope = iota // the last element
	fromTop                 // the whole path
	inTail                  // the last elements, as many as the pattern has
	afterSlash              // the whole path, or what follows any slash
)

type pattern struct {
	scope    scope
	elements int  // of an inTail pattern
	dirOnly  bool // ended with a slash
	// A pattern that begins with "**" sees a slash before the path, so that
	// "**/x" matches x at the top; one that ends with "***" sees a slash after
	// a directory, so that "x/***" matches x itself.
	slashBefore, slashAfter bool

	literal string // the text, unless isWild
	isWild  bool
	wild    *regexp.Regexp // nil matches nothing
}

// compile reads a pattern. Any text is one; a broken one ("[a") matches nothing.
func compile(text string) pattern {
	var p pattern
	if len(text) > 1 && strings.HasSuffix(text, "/") {
		p.dirOnly, text = true, text[:len(text)-1]
	}
	slashes := strings.Count(text, "/")
	deep := strings.Contains(text, "**")
	p.slashBefore = strings.HasPrefix(text, "**")
	p.slashAfter = strings.HasSuffix(text, "***")
	body, anchored := strings.CutPrefix(text, "/")
	switch {
	case anchored || p.slashBefore:
		p.scope = fromTop
	case deep:
		p.scope = afterSlash
	case slashes > 0:
		p.scope, p.elements = inTail, slashes+1
	}
	if p.literal, p.isWild = body, strings.ContainsAny(text, "*[?"); p.isWild {
		p.wild = compileWild(body, p.scope == afterSlash)
	}
	return p
}

func (p *pattern) match(path string, dir bool) bool {
	if p.dirOnly && !dir {
		return false
	}
	switch p.scope {
	case inName:
		path = tail(path, 1)
	case inTail:
		if path = tail(path, p.elements); path == "" {
			return false
		}
	}
	if !p.isWild {
		return path == p.literal
	}
	if p.slashBefore {
		path = "/" + path
	}
	if p.slashAfter && dir {
		path += "/"
	}
	return p.wild != nil && p.wild.MatchString(latin1(path))
}

// tail is the last n elements of a path; "" when it has fewer.
func tail(path string, n int) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] != '/' {
			continue
		}
		if n--; n == 0 {
			return path[i+1:]
		}
	}
	if n == 1 {
		return path
	}
	return ""
}
