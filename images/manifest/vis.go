package manifest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// plainBytes stand for themselves in a manifest. Everything else is written
// as backslash and three octal digits, the form of vis(3) that all readers of
// mtree(5) know.
const plainBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!%+,-./:;@^_~()&'"

var isPlain = func() (table [256]bool) {
	for i := range len(plainBytes) {
		table[plainBytes[i]] = true
	}
	return table
}()

// Escape makes any path printable ASCII without blanks: bytes that are not
// plain become "\ooo", as in a manifest.
func Escape(s string) string {
	n := 0
	for n < len(s) && isPlain[s[n]] {
		n++
	}
	if n == len(s) {
		return s
	}
	var b strings.Builder
	b.WriteString(s[:n])
	for i := n; i < len(s); i++ {
		if isPlain[s[i]] {
			b.WriteByte(s[i])
		} else {
			b.Write([]byte{'\\', '0' + s[i]>>6, '0' + s[i]>>3&7, '0' + s[i]&7})
		}
	}
	return b.String()
}

// cEscapes are the one-letter escapes of VIS_CSTYLE that other writers use.
var cEscapes = map[byte]byte{'\\': '\\', 'n': '\n', 'r': '\r', 'b': '\b', 'a': '\a',
	'v': '\v', 't': '\t', 'f': '\f', 's': ' ', 'E': 0x1b, '#': '#'}

// Unescape is the inverse of Escape. It also reads the one-letter escapes of
// vis(3).
func Unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if n, err := strconv.ParseUint(s[i+1:min(i+4, len(s))], 8, 16); err == nil && i+3 < len(s) {
			if n > 255 {
				return "", fmt.Errorf("escape %s is larger than a byte", s[i:i+4])
			}
			b.WriteByte(byte(n))
			i += 3
			continue
		}
		if i+1 == len(s) {
			return "", errors.New("a backslash at the end escapes nothing")
		}
		c, ok := cEscapes[s[i+1]]
		if !ok {
			return "", fmt.Errorf(`unknown escape \%q`, s[i+1])
		}
		b.WriteByte(c)
		i++
	}
	return b.String(), nil
}
