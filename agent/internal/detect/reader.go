package detect

import (
	"cmp"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// reader reads small files of sysfs and procfs.
type reader struct{ root fs.FS }

// text is a file's content without blanks around it; "" when it cannot be
// read, which for sysfs often means that there is no value.
func (r reader) text(elem ...string) string {
	data, err := fs.ReadFile(r.root, path.Join(elem...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// link is the last element of a symbolic link's target.
func (r reader) link(elem ...string) string {
	target, err := fs.ReadLink(r.root, path.Join(elem...))
	if err != nil {
		return ""
	}
	return path.Base(target)
}

// glob are the paths that match a pattern, in natural order.
func (r reader) glob(elem ...string) []string {
	names, _ := fs.Glob(r.root, path.Join(elem...)) // patterns are constants
	slices.SortFunc(names, Natural)
	return names
}

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
