package compile_test

import (
	"bytes"
	"debug/elf"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/initrd/internal/compile"
)

func TestImports(t *testing.T) {
	got, err := compile.Imports("//go:build x\n\npackage p\n\nimport (\n\t_ \"a/b\" // why\n\t_ \"c\"\n)\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/b", "c"}, got); diff != "" {
		t.Errorf("imports (-want +got):\n%s", diff)
	}
	if _, err := compile.Imports("import"); err == nil {
		t.Error("not a Go file: no error")
	}
}

func TestProgramIsStatic(t *testing.T) {
	binary, err := compile.Program(t.Context(), "../../..", "edeploy/initrd/cmd/init")
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("init needs %v (%v), want nothing", libraries, err)
	}
	if file.Section(".debug_info") != nil || file.Section(".symtab") != nil {
		t.Error("init is not stripped")
	}
	if _, err := compile.Program(t.Context(), "../../..", "edeploy/no/such/program"); err == nil {
		t.Error("a package that does not exist: no error")
	}
}
