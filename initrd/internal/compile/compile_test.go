package compile_test

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// TestModuleDir asks for a module that nothing has fetched yet: the cache is
// empty, and what was ever fetched on this machine is its proxy.
func TestModuleDir(t *testing.T) {
	const module = "github.com/gokrazy/kernel.amd64"
	if _, err := compile.ModuleDir(t.Context(), "../../..", module); err != nil {
		t.Fatal(err) // and now the proxy has it
	}
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOPROXY", "file://"+strings.TrimSpace(string(cache))+"/cache/download")
	t.Setenv("GOFLAGS", "-modcacherw") // for the removal of the directory
	t.Setenv("GOMODCACHE", t.TempDir())
	dir, err := compile.ModuleDir(t.Context(), "../../..", module)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "vmlinuz")); err != nil {
		t.Error(err)
	}

	t.Setenv("GOMODCACHE", t.TempDir())
	t.Setenv("GOPROXY", "off")
	if dir, err := compile.ModuleDir(t.Context(), "../../..", module); err == nil || !strings.Contains(err.Error(), "fetch module "+module) {
		t.Errorf("without a network: %q, %v; want an error that names the module", dir, err)
	}
	if dir, err := compile.ModuleDir(t.Context(), "../../..", "example.com/unknown"); err == nil {
		t.Errorf("a module that is not required: %q, no error", dir)
	}
}
