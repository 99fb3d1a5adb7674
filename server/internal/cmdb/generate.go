package cmdb

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"edeploy/server/internal/literal"
)

// Bounds of what one generate call may make, so that the written file stays
// well below the limits for reading it. A /16 network has 65536 addresses.
const (
	MaxEntries         = 65536
	maxGeneratedBytes  = literal.MaxBytes / 2
	maxGeneratedValues = literal.MaxValues / 2
)

// endless is the length of a source that never runs out.
const endless = math.MaxInt

// source hands out the values of one key: the n-th entry gets the n-th value.
type source struct {
	count int
	at    func(n int) literal.Value
	size  size // of the largest value
}

// size is about how much of a written file one value takes.
type size struct{ bytes, values int }

func (s size) plus(t size) size { return size{s.bytes + t.bytes, s.values + t.values} }

// most is the larger of both in every respect.
func (s size) most(t size) size { return size{max(s.bytes, t.bytes), max(s.values, t.values)} }

func sizeOf(v literal.Value) size { return size{len(literal.Repr(v)), 1 + inside(v)} }

func inside(v literal.Value) int {
	n := 0
	switch v := v.(type) {
	case literal.List:
		for _, item := range v {
			n += 1 + inside(item)
		}
	case literal.Tuple:
		return inside(literal.List(v))
	case *literal.Dict:
		for k, item := range v.All() {
			n += 2 + inside(k) + inside(item)
		}
	}
	return n
}

// Generate expands a model into entries (reference sections 7.2 to 7.4): one
// element of every source in turn, until the first is exhausted. With a
// prefix, only keys that start with it are expanded, and lose it.
func Generate(model *literal.Dict, prefix string) ([]*literal.Dict, error) {
	if constant(model) {
		return []*literal.Dict{model}, nil
	}
	src, err := dictSource(model, prefix)
	if err != nil {
		return nil, err
	}
	n := src.count
	if n == endless {
		n = 1 // nothing to count: one entry
	}
	if n > MaxEntries {
		return nil, fmt.Errorf("generate makes more than %d entries", MaxEntries)
	}
	each := src.size
	if n > 0 && (each.bytes > maxGeneratedBytes/n || each.values > maxGeneratedValues/n) {
		return nil, fmt.Errorf("generate makes %d entries of about %d bytes and %d values, more than %d bytes or %d values in all",
			n, each.bytes, each.values, maxGeneratedBytes, maxGeneratedValues)
	}
	entries := make([]*literal.Dict, n)
	for i := range entries {
		entries[i] = src.at(i).(*literal.Dict)
	}
	return entries, nil
}

var rangeText = regexp.MustCompile(`[0-9]+-[0-9]+`)

// constant tells whether all values are texts without a range.
func constant(model *literal.Dict) bool {
	for _, v := range model.All() {
		if s, ok := v.(string); !ok || rangeText.MatchString(s) {
			return false
		}
	}
	return true
}

// dictSource expands the keys of a dictionary in step.
func dictSource(model *literal.Dict, prefix string) (source, error) {
	var names []literal.Value
	var sources []source
	all := source{count: endless, size: size{bytes: 2, values: 1}}
	for k, v := range model.All() {
		name, prefixed := k, prefix == ""
		if s, ok := k.(string); ok && prefix != "" && strings.HasPrefix(s, prefix) {
			name, prefixed = strings.TrimPrefix(s, prefix), true
		}
		src := same(v)
		var err error
		if nested, ok := v.(*literal.Dict); ok {
			src, err = dictSource(nested, prefix)
		} else if prefixed {
			src, err = valueSource(v)
		}
		if err != nil {
			return source{}, fmt.Errorf("key %s: %w", literal.Repr(k), err)
		}
		names, sources = append(names, name), append(sources, src)
		all.count = min(all.count, src.count)
		all.size = all.size.plus(sizeOf(name)).plus(src.size).plus(size{bytes: len(",\n  : ")})
	}
	all.at = func(n int) literal.Value {
		d := new(literal.Dict)
		for i, src := range sources {
			d.Set(names[i], src.at(n))
		}
		return d
	}
	return all, nil
}

// same hands out one value for ever.
func same(v literal.Value) source {
	return source{endless, func(int) literal.Value { return v }, sizeOf(v)}
}

