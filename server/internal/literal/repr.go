package literal

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Repr writes a value on one line as Python's repr does, dictionaries with
// sorted keys.
func Repr(v Value) string {
	w := reprWriter{most: -1}
	w.value(v)
	return w.String()
}

// reprWriter writes the one-line form of a value; it stops soon after most
// characters (never when most is negative).
type reprWriter struct {
	strings.Builder
	most  int
	ascii bool // \u escapes for everything outside ASCII
}

func (w *reprWriter) full() bool { return w.most >= 0 && w.Len() > utf8.UTFMax*(w.most+1) }

func (w *reprWriter) value(v Value) {
	if w.full() {
		return
	}
	switch v := v.(type) {
	case List:
		w.WriteByte('[')
		w.items(v)
		w.WriteByte(']')
	case Tuple:
		w.WriteByte('(')
		w.items(v)
		if len(v) == 1 {
			w.WriteByte(',')
		}
		w.WriteByte(')')
	case *Dict:
		w.dict(v, ", ")
	case string:
		quote(&w.Builder, v, w.ascii)
	default:
		w.WriteString(Text(v))
	}
}

func (w *reprWriter) items(items []Value) {
	for i, item := range items {
		if w.full() {
			return
		}
		if i > 0 {
			w.WriteString(", ")
		}
		w.value(item)
	}
}

func (w *reprWriter) dict(d *Dict, separator string) {
	w.WriteByte('{')
	for i, k := range d.sortedKeys() {
		if i > 0 {
			w.WriteString(separator)
		}
		item, _ := d.Get(k)
		w.value(k)
		w.WriteString(": ")
		w.value(item)
	}
	w.WriteByte('}')
}

// Text is a plain value as Python's str writes it: text without quotes.
func Text(v Value) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	case *big.Int:
		return v.String()
	case float64:
		return floatText(v)
	case List, Tuple, *Dict:
		return Repr(v)
	}
	panic(fmt.Sprintf("literal: %T is no Python value", v))
}

// floatText is the shortest text that reads back as the same number, with
// Python's choice between the two notations.
func floatText(x float64) string {
	s := strconv.FormatFloat(x, 'e', -1, 64)
	_, exponent, ok := strings.Cut(s, "e")
	n, err := strconv.Atoi(exponent)
	if !ok || err != nil || n < -4 || n >= 16 {
		return s // 1e+16, and inf and nan
	}
	s = strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quote writes text as a Python string literal: in single quotes unless that
// needs escapes and double quotes do not.
func quote(b *strings.Builder, s string, ascii bool) {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(b, `\x%02x`, r)
		case r < utf8.RuneSelf:
			b.WriteByte(byte(r))
		case !ascii && unicode.IsPrint(r):
			b.WriteRune(r)
		case !ascii && r <= 0xff:
			fmt.Fprintf(b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
	}
	b.WriteByte(q)
}

// sortedKeys are the keys as pprint orders them: by value, keys of different
// types by the name of the type.
func (d *Dict) sortedKeys() []Value {
	keys := slices.Clone(d.keys)
	slices.SortStableFunc(keys, compareKeys)
	return keys
}

func compareKeys(a, b Value) int {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y)
		}
	case Tuple:
		if y, ok := b.(Tuple); ok {
			return slices.CompareFunc(x, y, compareKeys)
		}
	}
	x, y := number(a), number(b)
	if x != nil && y != nil {
		return x.Cmp(y)
	}
	return cmp.Compare(typeName(a), typeName(b))
}

// number is the numeric value of a number or bool, nil for anything else.
func number(v Value) *big.Float {
	switch v := v.(type) {
	case bool:
		if v {
			return big.NewFloat(1)
		}
		return big.NewFloat(0)
	case int64:
		return new(big.Float).SetInt64(v)
	case *big.Int:
		return new(big.Float).SetInt(v)
	case float64:
		return big.NewFloat(v)
	}
	return nil
}

func typeName(v Value) string {
	switch v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case Tuple:
		return "tuple"
	}
	return "unknown"
}
