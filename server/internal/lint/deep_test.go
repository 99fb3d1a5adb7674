package lint_test

import (
	"strings"
	"testing"

	"edeploy/server/internal/lint"
)

// TestDeep: a script of brackets or signs is refused before the parser, which
// would use up the stack of the whole process, sees it.
func TestDeep(t *testing.T) {
	for _, unit := range []string{"(", "[", "{", "-", "not ", "lambda: ", "x if ", "$(", "{ ", "x[", "f(", "a.b(", "f'{'(", "a+", "a and ", "()", "[0]"} {
		text := strings.Repeat(unit, 30_000)
		found := lint.Script("vm.configure", text)
		if len(found) == 0 || !strings.Contains(found[len(found)-1].Text, "nested too deeply") {
			t.Errorf("%q: %v", unit, found)
		}
		lint.Script("vm.configure", "#!/usr/bin/python3\n"+text)
	}
}
