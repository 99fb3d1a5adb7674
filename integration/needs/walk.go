package needs

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

// Walks holds the walks through a room's code in its README.md against the code,
// from the directory of the room. A walk is a numbered list, a line such as
//
//  3. `server/internal/queue` `Queue.Commit`: what it does
//
// for each function. Every function is there and is used by one of those before it
// (or has a goroutine of its own, and says so), and no walk is longer than most.
func Walks(t *testing.T, room string, walks, most int) {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	hop := regexp.MustCompile("^([0-9]+)\\. `" + room + "/?([a-z/-]*)` `([A-Za-z.]+)`: (.*)")
	found, hops := 0, 0
	var used map[string]bool // names in the functions of this walk
	for line := range strings.Lines(string(text)) {
		m := hop.FindStringSubmatch(line)
		if m == nil {
			hops = 0
			continue
		}
		if hops++; hops == 1 {
			found, used = found+1, map[string]bool{}
		}
		body := function(t, m[2], m[3])
		switch name := m[3][strings.LastIndexByte(m[3], '.')+1:]; {
		case body == nil:
			t.Fatalf("there is no such function: %s", line)
		case m[1] != strconv.Itoa(hops) || hops > most:
			t.Errorf("hop %d, at most %d: %s", hops, most, line)
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
	if found != walks {
		t.Errorf("%d walks in README.md, want %d", found, walks)
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
	switch generic := of.(type) {
	case *ast.IndexExpr:
		of = generic.X
	case *ast.IndexListExpr:
		of = generic.X
	}
	return of.(*ast.Ident).Name + "."
}
