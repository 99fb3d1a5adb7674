package match

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

type test func(v *value) bool

// value is one text of the description, with what helpers want to know of it.
type value struct {
	text   string
	bare   string  // without quotes at its ends
	number float64 // NaN when it is none
	addr   netip.Addr
}

func newValue(t string) value {
	v := value{text: t, bare: unquote(t), number: math.NaN()}
	if t == "" {
		return v
	}
	if x, ok := parseFloat(v.bare); ok {
		v.number = x
	}
	if addr, err := netip.ParseAddr(v.bare); err == nil && addr.Is4() {
		v.addr = addr
	}
	return v
}

// helpers are the known helpers and their numbers of arguments.
var helpers = map[string]struct{ least, most int }{
	"gt": {1, 1}, "ge": {1, 1}, "lt": {1, 1}, "le": {1, 1},
	"range": {2, 2}, "in": {1, math.MaxInt}, "network": {1, 1}, "regexp": {1, 1},
	"not": {1, 1}, "and": {2, 2}, "or": {2, 2},
}

const helperNames = "helpers are gt ge lt le range in network regexp not and or"

func knownHelper(name string) bool { _, ok := helpers[name]; return ok }

// looksLikeHelper tells a misspelt helper from text in parentheses, such as a
// product name.
func looksLikeHelper(name string) bool {
	name = strings.TrimSpace(name)
	return knownHelper(name) || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") == ""
}

func (c *call) compile() (test, error) {
	want := helpers[c.name]
	if n := len(c.args); n < want.least || n > want.most {
		return nil, fmt.Errorf("%s takes %s, got %d", c.name, plural(want.least), n)
	}
	switch c.name {
	case "gt":
		return c.compare(func(v, n float64) bool { return v > n })
	case "ge":
		return c.compare(func(v, n float64) bool { return v >= n })
	case "lt":
		return c.compare(func(v, n float64) bool { return v < n })
	case "le":
		return c.compare(func(v, n float64) bool { return v <= n })
	case "range":
		return c.interval()
	case "in":
		return c.oneOf(), nil
	case "network":
		return c.network()
	case "regexp":
		return c.regexp()
	}
	return c.logical()
}

func plural(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return strconv.Itoa(n) + " arguments"
}

func (c *call) number(i int) (float64, error) {
	x, ok := parseFloat(c.args[i].text)
	if !ok || c.args[i].call != nil {
		return 0, fmt.Errorf("%s wants a number, got %q", c.name, c.args[i].text)
	}
	return x, nil
}

func (c *call) compare(holds func(v, n float64) bool) (test, error) {
	n, err := c.number(0)
	if err != nil {
		return nil, err
	}
	return func(v *value) bool { return holds(v.number, n) }, nil
}

func (c *call) interval() (test, error) {
	low, err := c.number(0)
	if err != nil {
		return nil, err
	}
	high, err := c.number(1)
	if err != nil {
		return nil, err
	}
	return func(v *value) bool { return low <= v.number && v.number <= high }, nil
}

func (c *call) oneOf() test {
	set := make(map[string]bool, len(c.args))
	for _, a := range c.args {
		if a.call == nil {
			set[a.text] = true
		}
	}
	return func(v *value) bool { return set[v.bare] }
}

func (c *call) network() (test, error) {
	prefix, err := parseNetwork(c.args[0].text)
	if err != nil {
		return nil, err
	}
	return func(v *value) bool { return v.addr.IsValid() && prefix.Contains(v.addr) }, nil
}

// parseNetwork reads a.b.c.d, a.b.c.d/len or a.b.c.d/netmask; host bits are
// masked.
func parseNetwork(s string) (netip.Prefix, error) {
	address, mask, given := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(address)
	if err != nil || !addr.Is4() {
		return netip.Prefix{}, fmt.Errorf("network wants an IPv4 network, got %q", s)
	}
	bits := 32
	if given {
		if bits, err = parseMask(mask); err != nil {
			return netip.Prefix{}, fmt.Errorf("network %q: %w", s, err)
		}
	}
	return netip.PrefixFrom(addr, bits).Masked(), nil
}

// parseMask reads a prefix length, a netmask or (as Python does) its inverse.
func parseMask(s string) (int, error) {
	if bits, err := strconv.Atoi(s); err == nil && bits >= 0 && bits <= 32 && s[0] != '+' {
		return bits, nil
	}
	mask, err := netip.ParseAddr(s)
	if err != nil || !mask.Is4() {
		return 0, errors.New("mask is neither a number from 0 to 32 nor an address")
	}
	b := mask.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	for bits := range 33 {
		if ones := ^uint32(0) << (32 - bits); m == ones || m == ^ones {
			return bits, nil
		}
	}
	return 0, errors.New("mask has gaps")
}

func (c *call) regexp() (test, error) {
	re, err := compilePython(c.args[0].text)
	if err != nil {
		return nil, err
	}
	return func(v *value) bool { return re.MatchString(v.bare) }, nil
}

// logical compiles not, and, or. An argument that is no call is a text and
// counts as true unless it is empty.
func (c *call) logical() (test, error) {
	parts := make([]test, len(c.args))
	for i, a := range c.args {
		if a.call == nil {
			parts[i] = func(*value) bool { return a.text != "" }
			continue
		}
		var err error
		if parts[i], err = a.call.compile(); err != nil {
			return nil, err
		}
	}
	switch c.name {
	case "not":
		return func(v *value) bool { return !parts[0](v) }, nil
	case "and":
		return func(v *value) bool { return parts[0](v) && parts[1](v) }, nil
	}
	return func(v *value) bool { return parts[0](v) || parts[1](v) }, nil
}

func parseFloat(s string) (float64, bool) {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	for i := range len(s) {
		if s[i] == '_' && (i == 0 || i == len(s)-1 || !digit(s[i-1]) || !digit(s[i+1])) {
			return 0, false
		}
	}
	x, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	return x, err == nil || errors.Is(err, strconv.ErrRange)
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

const maxExpression = 4096

// pythonOnly are spellings of Python that mean something else, or nothing, in
// Go's RE2.
var pythonOnly = strings.NewReplacer(`\\`, `\\`, `\Z`, `\z`, `{,`, `{0,`, `\{,`, `\{,`)

// compilePython compiles a regular expression of Python, as far as it can be
// matched in linear time.
func compilePython(expression string) (*regexp.Regexp, error) {
	if len(expression) > maxExpression {
		return nil, fmt.Errorf("regular expression is longer than %d bytes", maxExpression)
	}
	re, err := regexp.Compile(pythonOnly.Replace(expression))
	if err == nil {
		return re, nil
	}
	for _, unsupported := range []string{"(?=", "(?!", "(?<=", "(?<!", "(?P=", "(?(", `\1`, `\2`, `\3`} {
		if strings.Contains(expression, unsupported) {
			return nil, fmt.Errorf("regular expression holds %s: lookaround, conditions and back references are not supported", unsupported)
		}
	}
	return nil, fmt.Errorf("regular expression: %w", err)
}
