package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const module = "edeploy"

// rooms are the top-level directories, and the front doors of other rooms that
// each may open.
var rooms = map[string][]string{
	"agent":       nil,
	"appliance":   {"pxe", "server", "images"},
	"images":      nil,
	"initrd":      nil,
	"integration": {"agent", "appliance", "images", "initrd", "pxe", "server"},
	"pxe":         nil,
	"server":      nil,
}

// leaves may be imported from every room, with the packages below them. README.md
// says what each is for.
var leaves = []string{"server/wire", "server/api", "server/share", "images/manifest", "agent/dialect"}

// forTests may be imported from the tests of every room, and from packages that are
// for tests alone: their names end as that of httptest.
const forTests = module + "/integration/needs"

// mayImport says whether the package in the directory dir of the repository may
// import a package, and if not, why.
func mayImport(dir, imported string) error {
	room, _, _ := strings.Cut(dir, "/")
	doors, ok := rooms[room]
	if !ok {
		return fmt.Errorf("%s is not a room", room)
	}
	target, ours := strings.CutPrefix(imported, module+"/")
	// A package's external tests import the package itself.
	if (dir == "server/wire" || dir == "server/share") && target != dir && (ours || strings.Contains(strings.Split(imported, "/")[0], ".")) {
		return fmt.Errorf("%s imports the standard library only", dir)
	}
	if dir == "server/api" && ours && target != dir && target != "server/wire" {
		return errors.New("server/api imports nothing of ours but server/wire")
	}
	targetRoom, _, _ := strings.Cut(target, "/")
	switch {
	case !ours, targetRoom == room, slices.ContainsFunc(leaves, func(leaf string) bool { return strings.HasPrefix(target+"/", leaf+"/") }), slices.Contains(doors, target):
		return nil
	case targetRoom == "integration":
		return errors.New("nothing imports integration")
	case slices.Contains(doors, targetRoom):
		return fmt.Errorf("only the front door %s/%s is open", module, targetRoom)
	}
	return fmt.Errorf("%s and %s meet in %s only", room, targetRoom, strings.Join(leaves, " and "))
}

func TestMayImport(t *testing.T) {
	tests := []struct {
		dir, imported string
		want          bool
	}{
		{"agent/internal/install", "fmt", true},
		{"agent/internal/install", "go.starlark.net/starlark", true},
		{"agent/cmd/agent", "edeploy/agent/internal/install", true},
		{"agent/internal/client", "edeploy/server/wire", true},
		{"agent/internal/source", "edeploy/images/manifest", true},
		{"agent/internal/install", "edeploy/images/manifest/archive", true},
		{"agent/internal/install", "edeploy/images/manifests", false},
		{"agent/internal/install", "edeploy/server", false},
		{"images", "edeploy/server/wire", true},
		{"images/manifest", "edeploy/server", false},
		{"server", "edeploy/agent/internal/detect", false},
		{"server/internal/lint", "edeploy/agent/dialect", true},
		{"pxe", "edeploy/images", false},
		{"appliance", "edeploy/images", true},
		{"appliance", "edeploy/images/internal/rsyncd", false},
		{"appliance", "edeploy/agent", false},
		{"appliance/cmd/edeployd", "edeploy/pxe", true},
		{"integration/install", "edeploy/integration/lab", true},
		{"integration/install", "edeploy/agent", true},
		{"integration/install", "edeploy/server/internal/match", false},
		{"appliance", "edeploy/integration/lab", false},
		{"server/wire", "encoding/json", true},
		{"server/wire", "golang.org/x/sys/unix", false},
		{"server/wire", "edeploy/server/wire", true},
		{"server/wire", "edeploy/server/internal/match", false},
		{"server/wire", "edeploy/images/manifest", false},
		{"images/internal/catalog", "edeploy/server/api", true},
		{"server/api", "edeploy/server/wire", true},
		{"server/api", "edeploy/server/internal/match", false},
		{"server/api", "edeploy/images/manifest", false},
		{"pxe/internal/tftp", "edeploy/server/share", true},
		{"server/share", "edeploy/server/share", true},
		{"server/share", "edeploy/server/wire", false},
		{"server/share", "golang.org/x/sync/semaphore", false},
		{"common", "fmt", false},
	}
	for _, test := range tests {
		if err := mayImport(test.dir, test.imported); (err == nil) != test.want {
			t.Errorf("%s imports %s: %v, want allowed = %v", test.dir, test.imported, err, test.want)
		}
	}
}

