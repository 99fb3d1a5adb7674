package appliance

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fields reads the values of one section and collects what is wrong.
type fields struct {
	section string
	values  map[string]string
	errs    *[]error
}

func (f fields) text(key, def string) string {
	if v, ok := f.values[key]; ok {
		return v
	}
	return def
}

func (f fields) bad(key, want string) {
	*f.errs = append(*f.errs, fmt.Errorf("[%s] %s = %s: want %s", f.section, key, f.values[key], want))
}

func (f fields) port(key string, def int) int {
	v, err := strconv.Atoi(f.text(key, strconv.Itoa(def)))
	if err != nil || v < 1 || v > 65535 {
		f.bad(key, "a port from 1 to 65535")
	}
	return v
}

func (f fields) yes(key string, def bool) bool {
	switch strings.ToLower(f.text(key, "")) {
	case "":
		return def
	case "yes", "true", "on", "1":
		return true
	case "no", "false", "off", "0":
		return false
	}
	f.bad(key, "yes or no")
	return def
}

// word is one of the words; the first is the default.
func (f fields) word(key string, words ...string) string {
	w := strings.ToLower(f.text(key, words[0]))
	if !slices.Contains(words, w) {
		slices.Sort(words)
		words = slices.Compact(words)
		f.bad(key, strings.Join(words[:len(words)-1], ", ")+" or "+words[len(words)-1])
	}
	return w
}

func (f fields) prefix(key, def string) netip.Prefix {
	p, err := netip.ParsePrefix(f.text(key, def))
	if err != nil || !p.Addr().Is4() {
		f.bad(key, "an IPv4 address with its prefix length, such as "+def)
	}
	return p
}

func (f fields) addr(key, text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil || !a.Is4() {
		f.bad(key, "an IPv4 address")
	}
	return a
}

// addrs are addresses with commas or blanks between them.
func (f fields) addrs(key string) (all []netip.Addr) {
	for text := range strings.FieldsSeq(strings.ReplaceAll(f.text(key, ""), ",", " ")) {
		all = append(all, f.addr(key, text))
	}
	return all
}

func (f fields) duration(key string, def time.Duration) time.Duration {
	d, err := time.ParseDuration(f.text(key, def.String()))
	if err != nil || d < time.Minute {
		f.bad(key, "a time of at least 1m, such as 1h")
	}
	return d
}
