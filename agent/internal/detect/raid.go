package detect

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// property is a line "Key : value" of a RAID controller's tool.
type property struct{ key, value string }

// separator is what such tools write between key and value.
var separator = regexp.MustCompile(`\s*:\s*`)

// properties are the lines of exactly one key and one value, the key in title
// case without blanks, as the original's parsers make them (reference sections
// 3.3 and 8.4). Of a key that comes twice the last value counts, at the first's
// place.
func properties(text string) []property {
	var list []property
	for line := range strings.Lines(text) {
		if part := separator.Split(strings.TrimSpace(line), -1); len(part) == 2 {
			list = setProperty(list, titleCase(part[0]), plainValue(part[1]))
		}
	}
	return list
}

func setProperty(list []property, key, value string) []property {
	for i := range list {
		if list[i].key == key {
			list[i].value = value
			return list
		}
	}
	return append(list, property{key, value})
}

func valueOf(list []property, key string) string {
	for _, p := range list {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

// titleCase begins each run of letters with a capital and drops blanks.
func titleCase(text string) string {
	inWord := false
	return strings.Map(func(r rune) rune {
		if r == ' ' {
			inWord = false
			return -1
		}
		letter := unicode.IsLetter(r)
		defer func() { inWord = letter }()
		if letter && !inWord {
			return unicode.ToUpper(r)
		}
		return unicode.ToLower(r)
	}, text)
}

// plainValue drops a final dot, and the zeros in front of a number.
func plainValue(text string) string {
	if len(text) > 1 {
		text = strings.TrimSuffix(text, ".")
	}
	if n, err := strconv.Atoi(text); err == nil {
		return strconv.Itoa(n)
	}
	return text
}

// gigabytes converts "93.1 GB" to "93.1" and "1.8 TB" to "1800"; what has
// another unit stays, without blanks.
func gigabytes(size string) string {
	size = strings.ReplaceAll(size, " ", "")
	if number, ok := strings.CutSuffix(size, "GB"); ok {
		return number
	}
	if number, ok := strings.CutSuffix(size, "TB"); ok {
		if tb, err := strconv.ParseFloat(number, 64); err == nil {
			return strconv.FormatInt(int64(tb*1000), 10)
		}
	}
	return size
}

// firstProgram runs the first of several programs that is there; name is ""
// where none is. Some exit with the number of their controllers.
func firstProgram(ctx context.Context, r reader, names []string, args ...string) (name, text string, err error) {
	for _, name := range names {
		out, err := r.run(ctx, append([]string{name}, args...)...)
		if !errors.Is(err, errNoProgram) {
			return name, out.Text, err
		}
	}
	return "", "", nil
}

// mostControllers bounds what a tool may claim.
const mostControllers = 32

// mostSlots bounds what an enclosure or controller may claim.
const mostSlots = 256
