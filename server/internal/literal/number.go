package literal

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

// maxDigits bounds one number, as Python 3 does for the text of an integer.
const maxDigits = 4300

// number reads an integer or a float with its signs.
func (p *parser) number() (Value, error) {
	start := p.pos
	negative := false
	for p.pos < len(p.text) && strings.IndexByte("+- \t", p.text[p.pos]) >= 0 {
		if p.text[p.pos] == '-' {
			negative = !negative
		}
		p.pos++
	}
	digits := p.digits()
	if digits == "" {
		return nil, p.errorAt(p.pos, "want a number, got %s", p.next())
	}
	if len(digits) > maxDigits {
		return nil, p.errorAt(start, "number has more than %d digits", maxDigits)
	}
	p.pos += len(digits)
	v, problem := parseNumber(digits, negative)
	if problem != "" {
		return nil, p.errorAt(start, "%s: %s", shorten(digits), problem)
	}
	return v, nil
}

// digits is the longest text at the position that may belong to one number.
func (p *parser) digits() string {
	end := p.pos
	for ; end < len(p.text); end++ {
		c := p.text[end]
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '.' || c == '_' {
			continue
		}
		exponent := end > p.pos && p.text[end-1]|0x20 == 'e' && !hexadecimal(p.text[p.pos:end])
		if (c == '+' || c == '-') && exponent {
			continue
		}
		break
	}
	return p.text[p.pos:end]
}

func hexadecimal(s string) bool { return len(s) > 1 && s[0] == '0' && s[1]|0x20 == 'x' }

// parseNumber reads the text of a number without sign; problem says what is
// wrong with it.
func parseNumber(s string, negative bool) (v Value, problem string) {
	integer := strings.TrimRight(s, "lL") // Python 2's long integers
	if len(s)-len(integer) > 1 {
		return nil, "not a number"
	}
	if !strings.ContainsAny(s, ".eE") || hexadecimal(s) {
		return parseInteger(integer, negative)
	}
	if strings.Trim(s, "0123456789.eE+-_") != "" || strings.ContainsRune(s, '_') {
		return nil, "not a number"
	}
	x, err := strconv.ParseFloat(s, 64)
	if errors.Is(err, strconv.ErrRange) {
		return nil, "number is out of range"
	}
	if err != nil {
		return nil, "not a number"
	}
	if negative {
		x = -x
	}
	return x, ""
}

func parseInteger(s string, negative bool) (Value, string) {
	base := 0
	if len(s) > 1 && s[0] == '0' && strings.Trim(s, "0123456789") == "" && strings.Trim(s, "0") != "" {
		return nil, "number starts with 0: write it without, or in quotes"
	}
	if strings.Trim(s, "0123456789") == "" {
		base = 10
	}
	n, ok := new(big.Int).SetString(s, base)
	if !ok {
		return nil, "not a number"
	}
	if negative {
		n.Neg(n)
	}
	if n.IsInt64() {
		return n.Int64(), ""
	}
	return n, ""
}
