// Package raidtool reads what the programs of RAID controllers' makers say: HP's
// ssacli and LSI's MegaCli (reference sections 3.3 and 8.4). It runs none of
// them: detection and configuration scripts do, each in its own way.
package raidtool

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// The programs by their names, newest first: the first that is there is run.
var (
	HP       = []string{"ssacli", "hpssacli", "hpacucli"}
	MegaRAID = []string{"megacli", "MegaCli", "MegaCli64"}
)

// Property is a line "Key : value".
type Property struct{ Key, Value string }

// separator is what such tools write between key and value.
var separator = regexp.MustCompile(`\s*:\s*`)

// Properties are the lines of exactly one key and one value, the key in title
// case without blanks, as the original's parsers make them. Of a key that comes
// twice the last value counts, at the first's place.
func Properties(text string) []Property {
	var list []Property
	for line := range strings.Lines(text) {
		if part := separator.Split(strings.TrimSpace(line), -1); len(part) == 2 {
			list = set(list, titleCase(part[0]), PlainValue(part[1]))
		}
	}
	return list
}

func set(list []Property, key, value string) []Property {
	for i := range list {
		if list[i].Key == key {
			list[i].Value = value
			return list
		}
	}
	return append(list, Property{key, value})
}

// Value is the value of a key; "" where there is none.
func Value(list []Property, key string) string {
	for _, p := range list {
		if p.Key == key {
			return p.Value
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

// PlainValue drops a final dot, and the zeros in front of a number.
func PlainValue(text string) string {
	if len(text) > 1 {
		text = strings.TrimSuffix(text, ".")
	}
	if n, err := strconv.Atoi(text); err == nil {
		return strconv.Itoa(n)
	}
	return text
}

// enclosure is the line that begins a part of MegaCli's -EncInfo.
var enclosure = regexp.MustCompile(` +Enclosure ([0-9]+):`)

// Enclosure is a part of MegaCli's -EncInfo.
type Enclosure struct {
	Number     int
	Properties []Property // without the line that has the number
}

// Enclosures are the parts of MegaCli's -EncInfo.
func Enclosures(text string) []Enclosure {
	var list []Enclosure
	begin := append(enclosure.FindAllStringSubmatchIndex(text, -1), []int{len(text)})
	for i, at := range begin[:len(begin)-1] {
		number, err := strconv.Atoi(text[at[2]:at[3]])
		if err == nil {
			list = append(list, Enclosure{number, Properties(text[at[1]:begin[i+1][0]])})
		}
	}
	return list
}
