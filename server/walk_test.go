package server_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// hop is a line of the walk in README.md: its number, where a function is, its
// name, and what it does.
var hop = regexp.MustCompile("^([0-9]+)\\. `server/?([a-z/-]*)` `([A-Za-z.]+)`: (.*)")

// maxHops is how long the walk of an upload may be.
const maxHops = 20

// TestWalk holds the walk of an upload in README.md against the code: every
// function is there and is used by one of those before it (or has a goroutine
// of its own, and says so), and the walk is short.
func TestWalk(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	hops, used := 0, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		m := hop.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		hops++
		body := function(t, m[2], m[3])
		switch name := m[3][strings.LastIndexByte(m[3], '.')+1:]; {
		case body == nil:
			t.Fatalf("there is no such function: %s", line)
		case m[1] != strconv.Itoa(hops) || hops > maxHops:
			t.Errorf("hop %d, at most %d: %s", hops, maxHops, line)
		case hops > 1 && !used[name] && !strings.HasPrefix(m[4], "in its own goroutine"):
			t.Errorf("no function before it uses %s: %s", name, line)
		}
		ast.Inspect(body, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				used[id.Name] = true
			}
			return true
		})
	}
	if hops == 0 {
		t.Error("there is no walk in README.md")
	}
}

// function is the body of a function "F" or of a method "T.M" in a directory,
// nil when it is not there.
func function(t *testing.T, dir, name string) *ast.BlockStmt {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && receiver(f)+f.Name.Name == name && !strings.HasSuffix(file, "_test.go") {
				return f.Body
			}
		}
	}
	return nil
}

// receiver is "T." for a method of T, *T or *T[S].
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	return of.(*ast.Ident).Name + "."
}
