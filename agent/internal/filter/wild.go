package filter

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// compileWild makes a regular expression of a wildcard pattern, for the whole text
// or, with anywhere, also for what follows any slash of it. Nil is a broken one:
// an open class or a backslash at the end.
func compileWild(text string, anywhere bool) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(map[bool]string{false: `(?s)\A`, true: `(?s)(?:\A|/)`}[anywhere])
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '?':
			b.WriteString("[^/]")
		case '*':
			if stars := len(text[i:]) - len(strings.TrimLeft(text[i:], "*")); stars > 1 {
				b.WriteString(".*")
				i += stars - 1
			} else {
				b.WriteString("[^/]*")
			}
		case '[':
			members, n := parseSet(text[i+1:])
			if members == nil {
				return nil
			}
			b.WriteString(class(members))
			i += n
		case '\\':
			if i++; i == len(text) {
				return nil
			}
			fallthrough
		default:
			b.WriteString(regexp.QuoteMeta(latin1(text[i : i+1])))
		}
	}
	return regexp.MustCompile(b.String() + `\z`)
}

// class is a regular expression for one of the members.
func class(members *[256]bool) string {
	var b strings.Builder
	for c, is := range members {
		if is {
			b.WriteString(`\x{` + strconv.FormatInt(int64(c), 16) + `}`)
		}
	}
	if b.Len() == 0 {
		return `[^\x00-\x{10FFFF}]`
	}
	return "[" + b.String() + "]"
}

// latin1 makes each byte a character of its own, as rsync takes them.
func latin1(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		b.WriteRune(rune(text[i]))
	}
	return b.String()
}
