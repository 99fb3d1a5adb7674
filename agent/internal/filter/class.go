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
	rest, negated := text, strings.HasPrefix(text, "!") || strings.HasPrefix(text, "^")
	if negated {
		rest = text[1:]
	}
	members = new([256]bool)
	var previous byte // what a range begins with; 0: nothing
	// The first character is a member even if it is "]".
	for first := true; first || !strings.HasPrefix(rest, "]"); first = false {
		if name, after, ok := namedClass(rest); ok {
			if !addClass(members, name) {
				return nil, 0
			}
			rest, previous = after, 0
			continue
		}
		isRange := previous != 0 && len(rest) > 1 && rest[0] == '-' && rest[1] != ']'
		if isRange {
			rest = rest[1:]
		}
		rest = strings.TrimPrefix(rest, `\`)
		if rest == "" {
			return nil, 0
		}
		from, to := rest[0], rest[0]
		if isRange {
			from = previous
		}
		for c := int(from); c <= int(to); c++ {
			members[c] = true
		}
		rest, previous = rest[1:], to
		if isRange {
			previous = 0
		}
	}
	for c := range members {
		members[c] = members[c] != negated && c != '/'
	}
	return members, len(text) - len(rest) + 1
}

// namedClass reads "[:alpha:]". Without the ":]" the "[" is a member like others.
func namedClass(text string) (name, rest string, ok bool) {
	text, ok = strings.CutPrefix(text, "[:")
	name, rest, ends := strings.Cut(text, "]")
	name, colon := strings.CutSuffix(name, ":")
	return name, rest, ok && ends && colon
}

func addClass(members *[256]bool, name string) (known bool) {
	if !slices.Contains(classes, name) {
		return false
	}
	class := regexp.MustCompile("[[:" + name + ":]]")
	for c := range members {
		members[c] = members[c] || class.MatchString(string(rune(c)))
	}
	return true
}

// classes are those of the C locale, isalpha(3).
var classes = []string{"alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit"}
