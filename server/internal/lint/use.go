package lint

import (
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"edeploy/agent/dialect"
)

type usage struct {
	uses     []place         // keys of var
	given    []string        // keys that the script itself sets
	optional map[string]bool // keys that it looks for before it uses them
	formats  []place         // conversions that the dialect does not know
	methods  []place         // methods that it does not know
}

type place struct {
	key          string
	of           string // for a method: the name it is called on, or ""
	line, column int
}

var (
	indexForm  = regexp.MustCompile(`\bvar\[\s*['"]([^'"\n]*)['"]\s*\]`)
	formatKey  = regexp.MustCompile(`%(%|\(([^)]*)\))`)
	conversion = regexp.MustCompile(`%(%|(\([^)]*\))?([-+ #0]*[0-9*]*(\.[0-9*]+)?)([A-Za-z]?))`)
)

// textUses finds var['x'] in a script of any language, by its look.
func textUses(text string) usage {
	u := usage{optional: map[string]bool{}}
	for i, line := range strings.Split(text, "\n") {
		code, _, _ := strings.Cut(line, "#")
		for _, m := range indexForm.FindAllStringSubmatchIndex(code, -1) {
			u.uses = append(u.uses, place{key: code[m[2]:m[3]], line: i + 1, column: m[0] + 1})
		}
	}
	return u
}

// walker collects the usage of a parsed script.
type walker struct {
	usage
	s     *script
	texts map[string]*syntax.Literal // names that hold one text all the time; nil: several
	lhs   map[syntax.Node]bool       // var['x'] that is assigned to
}

func treeUses(tree *syntax.File, s *script) usage {
	w := &walker{usage: usage{optional: map[string]bool{}}, s: s, texts: map[string]*syntax.Literal{}, lhs: map[syntax.Node]bool{}}
	syntax.Walk(tree, w.names)
	syntax.Walk(tree, w.visit)
	return w.usage
}

// names notes the texts that have a name, and the keys that are set.
func (w *walker) names(n syntax.Node) bool {
	a, ok := n.(*syntax.AssignStmt)
	if !ok {
		return true
	}
	switch left := a.LHS.(type) {
	case *syntax.Ident:
		text, isText := a.RHS.(*syntax.Literal)
		if _, twice := w.texts[left.Name]; twice || !isText || a.Op != syntax.EQ {
			text = nil
		}
		w.texts[left.Name] = text
	case *syntax.IndexExpr:
		if key, ok := varKey(left); ok && a.Op == syntax.EQ {
			w.given = append(w.given, key)
			w.lhs[left] = true
		}
	}
	return true
}

func (w *walker) visit(n syntax.Node) bool {
	switch n := n.(type) {
	case *syntax.IndexExpr:
		if key, ok := varKey(n); ok && !w.lhs[n] {
			w.use(key, n.X)
		}
	case *syntax.BinaryExpr:
		w.binary(n)
	case *syntax.CallExpr:
		w.call(n)
	}
	return true
}

// varKey is x of var['x'].
func varKey(n *syntax.IndexExpr) (string, bool) {
	if !isVar(n.X) {
		return "", false
	}
	return textOf(n.Y)
}

func isVar(e syntax.Expr) bool {
	name, ok := e.(*syntax.Ident)
	return ok && name.Name == "var"
}

func textOf(e syntax.Expr) (string, bool) {
	if lit, ok := e.(*syntax.Literal); ok && lit.Token == syntax.STRING {
		text, ok := lit.Value.(string)
		return text, ok
	}
	return "", false
}

func (w *walker) use(key string, at syntax.Node) {
	pos, _ := at.Span()
	w.uses = append(w.uses, place{key: key, line: int(pos.Line), column: w.s.column(pos)})
}

func (w *walker) binary(n *syntax.BinaryExpr) {
	switch n.Op {
	case syntax.IN, syntax.NOT_IN:
		if key, ok := textOf(n.X); ok && isVar(n.Y) {
			w.optional[key] = true
		}
	case syntax.PERCENT:
		for _, lit := range w.parts(n.X) {
			w.format(lit, isVar(n.Y))
		}
	}
}

// parts are the texts that an expression is made of.
func (w *walker) parts(e syntax.Expr) []*syntax.Literal {
	switch e := e.(type) {
	case *syntax.Literal:
		if e.Token == syntax.STRING {
			return []*syntax.Literal{e}
		}
	case *syntax.ParenExpr:
		return w.parts(e.X)
	case *syntax.BinaryExpr:
		if e.Op == syntax.PLUS {
			return append(w.parts(e.X), w.parts(e.Y)...)
		}
	case *syntax.Ident:
		if lit := w.texts[e.Name]; lit != nil && lit.Token == syntax.STRING {
			return []*syntax.Literal{lit}
		}
	}
	return nil
}

// format reads a text that stands to the left of %.
func (w *walker) format(lit *syntax.Literal, ofVar bool) {
	for _, m := range conversion.FindAllStringSubmatchIndex(lit.Raw, -1) {
		whole := lit.Raw[m[0]:m[1]]
		if whole == "%%" {
			continue
		}
		if m[6] < m[7] || m[10] == m[11] || !strings.Contains("srdioxXeEfFgGc", lit.Raw[m[10]:m[11]]) {
			w.formats = append(w.formats, w.inside(lit, m[0], whole))
		}
	}
	if !ofVar {
		return
	}
	for _, m := range formatKey.FindAllStringSubmatchIndex(lit.Raw, -1) {
		if m[4] >= 0 {
			w.uses = append(w.uses, w.inside(lit, m[0], lit.Raw[m[4]:m[5]]))
		}
	}
}

// inside is a place in a text, which may have several lines.
func (w *walker) inside(lit *syntax.Literal, offset int, key string) place {
	before := lit.Raw[:offset]
	pos := lit.TokenPos
	if n := strings.Count(before, "\n"); n > 0 {
		return place{key: key, line: int(pos.Line) + n, column: len(before) - strings.LastIndexByte(before, '\n') + w.s.margin}
	}
	return place{key: key, line: int(pos.Line), column: w.s.column(pos) + offset}
}

func (w *walker) call(n *syntax.CallExpr) {
	dot, ok := n.Fn.(*syntax.DotExpr)
	if !ok {
		return
	}
	if isVar(dot.X) && (dot.Name.Name == "get" || dot.Name.Name == "has_key") && len(n.Args) > 0 {
		if key, ok := textOf(n.Args[0]); ok {
			w.optional[key] = true
		}
	}
	of := ""
	if name, ok := dot.X.(*syntax.Ident); ok {
		of = name.Name
	}
	if _, own := w.texts[of]; (own || dialect.Modules[of] == nil) && slices.Contains(knownMethods, dot.Name.Name) {
		return
	}
	w.methods = append(w.methods, place{key: dot.Name.Name, of: of, line: int(dot.Name.NamePos.Line), column: w.s.column(dot.Name.NamePos)})
}

// knownMethods are those of the dialect's values, of the agent's files, and of
// hpacucli.Cli().
var knownMethods = slices.Concat(
	starlark.String("").AttrNames(), starlark.Bytes("").AttrNames(), new(starlark.List).AttrNames(),
	new(starlark.Dict).AttrNames(), new(starlark.Set).AttrNames(),
	[]string{"close", "flush", "read", "readline", "readlines", "write", "writelines"}, dialect.Cli,
)
