package detect

import (
	"cmp"
	"regexp"
	"strings"
)

// Natural orders names as people count: numbers by value (eth2 before eth10),
// and disk letters by length (sdz before sdaa).
func Natural(a, b string) int {
	if x, y, ok := diskLetters(a, b); ok {
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	}
	for a != "" && b != "" {
		x, y := chunk(a), chunk(b)
		a, b = a[len(x):], b[len(y):]
		if order := compareChunks(x, y); order != 0 {
			return order
		}
	}
	return cmp.Compare(len(a), len(b))
}

var letteredDisk = regexp.MustCompile(`^([shv]d)([a-z]+)$`)

// diskLetters are the parts behind a common sd, hd or vd.
func diskLetters(a, b string) (x, y string, ok bool) {
	first, second := letteredDisk.FindStringSubmatch(a), letteredDisk.FindStringSubmatch(b)
	if first == nil || second == nil || first[1] != second[1] {
		return "", "", false
	}
	return first[2], second[2], true
}

// chunk is the run of digits or of other characters that s begins with.
func chunk(s string) string {
	digits := isDigit(s[0])
	for i := range len(s) {
		if isDigit(s[i]) != digits {
			return s[:i]
		}
	}
	return s
}

func compareChunks(x, y string) int {
	if isDigit(x[0]) && isDigit(y[0]) {
		m, n := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		return cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n), cmp.Compare(len(x), len(y)))
	}
	return cmp.Compare(x, y)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
