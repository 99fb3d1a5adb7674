package lint

import (
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/syntax"

	"edeploy/agent/dialect"
)

// script is a configuration script on its way to the dialect: what the agent
// rewrites is rewritten (its octal numbers, an indentation of the whole), and
// what only Python has is taken out, so that the rest can be read.
type script struct {
	file     string
	original string
	text     string          // what is parsed; lines are those of the original
	margin   int             // columns that were removed from every line
	removed  []statement     // statements that were taken out
	imported map[string]bool // names in them
}

type statement struct {
	line, column int
	word         string // the first one
	start, end   int    // its place; up to the next statement or the end of the line
	body         string // its text; of a statement that was taken out
}

func newScript(file, original string) *script {
	s := &script{file: file, original: original, imported: map[string]bool{}}
	plain, margin := dialect.Dedent(original)
	s.margin = margin
	s.text = s.takeOut(octals(plain))
	return s
}

func (s *script) column(pos syntax.Position) int { return int(pos.Col) + s.margin }

// place is where a syntax error is. The parser sees the end of a line at the
// start of the next one.
func (s *script) place(e syntax.Error) (line, column int) {
	line, column = int(e.Pos.Line), s.column(e.Pos)
	if lines := strings.Split(s.text, "\n"); strings.HasPrefix(e.Msg, "got newline") && e.Pos.Col == 1 && line > 1 && line-2 < len(lines) {
		return line - 1, len(strings.TrimRight(lines[line-2], " \t\r")) + 1 + s.margin
	}
	return line, column
}

// wantForm is how the parser tells most mistakes.
var wantForm = regexp.MustCompile(`^got (.+), want (.+)$`)

// syntaxText says a syntax error as Python's users know it.
func syntaxText(msg string) string {
	switch {
	case strings.Contains(msg, "got string literal"):
		return "texts side by side: put + between them"
	case strings.Contains(msg, "comparison"):
		return "comparisons in a row: write a < x and x < b"
	case strings.Contains(msg, "got is"):
		return "is does not compare here: write =="
	case strings.Contains(msg, "got indent"):
		return "unexpected indent"
	case strings.Contains(msg, "want indent"):
		return "expected an indented block"
	}
	m := wantForm.FindStringSubmatch(msg)
	if m == nil {
		return msg
	}
	plain := strings.NewReplacer("primary expression", "a value", "newline", "the end of the line", "outdent", "the end of the block", "end of file", "the end of the file")
	return "want " + plain.Replace(m[2]) + ", got " + plain.Replace(m[1])
}

// onlyPython are the statements that the dialect has not, and what stands for
// them while the rest is read.
var onlyPython = map[string]string{
	"import": "pass", "from": "pass", "raise": "pass", "assert": "pass", "global": "pass", "nonlocal": "pass", "del": "pass",
	"yield": "pass", "exec": "pass", "print": "pass",
	"try": "if 1:", "except": "if 1:", "finally": "if 1:", "class": "if 1:", "with": "if 1:",
}

// Bounds of one statement: the parser, which calls itself for everything that
// stands inside of something else, must not use up the stack.
const (
	maxBrackets  = 200
	maxStatement = 20_000
)

// tooDeep is the line of the first statement beyond these bounds; 0: none is.
func tooDeep(text string) int {
	line, depth, length := 1, 0, 0
	for _, token := range dialect.Tokens(text) {
		line += strings.Count(token, "\n")
		switch token {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		case "\n":
			if depth <= 0 {
				depth, length = 0, 0
			}
		case " ", "\t", "\r":
			continue
		}
		if length++; depth > maxBrackets || length > maxStatement {
			return line
		}
	}
	return 0
}

// takeOut replaces the statements that only Python has.
func (s *script) takeOut(text string) string {
	var out strings.Builder
	at := 0
	for _, st := range statements(text) {
		instead, ok := onlyPython[st.word]
		body := text[st.start:st.end]
		if !ok || !isStatement(st.word, body) {
			continue
		}
		out.WriteString(text[at:st.start])
		out.WriteString(instead + " ")
		out.WriteString(strings.Repeat("\n", strings.Count(body, "\n")))
		at = st.end
		st.column, st.body = st.column+s.margin, body
		s.removed = append(s.removed, st)
		for _, name := range words(body) {
			s.imported[name] = true
		}
	}
	return out.String() + text[at:]
}