// skipped are directories that hold no source: results of builds, and what
// the go command skips too.
func skipped(name string) bool {
	return name == "out" || strings.HasPrefix(name, ".") && name != "." && name != ".ci"
}

// walk calls visit for every file of the repository, with its path from the
// root, slashes between.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped(d.Name()):
			return fs.SkipDir
		case d.Type().IsRegular():
			visit(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goFiles parses every Go file that the go command builds, up to its imports.
func goFiles(t *testing.T, visit func(name string, file *ast.File)) {
	t.Helper()
	found := 0
	walk(t, func(name string) {
		if path.Ext(name) != ".go" || slices.Contains(strings.Split(name, "/"), "testdata") {
			return
		}
		found++
		mode := parser.ImportsOnly | parser.ParseComments
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, mode)
		if err != nil {
			t.Error(err)
			return
		}
		visit(name, file)
	})
	if found == 0 {
		t.Fatal("found no Go files")
	}
}

// isProgramTest says whether a file tests a program: it may meet the real peer
// that the program talks to by its front door, as the stories do.
func isProgramTest(name string) bool {
	return strings.HasSuffix(name, "_test.go") && slices.Contains(strings.Split(name, "/"), "cmd")
}

func TestImports(t *testing.T) {
	goFiles(t, func(name string, file *ast.File) {
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err == nil {
				err = mayImport(path.Dir(name), imported)
			}
			if err != nil && (isProgramTest(name) || imported == forTests && (strings.HasSuffix(name, "_test.go") || strings.HasSuffix(path.Dir(name), "test"))) {
				err = mayImport("integration", imported)
			}
			if err != nil {
				t.Errorf("%s imports %s: %v", name, spec.Path.Value, err)
			}
		}
	})
}

func TestPackageComments(t *testing.T) {
	documented := map[string]bool{} // by directory
	goFiles(t, func(name string, file *ast.File) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		dir := path.Dir(name)
		documented[dir] = documented[dir] || file.Doc != nil
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("the package in %s has no package comment", dir)
		}
	}
}

func TestRoomsHaveManualPages(t *testing.T) {
	for room := range rooms {
		text, err := os.ReadFile(filepath.Join("..", room, "README.md"))
		if err != nil {
			t.Error(err)
		} else if !bytes.HasPrefix(text, []byte("# ")) {
			t.Errorf("%s/README.md does not start with a title", room)
		}
	}
}

// skip is a call that ends a test early; what it says.
var skip = regexp.MustCompile(`\b[btf]\.Skip(?:f|Now)?\((.*)`)

// A test is left out because nobody asked for it, or because needs says what it
// lacks: then it fails where CI is set.
func TestSkips(t *testing.T) {
	goFiles(t, func(name string, _ *ast.File) {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range skip.FindAllSubmatch(text, -1) {
			asked := bytes.Contains(call[1], []byte("EDEPLOY_")) || bytes.Contains(call[1], []byte("only as the"))
			if !asked && "edeploy/"+path.Dir(name) != forTests {
				t.Errorf("%s: %s: say it with %s, or name the variable that runs the test", name, call[0], forTests)
			}
		}
	})
}

// forbidden are words that tie the repository to the place where somebody
// worked on it.
func forbidden(t *testing.T) []string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"../" + "shared"}
	if strings.Count(root, "/") > 1 { // a checkout in /src says nothing
		words = append(words, root+"/")
	}
	return words
}

// maxSourceBytes is more than any text that people write.
const maxSourceBytes = 1 << 20

func TestForbiddenWords(t *testing.T) {
	words := forbidden(t)
	walk(t, func(name string) {
		file := filepath.Join("..", name)
		info, err := os.Stat(file)
		if err != nil || info.Size() > maxSourceBytes {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil || !utf8.Valid(text) {
			return
		}
		for _, word := range words {
			if before, _, ok := bytes.Cut(text, []byte(word)); ok {
				t.Errorf("%s:%d: holds %q", name, bytes.Count(before, []byte("\n"))+1, word)
			}
		}
	})
}
