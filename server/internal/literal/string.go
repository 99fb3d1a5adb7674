package literal

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// stringPrefix is the length of a prefix such as u, b or Rb in front of a
// quote at the position, 0 when there is none.
func (p *parser) stringPrefix() int {
	for n := 0; n <= 2 && p.pos+n < len(p.text); n++ {
		switch p.text[p.pos+n] | 0x20 {
		case 'u', 'b', 'r', 'f':
			continue
		}
		if c := p.text[p.pos+n]; c == '\'' || c == '"' {
			return n
		}
		return 0
	}
	return 0
}

// strings reads one string or several adjacent ones, which are one value.
func (p *parser) strings() (Value, error) {
	var whole strings.Builder
	for {
		if err := p.oneString(&whole); err != nil {
			return nil, err
		}
		end := p.pos
		p.blanks()
		if p.pos == len(p.text) || p.text[p.pos] != '\'' && p.text[p.pos] != '"' && p.stringPrefix() == 0 {
			p.pos = end
			return whole.String(), nil
		}
	}
}

func (p *parser) oneString(out *strings.Builder) error {
	start := p.pos
	n := p.stringPrefix()
	prefix := strings.ToLower(p.text[p.pos : p.pos+n])
	switch prefix {
	case "", "u", "b", "r", "br", "rb", "ur":
	default:
		return p.errorAt(start, "string prefix %q is not allowed", prefix)
	}
	p.pos += n
	quote := p.text[p.pos : p.pos+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(p.text[p.pos:], triple) {
		quote = triple
	}
	p.pos += len(quote)
	raw := strings.Contains(prefix, "r")
	bytes := strings.Contains(prefix, "b")
	return p.stringBody(out, start, quote, raw, bytes)
}

// stringBody reads up to the closing quote. A byte string (Python 2 wrote
// text that way) becomes the text it encodes: UTF-8, else Latin-1.
func (p *parser) stringBody(out *strings.Builder, start int, quote string, raw, bytes bool) error {
	var body strings.Builder
	for {
		rest := p.text[p.pos:]
		switch {
		case strings.HasPrefix(rest, quote):
			p.pos += len(quote)
			s := body.String()
			if bytes && !utf8.ValidString(s) {
				s = latin1(s)
			}
			out.WriteString(s)
			return nil
		case rest == "" || rest[0] == '\n' && len(quote) == 1:
			return p.errorAt(start, "string is never closed: %s is missing", quote)
		case rest[0] == '\\' && raw:
			p.rawEscape(&body)
		case rest[0] == '\\':
			if err := p.escape(&body, bytes); err != nil {
				return err
			}
		case strings.HasPrefix(rest, "\r\n"):
			p.pos++ // a line break is \n for Python, whatever the file has
		default:
			r, n := utf8.DecodeRuneInString(rest)
			if r == utf8.RuneError && n == 1 {
				return p.errorAt(p.pos, "byte 0x%02x is no UTF-8 text", rest[0])
			}
			body.WriteString(rest[:n])
			p.pos += n
		}
	}
}

// rawEscape copies a backslash and what follows it: in a raw string it only
// protects a quote.
func (p *parser) rawEscape(out *strings.Builder) {
	out.WriteByte('\\')
	p.pos++
	if p.pos < len(p.text) && strings.IndexByte(`'"\`, p.text[p.pos]) >= 0 {
		out.WriteByte(p.text[p.pos])
		p.pos++
	}
}

// simpleEscapes maps the character behind a backslash to what it means.
var simpleEscapes = map[byte]string{
	'\\': "\\", '\'': "'", '"': `"`, 'a': "\a", 'b': "\b", 'f': "\f",
	'n': "\n", 'r': "\r", 't': "\t", 'v': "\v", '\n': "",
}

func (p *parser) escape(out *strings.Builder, bytes bool) error {
	start := p.pos
	p.pos++
	if strings.HasPrefix(p.text[p.pos:], "\r\n") {
		p.pos++
	}
	if p.pos == len(p.text) {
		return nil // the missing quote is reported by the caller
	}
	c := p.text[p.pos]
	if s, ok := simpleEscapes[c]; ok {
		p.pos++
		out.WriteString(s)
		return nil
	}
	hexDigits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	switch {
	case c >= '0' && c <= '7':
		return p.code(out, start, p.octalDigits(), 8, bytes)
	case hexDigits == 0 || bytes && c != 'x':
		if c == 'N' && !bytes {
			return p.errorAt(start, "\\N{...} is not supported: write the character itself")
		}
		out.WriteByte('\\')
		return nil
	}
	p.pos++
	if len(p.text)-p.pos < hexDigits {
		return p.errorAt(start, "escape \\%c needs %d hexadecimal digits", c, hexDigits)
	}
	return p.code(out, start, p.text[p.pos:p.pos+hexDigits], 16, bytes)
}

func (p *parser) octalDigits() string {
	most := p.text[p.pos:min(p.pos+3, len(p.text))]
	return most[:len(most)-len(strings.TrimLeft(most, "01234567"))]
}

// code writes the character whose number the digits give and steps over them.
func (p *parser) code(out *strings.Builder, start int, digits string, base int, bytes bool) error {
	n, err := strconv.ParseUint(digits, base, 32)
	switch {
	case err != nil:
		return p.errorAt(start, "escape %s needs %d hexadecimal digits", shorten(p.text[start:p.pos]), len(digits))
	case n > utf8.MaxRune:
		return p.errorAt(start, "escape names no character")
	}
	p.pos += len(digits)
	if bytes {
		out.WriteByte(byte(n))
		return nil
	}
	if !utf8.ValidRune(rune(n)) {
		return p.errorAt(start, "escape names half a character (a surrogate)")
	}
	out.WriteRune(rune(n))
	return nil
}

func latin1(s string) string {
	runes := make([]rune, 0, len(s))
	for _, b := range []byte(s) {
		runes = append(runes, rune(b))
	}
	return string(runes)
}