func valueSource(v literal.Value) (source, error) {
	switch v := v.(type) {
	case literal.List:
		var largest size
		for _, item := range v {
			largest = largest.most(sizeOf(item))
		}
		return source{len(v), func(n int) literal.Value { return v[n] }, largest}, nil
	case string:
		return textSource(v)
	}
	return same(v), nil
}

var (
	addressForm = regexp.MustCompile(`^[0-9.:-]+$`)
	rangeGroup  = regexp.MustCompile(`[0-9]+-[0-9]+(:[0-9]+-[0-9]+)*`)
)

// textSource expands a text: dotted quads octet by octet, any other text at
// its first group of ranges.
func textSource(s string) (source, error) {
	place := rangeGroup.FindStringIndex(s)
	if place == nil {
		return same(s), nil
	}
	if parts := strings.Split(s, "."); len(parts) == 4 && addressForm.MatchString(s) {
		return quadSource(parts)
	}
	group, err := parseGroup(s[place[0]:place[1]])
	before, after := s[:place[0]], s[place[1]:]
	return source{
		group.count(), func(n int) literal.Value { return before + group.text(n) + after },
		size{len(literal.Repr(before)) + len(literal.Repr(after)) + group.width(), 1},
	}, err
}

// quadSource is an IPv4 address with a group in every octet; the rightmost
// varies fastest.
func quadSource(parts []string) (source, error) {
	groups := make([]group, len(parts))
	all := source{count: 1, size: size{len("'...'"), 1}}
	for i, part := range parts {
		var err error
		if groups[i], err = parseGroup(part); err != nil {
			return source{}, err
		}
		all.size.bytes += groups[i].width()
		if c := groups[i].count(); all.count > (endless-1)/c {
			all.count = endless - 1
		} else {
			all.count *= c
		}
	}
	all.at = func(n int) literal.Value {
		texts := make([]string, len(groups))
		for i, g := range slices.Backward(groups) {
			texts[i] = g.text(n % g.count())
			n /= g.count()
		}
		return strings.Join(texts, ".")
	}
	return all, nil
}

// group is ranges joined by colons, such as 1-3:5-5:9-7.
type group []span

// span counts from first to last, up or down.
type span struct {
	first, last int
	digits      int    // least number of digits
	text        string // when it is plain
	plain       bool   // no range
}

// Bounds of a range: such numbers stay far from overflow.
const (
	maxBound  = 1 << 40
	maxDigits = 100
)

var wholeRange = regexp.MustCompile(`^([0-9]+)-([0-9]+)$`)

// parseGroup reads a group. A single number stands for itself, and so does
// any other part that is no range.
func parseGroup(s string) (group, error) {
	var g group
	for part := range strings.SplitSeq(s, ":") {
		m := wholeRange.FindStringSubmatch(part)
		if m == nil {
			g = append(g, span{text: part, plain: true})
			continue
		}
		first, err := strconv.Atoi(m[1])
		last, err2 := strconv.Atoi(m[2])
		if err != nil || err2 != nil || first > maxBound || last > maxBound {
			return nil, fmt.Errorf("range %.60s is too large", part)
		}
		sp := span{first: first, last: last}
		if strings.HasPrefix(part, "0") {
			sp.digits = min(len(m[1]), maxDigits)
		}
		g = append(g, sp)
	}
	return g, nil
}

func (sp span) count() int { return max(sp.last-sp.first, sp.first-sp.last) + 1 }

func (g group) count() int {
	n := 0
	for _, sp := range g {
		n = min(n+sp.count(), endless/2)
	}
	return n
}

func (g group) text(n int) string {
	for _, sp := range g {
		switch c := sp.count(); {
		case n >= c:
			n -= c
		case sp.plain:
			return sp.text
		case sp.last >= sp.first:
			return fmt.Sprintf("%0*d", sp.digits, sp.first+n)
		default:
			return fmt.Sprintf("%0*d", sp.digits, sp.first-n)
		}
	}
	panic("cmdb: group has no such element")
}

func (g group) width() int {
	n := 13
	for _, sp := range g {
		n = max(n, len(sp.text), sp.digits)
	}
	return n
}
