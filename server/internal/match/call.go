package match

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// call is a helper with its arguments.
type call struct {
	name string
	args []argument
}

// argument is a text, or a call whose text it is.
type argument struct {
	text string
	call *call
}

// String writes the call so that equal calls have equal texts.
func (c *call) String() string {
	var b strings.Builder
	b.WriteString(c.name)
	for _, a := range c.args {
		if a.call != nil {
			fmt.Fprintf(&b, "(%s)", a.call)
		} else {
			fmt.Fprintf(&b, "(%q)", a.text)
		}
	}
	return b.String()
}

// callForm is what the original takes for a call (reference section 5.3): a
// name, the first argument, and the rest behind a comma.
var callForm = regexp.MustCompile(`(?s)^([^(]+)\(\s*([^,]+)(?:,\s*(.+))?\)$`)

var commas = regexp.MustCompile(`\s*,\s*`)

func hasCallForm(s string) bool { return strings.HasSuffix(s, ")") && callForm.MatchString(s) }

// callName is the text before the first parenthesis.
func callName(s string) string {
	name, _, _ := strings.Cut(s, "(")
	return name
}

// unquote strips quote characters from both ends, as the original does.
func unquote(s string) string { return strings.Trim(s, `'"`) }

// maxNesting bounds calls within calls.
const maxNesting = 50

// parseOriginalCall reads a call as the original does: arguments are cut at
// every comma, and blanks before the first comma and before the closing
// parenthesis count.
func parseOriginalCall(s string, depth int) (*call, error) {
	m := callForm.FindStringSubmatch(s)
	if m == nil || depth > maxNesting {
		return nil, errors.New("no call")
	}
	parts := []string{m[2]}
	if m[3] != "" {
		parts = append(parts, commas.Split(m[3], -1)...)
	}
	c := &call{name: m[1]}
	for _, part := range parts {
		a := argument{text: unquote(part)}
		if hasCallForm(a.text) && knownHelper(callName(a.text)) {
			a.call, _ = parseOriginalCall(a.text, depth+1)
		}
		c.args = append(c.args, a)
	}
	return c, nil
}

// parseCall reads a call as a reader expects it: nested calls and quoted
// commas hold together, blanks around arguments do not count.
func parseCall(s string, depth int) (*call, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("helpers are nested deeper than %d levels", maxNesting)
	}
	name, rest, _ := strings.Cut(s, "(")
	inner := strings.TrimSuffix(rest, ")")
	c := &call{name: name}
	if name == "regexp" {
		c.args = []argument{{text: regexpArgument(inner)}}
		return c, nil
	}
	for i, part := range splitArguments(inner) {
		part = strings.TrimSpace(part)
		if part == "" {
			return nil, fmt.Errorf("argument %d of %s is empty", i+1, name)
		}
		a := argument{text: unquote(part)}
		nests := name == "not" || name == "and" || name == "or"
		if nests && hasCallForm(a.text) && knownHelper(callName(a.text)) {
			var err error
			if a.call, err = parseCall(a.text, depth+1); err != nil {
				return nil, err
			}
		}
		c.args = append(c.args, a)
	}
	return c, nil
}

// regexpArgument is the expression between the parentheses: commas belong to
// it, and so do blanks at its end unless it is in quotes.
func regexpArgument(inner string) string {
	inner = strings.TrimLeft(inner, " \t\r\n")
	trimmed := strings.TrimRight(inner, " \t\r\n")
	if n := len(trimmed); n > 1 && (trimmed[0] == '"' || trimmed[0] == '\'') && trimmed[n-1] == trimmed[0] {
		return trimmed[1 : n-1]
	}
	return unquote(inner)
}

// splitArguments cuts at the commas that are neither in quotes nor in
// parentheses; at all of them when the parentheses do not pair up.
func splitArguments(s string) []string {
	var parts []string
	sc := scanner{text: s}
	start := 0
	for sc.pos < len(s) {
		if s[sc.pos] == ',' && len(sc.open) == 0 {
			parts = append(parts, s[start:sc.pos])
			start = sc.pos + 1
		}
		if !sc.step() {
			return strings.Split(s, ",")
		}
	}
	if len(sc.open) > 0 {
		return strings.Split(s, ",")
	}
	return append(parts, s[start:])
}

// scanner walks over the arguments of a call and knows the open parentheses.
type scanner struct {
	text string
	pos  int
	open []bool // for each: it belongs to a regular expression
}

// step moves on by one character, or over a quoted text, an escape or a
// character class. It answers false at a parenthesis that closes nothing.
func (sc *scanner) step() bool {
	c := sc.text[sc.pos]
	inRegexp := len(sc.open) > 0 && sc.open[len(sc.open)-1]
	sc.pos++
	switch {
	case c == '(':
		sc.open = append(sc.open, inRegexp || strings.HasSuffix(sc.text[:sc.pos-1], "regexp"))
	case c == ')' && len(sc.open) == 0:
		return false
	case c == ')':
		sc.open = sc.open[:len(sc.open)-1]
	case inRegexp && c == '\\':
		sc.pos = min(sc.pos+1, len(sc.text))
	case inRegexp && c == '[':
		sc.skipClass()
	case !inRegexp && (c == '"' || c == '\''):
		if end := strings.IndexByte(sc.text[sc.pos:], c); end >= 0 && sc.atArgument() {
			sc.pos += end + 1
		}
	}
	return true
}

// atArgument tells whether the character just passed starts an argument.
func (sc *scanner) atArgument() bool {
	before := strings.TrimRight(sc.text[:sc.pos-1], " \t")
	return before == "" || strings.HasSuffix(before, ",") || strings.HasSuffix(before, "(")
}

// skipClass moves behind a character class, whose first character may be a
// closing bracket.
func (sc *scanner) skipClass() {
	start := sc.pos
	if strings.HasPrefix(sc.text[start:], "^") {
		start++
	}
	for i := start; i < len(sc.text); i++ {
		switch {
		case sc.text[i] == '\\':
			i++
		case sc.text[i] == ']' && i > start:
			sc.pos = i + 1
			return
		}
	}
}
