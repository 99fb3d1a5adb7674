package dialect

import (
	"iter"
	"strings"
)

// Tokens are the pieces of a script, each with its offset: strings, comments,
// words and numbers, a backslash with the end of line that it hides, and any
// other byte alone. Together they are the whole text. Nothing is an error: a
// string that is not closed ends with its line.
func Tokens(text string) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		for i := 0; i < len(text); {
			n := tokenLength(text[i:])
			if !yield(i, text[i:i+n]) {
				return
			}
			i += n
		}
	}
}

// IsOctal tells a Python 2 octal number, such as 0644, from other tokens.
func IsOctal(token string) bool {
	return len(token) > 1 && token[0] == '0' && strings.Trim(token, "01234567") == "" && strings.Trim(token, "0") != ""
}

// IsWord tells a name, or names with dots between, from other tokens.
func IsWord(token string) bool {
	return WordByte(token[0]) && (token[0] < '0' || token[0] > '9')
}

// WordByte says whether a byte may stand in a name.
func WordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func tokenLength(s string) int {
	switch c := s[0]; {
	case c == '#':
		if n := strings.IndexByte(s, '\n'); n >= 0 {
			return n
		}
		return len(s)
	case strings.HasPrefix(s, "\\\n"):
		return 2
	case strings.HasPrefix(s, `'''`) || strings.HasPrefix(s, `"""`):
		return stringLength(s, s[:3])
	case c == '\'' || c == '"':
		return stringLength(s, s[:1])
	case WordByte(c):
		n := 1
		for n < len(s) && (WordByte(s[n]) || s[n] == '.') {
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
