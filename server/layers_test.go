package server_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLayers holds the table of packages in README.md against the code: it has
// all of them, and each imports only those that come after it.
func TestLayers(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| in `internal` | what it is |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var order []string
	for row := range strings.Lines(table) {
		for _, name := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			order = append(order, name[1])
		}
	}
	files, err := filepath.Glob("internal/*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		at := slices.Index(order, name)
		if seen[name] = true; at < 0 {
			t.Errorf("internal/%s is not in the table", name)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			imported, ours := strings.CutPrefix(path, "edeploy/server/internal/")
			if ours && !strings.HasSuffix(file, "_test.go") && slices.Index(order, imported) <= at {
				t.Errorf("%s imports %s, which comes before it in the table", file, imported)
			}
		}
	}
	for _, name := range order {
		if !seen[name] {
			t.Errorf("there is no internal/%s", name)
		}
	}
}
