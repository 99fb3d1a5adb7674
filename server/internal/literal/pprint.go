package literal

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// width is the column that pprint keeps lines within where it can.
const width = 80

// Format writes a value exactly as Python 3's pprint.pprint does: width 80,
// sorted keys, long strings broken between words, and a line break at the end.
func Format(v Value) string {
	p := printer{}
	p.value(v, 0, 0, 1)
	return p.out.String() + "\n"
}

// FormatAt writes an element of a bigger text: its first character stands in
// the given column (from 0), and following characters come behind it.
func FormatAt(v Value, column, following int) string {
	p := printer{}
	p.value(v, column, following, 2)
	return p.out.String()
}

// Source writes a dictionary as program text that Python and Starlark read: a
// key a line in sorted order, ASCII only, every string in one piece.
func Source(d *Dict) string {
	w := reprWriter{most: -1, ascii: true}
	w.dict(d, ",\n ")
	return w.String()
}

// printer writes values over several lines. In its methods, indent is the
// column of the value, after is the number of characters that will follow it
// on its last line, level is 1 for the outermost value.
type printer struct{ out strings.Builder }

func (p *printer) value(v Value, indent, after, level int) {
	room := width - indent - after
	if s, ok := reprWithin(v, room); ok {
		p.out.WriteString(s)
		return
	}
	switch v := v.(type) {
	case List:
		p.items('[', v, "]", indent, after, level)
	case Tuple:
		closing := ")"
		if len(v) == 1 {
			closing = ",)"
		}
		p.items('(', v, closing, indent, after, level)
	case *Dict:
		p.dict(v, indent, after, level)
	case string:
		p.text(v, indent, after, level)
	default:
		p.out.WriteString(Text(v))
	}
}

// reprWithin is the one-line form if it has at most so many characters.
func reprWithin(v Value, most int) (string, bool) {
	w := reprWriter{most: max(most, 0)}
	w.value(v)
	if w.full() || utf8.RuneCountInString(w.String()) > most {
		return "", false
	}
	return w.String(), true
}

func (p *printer) items(opening byte, items []Value, closing string, indent, after, level int) {
	p.out.WriteByte(opening)
	for i, item := range items {
		if i > 0 {
			p.newLine(",", indent+1)
		}
		follows := 1
		if i == len(items)-1 {
			follows = after + len(closing)
		}
		p.value(item, indent+1, follows, level+1)
	}
	p.out.WriteString(closing)
}

func (p *printer) dict(d *Dict, indent, after, level int) {
	p.out.WriteByte('{')
	keys := d.sortedKeys()
	for i, k := range keys {
		if i > 0 {
			p.newLine(",", indent+1)
		}
		key := Repr(k)
		p.out.WriteString(key + ": ")
		follows := 1
		if i == len(keys)-1 {
			follows = after + 1
		}
		v, _ := d.Get(k)
		p.value(v, indent+1+utf8.RuneCountInString(key)+2, follows, level+1)
	}
	p.out.WriteByte('}')
}

func (p *printer) newLine(before string, indent int) {
	p.out.WriteString(before + "\n" + strings.Repeat(" ", indent))
}

func (p *printer) text(s string, indent, after, level int) {
	if s == "" {
		p.out.WriteString("''")
		return
	}
	if level == 1 {
		indent++
		after++
	}
	chunks := breakText(s, width-indent, after)
	if level == 1 && len(chunks) > 1 {
		p.out.WriteByte('(')
	}
	for i, chunk := range chunks {
		if i > 0 {
			p.newLine("", indent)
		}
		p.out.WriteString(chunk)
	}
	if level == 1 && len(chunks) > 1 {
		p.out.WriteByte(')')
	}
}

// breakText cuts a string into quoted pieces: at every line break, and between
// words where a line is longer than room. The last piece leaves space for what
// follows it.
func breakText(s string, room, after int) []string {
	var chunks []string
	lines := splitLines(s)
	for i, line := range lines {
		lastLine := i == len(lines)-1
		lineRoom := room
		if lastLine {
			lineRoom -= after
		}
		if whole := Repr(line); utf8.RuneCountInString(whole) <= lineRoom {
			chunks = append(chunks, whole)
			continue
		}
		current := ""
		words := splitWords(line)
		for j, word := range words {
			wordRoom := room
			if lastLine && j == len(words)-1 {
				wordRoom -= after
			}
			if !quotedFits(current+word, wordRoom) {
				if current != "" {
					chunks = append(chunks, Repr(current))
				}
				current = word
			} else {
				current += word
			}
		}
		chunks = append(chunks, Repr(current))
	}
	return chunks
}

func quotedFits(s string, room int) bool {
	if len(s) > utf8.UTFMax*max(room, 0) {
		return false
	}
	return utf8.RuneCountInString(Repr(s)) <= room
}

// splitLines cuts behind every line break that Python's str.splitlines knows.
func splitLines(s string) []string {
	var lines []string
	start := 0
	for i, r := range s {
		if i < start {
			continue // the \n of a \r\n
		}
		end := i + utf8.RuneLen(r)
		switch r {
		case '\r':
			if strings.HasPrefix(s[end:], "\n") {
				end++
			}
		case '\n', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		default:
			continue
		}
		lines = append(lines, s[start:end])
		start = end
	}
	if start < len(s) {
		lines = append(lines, s[start:])
	}
	return lines
}

// splitWords cuts a line into words, each with the blanks behind it; blanks at
// the start are a word of their own.
func splitWords(line string) []string {
	var words []string
	start, inBlanks := 0, false
	for i, r := range line {
		blank := unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f
		if !blank && inBlanks {
			words = append(words, line[start:i])
			start = i
		}
		inBlanks = blank
	}
	return append(words, line[start:])
}
