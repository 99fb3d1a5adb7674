package cmdb

import (
	"fmt"
	"math"
	"regexp"
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
type source interface {
	count() int
	at(n int) literal.Value
	size() size
}

// size is about how much of a written file one value takes.
type size struct{ bytes, values int }

func (s size) plus(t size) size { return size{s.bytes + t.bytes, s.values + t.values} }

// most is the larger of both in every respect.
func (s size) most(t size) size { return size{max(s.bytes, t.bytes), max(s.values, t.values)} }

func sizeOf(v literal.Value) size { return size{len(literal.Repr(v)), 1 + inside(v)} }

// inside is the number of values in a value.
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
	n := src.count()
	if n == endless {
		n = 1 // nothing to count: one entry
	}
	if n > MaxEntries {
		return nil, fmt.Errorf("generate makes more than %d entries", MaxEntries)
	}
	each := src.size()
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
	d := fields{}
	for k, v := range model.All() {
		name, prefixed := k, prefix == ""
		if s, ok := k.(string); ok && prefix != "" && strings.HasPrefix(s, prefix) {
			name, prefixed = strings.TrimPrefix(s, prefix), true
		}
		src := source(same{v})
		var err error
		if nested, ok := v.(*literal.Dict); ok {
			src, err = dictSource(nested, prefix)
		} else if prefixed {
			src, err = valueSource(v)
		}
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", literal.Repr(k), err)
		}
		d.names, d.sources = append(d.names, name), append(d.sources, src)
	}
	return d, nil
}

func valueSource(v literal.Value) (source, error) {
	switch v := v.(type) {
	case literal.List:
		return elements(v), nil
	case string:
		return textSource(v)
	}
	return same{v}, nil
}

// same hands out one value for ever.
type same struct{ value literal.Value }

func (s same) count() int           { return endless }
func (s same) at(int) literal.Value { return s.value }
func (s same) size() size           { return sizeOf(s.value) }

// elements hands out the elements of a list.
type elements literal.List

func (e elements) count() int             { return len(e) }
func (e elements) at(n int) literal.Value { return e[n] }
func (e elements) size() size {
	var s size
	for _, v := range e {
		s = s.most(sizeOf(v))
	}
	return s
}

// fields hands out dictionaries.
type fields struct {
	names   []literal.Value
	sources []source
}

func (f fields) count() int {
	n := endless
	for _, s := range f.sources {
		n = min(n, s.count())
	}
	return n
}

func (f fields) at(n int) literal.Value {
	d := new(literal.Dict)
	for i, s := range f.sources {
		d.Set(f.names[i], s.at(n))
	}
	return d
}

func (f fields) size() size {
	total := size{bytes: 2, values: 1}
	for i, s := range f.sources {
		total = total.plus(sizeOf(f.names[i])).plus(s.size())
		total.bytes += len(",\n  : ")
	}
	return total
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
		return same{s}, nil
	}
	if parts := strings.Split(s, "."); len(parts) == 4 && addressForm.MatchString(s) {
		return quadSource(parts)
	}
	group, err := parseGroup(s[place[0]:place[1]])
	return affixed{s[:place[0]], group, s[place[1]:]}, err
}

// affixed is a group of ranges with the text around it.
type affixed struct {
	before string
	group  group
	after  string
}

func (a affixed) count() int             { return a.group.count() }
func (a affixed) at(n int) literal.Value { return a.before + a.group.text(n) + a.after }
func (a affixed) size() size {
	return size{len(literal.Repr(a.before)) + len(literal.Repr(a.after)) + a.group.width(), 1}
}

// quad is an IPv4 address with a group in every octet; the rightmost varies
// fastest.
type quad [4]group

func quadSource(parts []string) (source, error) {
	var q quad
	for i, part := range parts {
		var err error
		if q[i], err = parseGroup(part); err != nil {
			return nil, err
		}
	}
	return q, nil
}

func (q quad) count() int {
	n := 1
	for _, g := range q {
		if c := g.count(); c > 0 && n > endless/c {
			return endless - 1
		} else {
			n *= c
		}
	}
	return n
}

func (q quad) at(n int) literal.Value {
	var parts [4]string
	for i := len(q) - 1; i >= 0; i-- {
		c := q[i].count()
		parts[i] = q[i].text(n % c)
		n /= c
	}
	return strings.Join(parts[:], ".")
}

func (q quad) size() size {
	n := len("'...'")
	for _, g := range q {
		n += g.width()
	}
	return size{n, 1}
}

// group is ranges joined by colons, such as 1-3:5-5:9-7.
type group []span

// span counts from first to last, up or down; or it is a text that is no
// range.
type span struct {
	first, last int
	digits      int // least number of digits
	text        string
	plain       bool
}

// parseGroup reads a group. A single number stands for itself, and so does
// any other part that is no range.
func parseGroup(s string) (group, error) {
	var g group
	for part := range strings.SplitSeq(s, ":") {
		left, right, _ := strings.Cut(part, "-")
		if !rangeText.MatchString(part) || rangeText.FindString(part) != part {
			g = append(g, span{text: part, plain: true})
			continue
		}
		sp := span{}
		var err, err2 error
		sp.first, err = strconv.Atoi(left)
		sp.last, err2 = strconv.Atoi(right)
		if err != nil || err2 != nil || sp.first > maxBound || sp.last > maxBound {
			return nil, fmt.Errorf("range %.60s is too large", part)
		}
		if strings.HasPrefix(left, "0") {
			sp.digits = min(len(left), maxDigits)
		}
		g = append(g, sp)
	}
	return g, nil
}

// Bounds of a range: such numbers stay far from overflow.
const (
	maxBound  = 1 << 40
	maxDigits = 100
)

func (sp span) count() int {
	switch {
	case sp.plain:
		return 1
	case sp.last >= sp.first:
		return sp.last - sp.first + 1
	}
	return sp.first - sp.last + 1
}

func (sp span) at(n int) string {
	switch {
	case sp.plain:
		return sp.text
	case sp.last >= sp.first:
		n = sp.first + n
	default:
		n = sp.first - n
	}
	return fmt.Sprintf("%0*d", sp.digits, n)
}

func (g group) count() int {
	n := 0
	for _, sp := range g {
		n = min(n+sp.count(), endless/2)
	}
	return n
}

func (g group) text(n int) string {
	for _, sp := range g {
		c := sp.count()
		if n < c {
			return sp.at(n)
		}
		n -= c
	}
	panic("cmdb: group has no such element")
}

func (g group) width() int {
	n := 0
	for _, sp := range g {
		n = max(n, len(sp.text), sp.digits, 13)
	}
	return n
}
