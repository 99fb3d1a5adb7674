package lint

import (
	"os"
	"path/filepath"
	"testing"

	"edeploy/integration/needs"
)

// TestLibrary: Python's own library has no undefined names but where it makes
// them by other means.
func TestLibrary(t *testing.T) {
	needs.Program(t, "python3")
	files, _ := filepath.Glob("/usr/lib/python3.*/*.py")
	bad := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		l := &linter{}
		l.pythonNames(filepath.Base(file), string(text), false, map[string]bool{})
		if (Report{Findings: l.findings}).Count(Error) > 0 {
			t.Log(l.findings)
			bad++
		}
	}
	if len(files) < 100 || bad*20 > len(files) {
		t.Errorf("%d of %d files have undefined names", bad, len(files))
	}
}
