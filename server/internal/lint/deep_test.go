package lint_test

import (
	"strings"
	"testing"
	"time"

	"edeploy/server/internal/lint"
)

// TestDeep: a script of brackets ends no server.
func TestDeep(t *testing.T) {
	for _, unit := range []string{"(", "[", "{", "-", "not ", "lambda: ", "x if ", "$(", "{ ", "if ", "`", "$((", "${", "while ", "x[", "f(", "a.b(", "f'{", "! ", "x=$(", "a+", "a and ", "a.b", "()", "[0]", "try: ", "if 1:\n"} {
		for _, head := range []string{"", "#!/usr/bin/python3\n"} {
			start := time.Now()
			lint.Script("vm.configure", head+strings.Repeat(unit, (1<<20)/len(unit)))
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("%q %q: %v", head, unit, d)
			}
		}
	}
}
