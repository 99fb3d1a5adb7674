package configure

import "strings"

// asStarlark rewrites what Python 2 accepts and Starlark does not: octal
// numbers (0644), and a script that is indented as a whole, as it is when it
// was copied out of a document. Line numbers stay.
func asStarlark(script string) string {
	return octals(dedent(strings.ReplaceAll(script, "\r\n", "\n")))
}

// dedent removes the indentation of the first statement from every line, when
// every line has it.
func dedent(script string) string {
	lines := strings.SplitAfter(script, "\n")
	margin := ""
	for _, line := range lines {
		if text := strings.TrimLeft(line, " \t"); text != "" && text[0] != '#' && strings.TrimSpace(text) != "" {
			margin = line[:len(line)-len(text)]
			break
		}
	}
	if margin == "" {
		return script
	}
	for i, line := range lines {
		rest, ok := strings.CutPrefix(line, margin)
		if !ok && strings.TrimSpace(line) != "" {
			return script
		}
		if ok {
			lines[i] = rest
		}
	}
	return strings.Join(lines, "")
}

// octals writes 0644 as 0o644, outside of strings and comments.
func octals(script string) string {
	var out strings.Builder
	for i := 0; i < len(script); {
		n := tokenLength(script[i:])
		token := script[i : i+n]
		if len(token) > 1 && token[0] == '0' && strings.Trim(token, "01234567") == "" && strings.Trim(token, "0") != "" {
			token = "0o" + token[1:]
		}
		out.WriteString(token)
		i += n
	}
	return out.String()
}

// tokenLength is the length of the string, comment, word or number that the
// text starts with, or 1 for any other character.
func tokenLength(s string) int {
	switch c := s[0]; {
	case c == '#':
		if n := strings.IndexByte(s, '\n'); n >= 0 {
			return n
		}
		return len(s)
	case strings.HasPrefix(s, `'''`) || strings.HasPrefix(s, `"""`):
		return stringLength(s, s[:3])
	case c == '\'' || c == '"':
		return stringLength(s, s[:1])
	case wordByte(c):
		n := 1
		for n < len(s) && (wordByte(s[n]) || s[n] == '.') {
			n++
		}
		return n
	}
	return 1
}

// stringLength is the length of the string literal that starts with quote. A
// backslash hides the next character, in raw strings too.
func stringLength(s, quote string) int {
	for i := len(quote); i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote)
		case s[i] == '\n' && len(quote) == 1:
			return i // not closed: the parser will say so
		}
	}
	return len(s)
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