// isStatement tells a statement from a name that only looks like one: print(x)
// is a call, exec = 1 an assignment.
func isStatement(word, body string) bool {
	rest := strings.TrimLeft(body[len(word):], " \t")
	switch word {
	case "print", "exec":
		return rest != "" && !strings.ContainsRune("(=.,;", rune(rest[0])) || word == "print" && strings.TrimSpace(rest) == "" ||
			word == "print" && rest != "" && rest[0] == '(' && printsTuple(rest)
	}
	return true
}

// printsTuple: print (a), b or print (a) % b is a statement of Python 2.
func printsTuple(rest string) bool {
	depth := 0
	for i, token := range dialect.Tokens(rest) {
		switch token {
		case "(":
			depth++
		case ")":
			if depth--; depth == 0 {
				after := strings.TrimSpace(rest[i+1:])
				return strings.HasPrefix(after, "%") || strings.HasPrefix(after, ",")
			}
		}
	}
	return false
}

// python2 tells octal numbers as Python 2 writes them and, if asked for, the
// statements that only Python 2 reads.
func (l *linter) python2(file, text string, andStatements bool) {
	for _, st := range statements(text) {
		all := pieces(text, st)
		comma := slices.ContainsFunc(all, func(p piece) bool { return p.name == "," && p.depth == 0 })
		switch {
		case !andStatements || !isStatement(st.word, text[st.start:st.end]):
		case st.word == "print":
			l.find(file, st.line, st.column, Error, "%s", printText)
		case st.word == "exec":
			l.find(file, st.line, st.column, Error, "exec is a statement of Python 2 only: write exec(...)")
		case st.word == "except" && comma:
			l.find(file, st.line, st.column, Error, "except is written as Python 2: write except ERROR as NAME")
		case st.word == "raise" && comma:
			l.find(file, st.line, st.column, Error, "raise is written as Python 2: write raise ERROR(TEXT)")
		}
		for _, p := range all {
			if dialect.IsOctal(p.name) {
				l.find(file, p.line, p.column, Error, "%s is a number of Python 2 only: write 0o%s", p.name, p.name[1:])
			}
		}
	}
}

// statements finds where statements start, outside of brackets, texts and
// comments.
func statements(text string) []statement {
	var all []statement
	depth, line, lineStart, fresh := 0, 1, 0, true
	end := func(at int) {
		if n := len(all); n > 0 && all[n-1].end == 0 {
			all[n-1].end = at
		}
	}
	for i, token := range dialect.Tokens(text) {
		switch c := token[0]; {
		case token == "\\\n":
			line, lineStart = line+1, i+2
		case c == '\n':
			if line, lineStart = line+1, i+1; depth <= 0 {
				end(i)
				fresh, depth = true, 0
			}
		case c == ' ' || c == '\t':
		case c == '#':
			if depth <= 0 {
				end(i)
			}
		default:
			if fresh {
				end(i)
				all = append(all, statement{line: line, column: i - lineStart + 1, word: token, start: i})
			}
			fresh = depth == 0 && (c == ';' || c == ':')
			depth += strings.Count("([{", string(c)) - strings.Count(")]}", string(c))
			if newlines := strings.Count(token, "\n"); newlines > 0 {
				line, lineStart = line+newlines, i+strings.LastIndexByte(token, '\n')+1
			}
		}
	}
	end(len(text))
	return all
}

func words(text string) []string {
	var all []string
	for _, token := range dialect.Tokens(text) {
		if dialect.IsWord(token) {
			all = append(all, strings.Split(token, ".")...)
		}
	}
	return all
}

// octals makes Python 2's octal numbers, which the agent reads, numbers of the
// same length.
func octals(text string) string {
	out := []byte(text)
	for i, token := range dialect.Tokens(text) {
		if dialect.IsOctal(token) {
			out[i] = '1'
		}
	}
	return string(out)
}
