package lint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"edeploy/server/internal/lint"

	"github.com/google/go-cmp/cmp"
)

// agentSources is where the agent runs scripts. A server package cannot import
// it, but what lint says must be true of it.
const agentSources = "../../../agent/internal/configure/"

// literals visits the composite literals of a Go file.
func literals(t *testing.T, file string, visit func(*ast.CompositeLit)) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), agentSources+file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		if lit, ok := n.(*ast.CompositeLit); ok {
			visit(lit)
		}
		return true
	})
}

// TestDialect: scripts are read with the options that the agent runs them with.
func TestDialect(t *testing.T) {
	want := map[string]bool{}
	literals(t, "dialect.go", func(lit *ast.CompositeLit) {
		if s, ok := lit.Type.(*ast.SelectorExpr); !ok || s.Sel.Name != "FileOptions" {
			return
		}
		for _, e := range lit.Elts {
			pair := e.(*ast.KeyValueExpr)
			want[pair.Key.(*ast.Ident).Name] = pair.Value.(*ast.Ident).Name == "true"
		}
	})
	if len(want) == 0 {
		t.Fatal("the agent's dialect has no options: where are they now?")
	}
	got := reflect.ValueOf(lint.Dialect())
	for i := range got.NumField() {
		name := got.Type().Field(i).Name
		if got.Field(i).Kind() == reflect.Bool && got.Field(i).Bool() != want[name] {
			t.Errorf("%s is %v, the agent's is %v", name, got.Field(i), want[name])
		}
	}
}

// TestHelperNames: scripts find the names that the agent gives them.
func TestHelperNames(t *testing.T) {
	var want []string
	literals(t, "helper.go", func(lit *ast.CompositeLit) {
		for _, e := range lit.Elts {
			pair, ok := e.(*ast.KeyValueExpr)
			if !ok {
				continue
			}
			key, ok := pair.Key.(*ast.BasicLit)
			_, method := pair.Value.(*ast.SelectorExpr)
			name, variable := pair.Value.(*ast.Ident)
			if ok && key.Kind == token.STRING && (method || variable && name.Name == "vars") {
				text, _ := strconv.Unquote(key.Value)
				want = append(want, text)
			}
		}
	})
	got := slices.Sorted(slices.Values(lint.HelperNames()))
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-agent +lint):\n%s", diff)
	}
}
